#!/bin/bash
# Restart the builder when it does not yet run the newest kernel it has: an image is baked on what it will boot.
# The restart is detached and starts two seconds later, so that this script's success reaches Packer through any tunnel.
set -euo pipefail
export LC_ALL=C

: "${OVENPROOF_KERNEL_LINE:?}"
STATE=/var/tmp/ovenproof

newest=$(printf '%s\n' /boot/vmlinuz-"$OVENPROOF_KERNEL_LINE".* | sed 's|^/boot/vmlinuz-||' | sort -V | tail -n 1)
running=$(uname -r)
rm -f "$STATE/boot-id-before-reboot"
if [[ $newest == "$running" ]]; then
    echo "no reboot: the builder runs $running, the newest kernel it has"
    exit 0
fi
cp /proc/sys/kernel/random/boot_id "$STATE/boot-id-before-reboot"
sync
echo "rebooting: the builder runs $running, the newest kernel it has is $newest"
systemd-run --unit=ovenproof-reboot /bin/sh -c 'sleep 2; exec systemctl reboot' >/dev/null
