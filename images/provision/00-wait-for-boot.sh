#!/bin/bash
# Wait until nothing else changes this machine: first boot is over, and nobody holds the package database.
# cloud-init may still install or configure; the SSM agent's self-update calls rpm outside yum's own lock.
set -euo pipefail
export LC_ALL=C

BOOT_SECONDS=600
LOCK_SECONDS=300
STATE=/var/tmp/ovenproof

fail() { printf 'ovenproof-error: %s: %s\n' "$1" "$2" >&2; exit 1; }

for name in OVENPROOF_VARIANT OVENPROOF_ARCH OVENPROOF_KERNEL_LINE OVENPROOF_BAKE_ID OVENPROOF_BASE_NAME \
    OVENPROOF_BASE_ID OVENPROOF_AGENT_VERSION OVENPROOF_AGENT_FINGERPRINT OVENPROOF_AGENT_URL; do
    [[ -n ${!name:-} ]] || fail input-missing "the environment variable $name is not set"
done
[[ $EUID -eq 0 ]] || fail not-root "the provisioning scripts need root, this is uid $EUID"

case "$(uname -m)" in
x86_64) machine=x86_64 ;;
aarch64) machine=arm64 ;;
*) fail arch-mismatch "this machine is $(uname -m); images are made for x86_64 and arm64" ;;
esac
[[ $machine == "$OVENPROOF_ARCH" ]] || fail arch-mismatch "the builder is $machine, the image is for $OVENPROOF_ARCH"

# Everything whose inode changes after this file was put there by the bake (see 70-collect-facts.sh).
install -d -m 0755 "$STATE"
: >"$STATE/started"

code=0
timeout "$BOOT_SECONDS" cloud-init status --wait >"$STATE/cloud-init-status" || code=$?
case $code in
0) ;;
2) echo "cloud-init ended with recoverable errors: $(<"$STATE/cloud-init-status")" ;;
124) fail boot-timeout "cloud-init was still at work after $BOOT_SECONDS s" ;;
*) fail cloud-init-failed "cloud-init of the base image ended with code $code: $(tail -n 3 "$STATE/cloud-init-status")" ;;
esac

# A lock shows in /proc/locks as major:minor:inode, for any holder and any kind of rpm database.
lock="$(rpm --eval '%{_dbpath}')/.rpm.lock"
holder() {
    local inode
    inode=$(stat -c %i "$lock" 2>/dev/null) || return 1
    awk -v inode=":$inode\$" '$6 ~ inode { print $5; found = 1; exit } END { exit !found }' /proc/locks
}
package_manager() {
    local process name
    for process in /proc/[0-9]*; do
        read -r name 2>/dev/null <"$process/comm" || continue
        case $name in yum | dnf | rpm | packagekitd) echo "${process#/proc/}"; return 0 ;; esac
    done
    return 1
}
deadline=$((SECONDS + LOCK_SECONDS))
while pid=$(holder) || pid=$(package_manager); do
    ((SECONDS < deadline)) || fail rpm-locked \
        "process $pid ($(tr '\0' ' ' <"/proc/$pid/cmdline")) still held the package database after $LOCK_SECONDS s"
    sleep 2
done
echo "the machine is at rest: kernel $(uname -r), booted $(uptime -s)"
