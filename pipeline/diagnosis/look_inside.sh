#!/bin/sh
# What only the host itself can tell about the GuardDuty agent, as one line of JSON. Reads; changes nothing.
# Runs by SSM on hosts that GuardDuty does not hear. Works with the sh, awk and systemd of Amazon Linux 2.
unit=amazon-guardduty-agent
window=20

has() { command -v "$1" >/dev/null 2>&1; }
property() { systemctl show -p "$1" "$unit" 2>/dev/null | sed 's/^[^=]*=//'; }
# shellcheck disable=SC1003 # both characters, for tr
quoted() { printf '%s' "$1" | tr -d '"\\' | tr -c '[:print:]' ' '; }

kernel=$(uname -r)
os=$(sed -n 's/^NAME="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' /etc/os-release | head -n 1)
release=$(sed -n 's/^VERSION_ID="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' /etc/os-release | head -n 1)
btf=false
[ -e /sys/kernel/btf/vmlinux ] && btf=true

installed=false
version=""
if [ -e /lib/systemd/system/$unit.service ] || [ -e /usr/lib/systemd/system/$unit.service ]; then
    installed=true
    if has rpm; then version=$(rpm -q --qf '%{VERSION}' $unit 2>/dev/null) || version=""; fi
    # shellcheck disable=SC2016 # dpkg-query's own variable
    if [ -z "$version" ] && has dpkg-query; then version=$(dpkg-query -W -f '${Version}' $unit 2>/dev/null); fi
fi

# systemd 219 keeps no count of restarts, so several looks at the process stand in for it
first=$(property MainPID)
restarts=0
enabled=$(systemctl is-enabled $unit 2>/dev/null)
if [ "$installed" = true ]; then
    looked=0
    while [ $looked -lt $window ]; do
        sleep 2
        looked=$((looked + 2))
        now=$(property MainPID)
        if [ "$now" != "$first" ]; then
            restarts=$((restarts + 1))
            first=$now
        fi
    done
fi
active=$(systemctl is-active $unit 2>/dev/null)

memlock=-1
pid=$(property MainPID)
if [ -n "$pid" ] && [ "$pid" != 0 ] && [ -r "/proc/$pid/limits" ]; then
    memlock=$(awk '/^Max locked memory/ { print ($4 == "unlimited") ? 1073741824 : int($4 / 1024) }' "/proc/$pid/limits")
else
    bytes=$(property LimitMEMLOCK)
    case $bytes in
        infinity | 18446744073709551615) memlock=1073741824 ;;
        "" | *[!0-9]*) memlock=-1 ;;
        *) memlock=$((bytes / 1024)) ;;
    esac
fi

printf '{"kernel":"%s","os":"%s","btf":%s,"memlock_kib":%s,"installed":%s,"version":"%s","enabled":"%s","active":"%s","restarts":%s,"window":%s}\n' \
    "$(quoted "$kernel")" "$(quoted "$os $release")" "$btf" "${memlock:--1}" "$installed" "$(quoted "$version")" \
    "$(quoted "$enabled")" "$(quoted "$active")" "$restarts" "$window"
