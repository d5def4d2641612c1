#!/bin/bash
# Restart the builder when it does not yet run the newest kernel it has: an image is baked on what it will boot.
# The restart is detached, so that it does not hang on this session. This script then waits for its own end: were it to
# return at once, Packer would start the next script on the boot that is going down.
set -euo pipefail
export LC_ALL=C

: "${OVENPROOF_KERNEL_LINE:?}"
ROOT=${OVENPROOF_ROOT:-} # a folder to look at instead of the machine's own disk
STATE=$ROOT/var/tmp/ovenproof

newest=$(printf '%s\n' "$ROOT/boot/vmlinuz-$OVENPROOF_KERNEL_LINE".* | sed 's|.*/vmlinuz-||' | sort -V | tail -n 1)
running=$(uname -r)
rm -f "$STATE/boot-id-before-reboot"
if [[ $newest == "$running" ]]; then
    echo "no reboot: the builder runs $running, the newest kernel it has"
    exit 0
fi
cp "$ROOT/proc/sys/kernel/random/boot_id" "$STATE/boot-id-before-reboot"
sync
echo "rebooting: the builder runs $running, the newest kernel it has is $newest"
# The shutdown ends this script by SIGTERM, the connection a moment later; three seconds let the connection go first.
trap 'sleep 3; exit 0' TERM HUP PIPE
systemd-run --unit=ovenproof-reboot /bin/sh -c 'sleep 2; exec systemctl reboot' >/dev/null
for ((second = 0; second < 180; second++)); do
    sleep 1
done
printf 'ovenproof-error: not-rebooted: the builder was told to reboot and did not begin to within 180 s\n' >&2
exit 1
