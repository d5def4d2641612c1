#!/bin/bash
# Put the checks where they stay: goss, its specs, the list of leftovers. `ovenproof-check` itself came with rootfs.
set -euo pipefail
export LC_ALL=C

STATE=/var/tmp/ovenproof
SPECS=/usr/share/ovenproof
GOSS=/usr/libexec/ovenproof/goss

fail() { printf 'ovenproof-error: %s: %s\n' "$1" "$2" >&2; exit 1; }

for part in goss checks hardening/hardening.json; do
    [[ -e $STATE/$part ]] || fail staging-missing "$STATE/$part was not uploaded"
done
command -v python3 >/dev/null || fail python-missing "ovenproof-check needs python3, and the base has none"

rm -rf "$SPECS"
install -d -m 0755 "$SPECS" "${GOSS%/*}"
install -m 0644 -t "$SPECS" "$STATE"/checks/* "$STATE/hardening/hardening.json"
# Moved, not copied: on the same file system that writes nothing, and goss is the largest file of the bake.
mv -f "$STATE/goss" "$GOSS"
chown root:root "$GOSS"
chmod 0755 "$GOSS"
"$GOSS" --help >/dev/null || fail goss-unusable "$GOSS does not run on $(uname -m)"

# How an instance tells its own identity from the builder's: by digest, so that nothing of the builder stays.
digest() { sha256sum | cut -d ' ' -f 1; }
{
    echo "MACHINE_ID=$(tr -d '\n' </etc/machine-id | digest)"
    echo "INSTANCE=$(basename "$(readlink -f /var/lib/cloud/instance)" | tr -d '\n' | digest)"
    echo "HOST_KEYS=$(cat /dev/null; for key in /etc/ssh/ssh_host_*_key.pub; do digest <"$key"; done | tr '\n' ' ')"
} >"$SPECS/builder"
chmod 0644 "$SPECS/builder"
