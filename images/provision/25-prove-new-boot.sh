#!/bin/bash
# The barrier after the reboot: proves that this is another boot (boot_id) and that it runs the newest kernel of the line.
set -euo pipefail
export LC_ALL=C

: "${OVENPROOF_KERNEL_LINE:?}"
ROOT=${OVENPROOF_ROOT:-} # a folder to look at instead of the machine's own disk
STATE=$ROOT/var/tmp/ovenproof

fail() { printf 'ovenproof-error: %s: %s\n' "$1" "$2" >&2; exit 1; }

before="$STATE/boot-id-before-reboot"
if [[ -e $before ]]; then
    [[ $(<"$before") != $(<"$ROOT/proc/sys/kernel/random/boot_id") ]] || fail not-rebooted \
        "a reboot was asked for, but this is still the boot $(<"$before")"
    code=0
    timeout 600 cloud-init status --wait >/dev/null || code=$?
    [[ $code -eq 0 || $code -eq 2 ]] || fail cloud-init-failed "cloud-init ended with code $code after the reboot"
fi

newest=$(printf '%s\n' "$ROOT/boot/vmlinuz-$OVENPROOF_KERNEL_LINE".* | sed 's|.*/vmlinuz-||' | sort -V | tail -n 1)
[[ $(uname -r) == "$newest" ]] || fail kernel-not-running \
    "the builder runs $(uname -r), expected $newest, the newest $OVENPROOF_KERNEL_LINE kernel it has: check the boot loader's default"
if [[ -e $before ]]; then
    echo "a new boot, on $newest"
else
    echo "no reboot was needed: the builder runs $newest"
fi
