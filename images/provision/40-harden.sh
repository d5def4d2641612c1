#!/bin/bash
# Apply images/hardening.yaml: lay images/rootfs over the disk, then what cannot be a file of our own.
# What each part is for, and what it could break, stands with the rules there.
set -euo pipefail
export LC_ALL=C

STATE=/var/tmp/ovenproof
for name in OVENPROOF_BAKE_ID OVENPROOF_VARIANT OVENPROOF_ARCH OVENPROOF_KERNEL_LINE OVENPROOF_BASE_ID OVENPROOF_BASE_NAME \
    OVENPROOF_AGENT_VERSION; do
    [[ -n ${!name:-} ]] || { echo "ovenproof-error: input-missing: the environment variable $name is not set" >&2; exit 1; }
done

fail() { printf 'ovenproof-error: %s: %s\n' "$1" "$2" >&2; exit 1; }

# -- files -------------------------------------------------------------------------------------------------------
[[ -d $STATE/rootfs ]] || fail staging-missing "$STATE/rootfs was not uploaded"
visudo -cqf "$STATE/rootfs/etc/sudoers.d/ovenproof" || fail sudoers-invalid "images/rootfs/etc/sudoers.d/ovenproof is not valid"
while IFS= read -r -d '' file; do
    target=/${file#"$STATE/rootfs/"}
    case $target in
    /usr/bin/* | /usr/libexec/* | */system-generators/*) mode=0755 ;;
    /etc/sudoers.d/*) mode=0440 ;;
    /etc/audit/*) mode=0640 ;;
    /etc/ssh/* | /etc/cron.allow | /etc/at.allow) mode=0600 ;;
    *) mode=0644 ;;
    esac
    install -D -o root -g root -m "$mode" "$file" "$target"
done < <(find "$STATE/rootfs" -type f -print0)

cat >/etc/ovenproof-release <<RELEASE
OVENPROOF_BAKE_ID=$OVENPROOF_BAKE_ID
OVENPROOF_VARIANT=$OVENPROOF_VARIANT
OVENPROOF_ARCH=$OVENPROOF_ARCH
OVENPROOF_KERNEL_LINE=$OVENPROOF_KERNEL_LINE
OVENPROOF_BASE_ID=$OVENPROOF_BASE_ID
OVENPROOF_BASE_NAME=$OVENPROOF_BASE_NAME
OVENPROOF_AGENT_VERSION=$OVENPROOF_AGENT_VERSION
OVENPROOF_AGENT_SHA256=$(sed -n 's/^sha256=//p' "$STATE/agent")
OVENPROOF_AGENT_FINGERPRINT=$(sed -n 's/^fingerprint=//p' "$STATE/agent")
RELEASE
chmod 0644 /etc/ovenproof-release

# -- sshd --------------------------------------------------------------------------------------------------------
# Before 8.2 sshd knows no Include (Amazon Linux 2 has 7.4): there the same lines go to the top of its own file.
config=/etc/ssh/sshd_config
ours=/etc/ssh/sshd_config.d/00-ovenproof.conf
if ! grep -Eiq '^[[:space:]]*Include[[:space:]]+/etc/ssh/sshd_config\.d/' "$config"; then
    sed -i '/^# ovenproof begin$/,/^# ovenproof end$/d' "$config"
    { echo '# ovenproof begin'; cat "$ours"; echo '# ovenproof end'; cat "$config"; } >"$config.new"
    mv "$config.new" "$config"
fi
chmod 0600 "$config"
sshd=$(PATH=$PATH:/usr/sbin command -v sshd)
"$sshd" -t || fail sshd-invalid "sshd does not accept its configuration; its message stands above"

# -- accounts ----------------------------------------------------------------------------------------------------
set_login_definition() {
    if grep -Eq "^[[:space:]]*$1[[:space:]]" /etc/login.defs; then
        sed -i -E "s/^[[:space:]]*$1[[:space:]].*/$1 $2/" /etc/login.defs
    else
        printf '%s %s\n' "$1" "$2" >>/etc/login.defs
    fi
}
set_login_definition PASS_MAX_DAYS 365
set_login_definition PASS_MIN_DAYS 1
set_login_definition PASS_WARN_AGE 7
useradd -D -f 30
sed -i -E 's/^#[[:space:]]*(auth[[:space:]]+required[[:space:]]+pam_wheel\.so.*)$/\1/' /etc/pam.d/su
chmod 0644 /etc/passwd /etc/group
# Debian's shadow group may read the shadow files, and its programs rely on it.
chmod u-x,g-wx,o-rwx /etc/shadow /etc/gshadow

# -- modes of what other packages own ----------------------------------------------------------------------------
shopt -s nullglob
rm -f /etc/cron.deny /etc/at.deny
for path in /etc/crontab /etc/cron.{d,hourly,daily,weekly,monthly,yearly}; do
    if [[ -e $path ]]; then chmod go-rwx "$path"; fi
done
for path in /boot/grub*/grub.cfg /boot/grub*/user.cfg; do
    chmod 0600 "$path"
done
for path in /etc/ecs/ecs.config /var/lib/ecs/ecs.config; do
    if [[ -e $path ]]; then chmod 0600 "$path"; fi
done
for path in /var/log/messages /var/log/secure /var/log/syslog /var/log/auth.log /var/log/cron /var/log/maillog \
    /var/log/cloud-init.log /var/log/cloud-init-output.log; do
    if [[ -e $path ]]; then chmod o-rwx "$path"; fi
done
if [[ -d /etc/rsyslog.d ]]; then
    sed -i -E "s/^(\\\$FileCreateMode).*/\1 0640/" /etc/rsyslog.conf
    grep -q "^\$FileCreateMode 0640" /etc/rsyslog.conf || sed -i "1i \$FileCreateMode 0640" /etc/rsyslog.conf
fi

# -- audit -------------------------------------------------------------------------------------------------------
# Amazon Linux ships a rule that turns auditing of system calls, and with it every watch, off.
if [[ -d /etc/audit/rules.d ]]; then
    sed -i -E '/^[[:space:]]*-a[[:space:]]+(never,task|task,never)/d' /etc/audit/rules.d/*.rules
    augenrules --load >/dev/null || fail audit-rules "auditctl does not accept the rules in /etc/audit/rules.d"
fi

# -- mounts ------------------------------------------------------------------------------------------------------
if ! grep -Eq '^[^#]+[[:space:]]/dev/shm[[:space:]]' /etc/fstab; then
    echo 'tmpfs /dev/shm tmpfs defaults,nodev,nosuid,noexec 0 0' >>/etc/fstab
fi
mount -o remount,nodev,nosuid,noexec /dev/shm
# /tmp stays on the disk: as tmpfs it takes memory that ECS hands to tasks, and loses files at a reboot.
systemctl mask tmp.mount

# -- services ----------------------------------------------------------------------------------------------------
unused=(autofs avahi-daemon bluetooth cups dhcpd dnsmasq dovecot httpd named nfs-server nginx postfix rpcbind rsyncd
    slapd smb snmpd squid telnet.socket tftp.socket vsftpd xinetd ypserv)
units=$(systemctl list-unit-files --no-legend --no-pager | awk '{ print $1 }')
present=()
for unit in "${unused[@]}"; do
    [[ $unit == *.* ]] || unit+=.service
    if grep -qxF "$unit" <<<"$units"; then present+=("$unit"); fi
    if grep -qxF "${unit%.service}.socket" <<<"$units"; then present+=("${unit%.service}.socket"); fi
done
if ((${#present[@]})); then
    systemctl stop "${present[@]}"
    systemctl mask "${present[@]}"
fi

# -- containers --------------------------------------------------------------------------------------------------
# The ECS agent reads this file before /etc/ecs/ecs.config, which user data often writes whole; there it may be undone.
install -d -m 0755 /var/lib/ecs
if ! grep -qs '^ECS_AWSVPC_BLOCK_IMDS=' /var/lib/ecs/ecs.config; then
    echo ECS_AWSVPC_BLOCK_IMDS=true >>/var/lib/ecs/ecs.config
fi
chmod 0600 /var/lib/ecs/ecs.config
systemctl daemon-reload
systemctl enable ovenproof-container-network.service

# -- in force now, so that the checks see what a boot will bring -----------------------------------------------------
sysctl --quiet --load=/etc/sysctl.d/90-ovenproof.conf || fail sysctl "the kernel does not take a setting of 90-ovenproof.conf"
if systemctl --quiet is-active docker.service; then
    systemctl restart ovenproof-container-network.service
fi
service=sshd.service
if grep -qxF ssh.service <<<"$units"; then service=ssh.service; fi
systemctl reload "$service"
echo "hardened: $(find "$STATE/rootfs" -type f | wc -l) files laid, ${#present[@]} unused units masked"
