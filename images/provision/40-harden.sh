#!/bin/bash
# Apply images/hardening.yaml: lay images/rootfs over the disk, then what cannot be a file of our own.
# What each part is for, and what it could break, stands with the rules there.
set -euo pipefail
export LC_ALL=C

ROOT=${OVENPROOF_ROOT:-} # a folder to harden instead of the machine's own disk
STATE=$ROOT/var/tmp/ovenproof
export PATH=$PATH:/usr/sbin:/sbin
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
    install -D -o root -g root -m "$mode" "$file" "$ROOT$target"
done < <(find "$STATE/rootfs" -type f -print0)

cat >"$ROOT/etc/ovenproof-release" <<RELEASE
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
chmod 0644 "$ROOT/etc/ovenproof-release"

# -- sshd --------------------------------------------------------------------------------------------------------
# Before 8.2 sshd knows no Include (Amazon Linux 2 has 7.4): there the same lines go to the top of its own file.
config=$ROOT/etc/ssh/sshd_config
ours=$ROOT/etc/ssh/sshd_config.d/00-ovenproof.conf
if ! grep -Eiq '^[[:space:]]*Include[[:space:]]+/etc/ssh/sshd_config\.d/' "$config"; then
    sed -i '/^# ovenproof begin$/,/^# ovenproof end$/d' "$config"
    { echo '# ovenproof begin'; cat "$ours"; echo '# ovenproof end'; cat "$config"; } >"$config.new"
    mv "$config.new" "$config"
fi
chmod 0600 "$config"
sshd=$(command -v sshd) # which wants to be called by its full path
"$sshd" -t || fail sshd-invalid "sshd does not accept its configuration; its message stands above"

# -- accounts ----------------------------------------------------------------------------------------------------
set_login_definition() {
    if grep -Eq "^[[:space:]]*$1[[:space:]]" "$ROOT/etc/login.defs"; then
        sed -i -E "s/^[[:space:]]*$1[[:space:]].*/$1 $2/" "$ROOT/etc/login.defs"
    else
        printf '%s %s\n' "$1" "$2" >>"$ROOT/etc/login.defs"
    fi
}
set_login_definition PASS_MAX_DAYS 365
set_login_definition PASS_MIN_DAYS 1
set_login_definition PASS_WARN_AGE 7
useradd -D -f 30
sed -i -E 's/^#[[:space:]]*(auth[[:space:]]+required[[:space:]]+pam_wheel\.so.*)$/\1/' "$ROOT/etc/pam.d/su"
chmod 0644 "$ROOT/etc/passwd" "$ROOT/etc/group"
# Debian's shadow group may read the shadow files, and its programs rely on it.
chmod u-x,g-wx,o-rwx "$ROOT/etc/shadow" "$ROOT/etc/gshadow"

# -- modes of what other packages own ----------------------------------------------------------------------------
shopt -s nullglob
rm -f "$ROOT/etc/cron.deny" "$ROOT/etc/at.deny"
for path in "$ROOT"/etc/crontab "$ROOT"/etc/cron.{d,hourly,daily,weekly,monthly,yearly}; do
    if [[ -e $path ]]; then chmod go-rwx "$path"; fi
done
for path in "$ROOT"/boot/grub*/grub.cfg "$ROOT"/boot/grub*/user.cfg; do
    chmod 0600 "$path"
done
for path in "$ROOT/etc/ecs/ecs.config" "$ROOT/var/lib/ecs/ecs.config"; do
    if [[ -e $path ]]; then chmod 0600 "$path"; fi
done
for path in "$ROOT"/var/log/{messages,secure,syslog,auth.log,cron,maillog,cloud-init.log,cloud-init-output.log}; do
    if [[ -e $path ]]; then chmod o-rwx "$path"; fi
done
# Amazon Linux 2023 has no rsyslog; the folder of its parts alone does not mean that it is there.
rsyslog=$ROOT/etc/rsyslog.conf
if [[ -f $rsyslog ]]; then
    sed -E "s/^(\\\$FileCreateMode).*/\1 0640/" "$rsyslog" >"$rsyslog.new"
    # Once, at the top: it holds for what is opened after it.
    if ! grep -q "^\$FileCreateMode 0640" "$rsyslog.new"; then
        { echo "\$FileCreateMode 0640"; cat "$rsyslog"; } >"$rsyslog.new"
    fi
    cat "$rsyslog.new" >"$rsyslog" # its owner and mode stay
    rm "$rsyslog.new"
else
    echo "rsyslog is not installed: the journal keeps the logs"
fi

# -- audit -------------------------------------------------------------------------------------------------------
# Amazon Linux ships a rule that turns auditing of system calls, and with it every watch, off.
if [[ -x $ROOT/sbin/auditd || -x $ROOT/usr/sbin/auditd ]]; then
    sed -i -E '/^[[:space:]]*-a[[:space:]]+(never,task|task,never)/d' "$ROOT"/etc/audit/rules.d/*.rules
    augenrules --load >/dev/null || fail audit-rules "auditctl does not accept the rules in /etc/audit/rules.d"
else
    echo "auditd is not installed: nothing is audited; the rules in /etc/audit/rules.d hold once it is"
fi

# -- mounts ------------------------------------------------------------------------------------------------------
if ! grep -Eq '^[^#]+[[:space:]]/dev/shm[[:space:]]' "$ROOT/etc/fstab"; then
    echo 'tmpfs /dev/shm tmpfs defaults,nodev,nosuid,noexec 0 0' >>"$ROOT/etc/fstab"
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
install -d -m 0755 "$ROOT/var/lib/ecs"
if ! grep -qs '^ECS_AWSVPC_BLOCK_IMDS=' "$ROOT/var/lib/ecs/ecs.config"; then
    echo ECS_AWSVPC_BLOCK_IMDS=true >>"$ROOT/var/lib/ecs/ecs.config"
fi
chmod 0600 "$ROOT/var/lib/ecs/ecs.config"
systemctl daemon-reload
systemctl enable ovenproof-container-network.service

# -- in force now, so that the checks see what a boot will bring -----------------------------------------------------
sysctl --quiet --load="$ROOT/etc/sysctl.d/90-ovenproof.conf" || fail sysctl "the kernel does not take a setting of 90-ovenproof.conf"
if systemctl --quiet is-active docker.service; then
    systemctl restart ovenproof-container-network.service
fi
service=sshd.service
if grep -qxF ssh.service <<<"$units"; then service=ssh.service; fi
systemctl reload "$service"
echo "hardened: $(find "$STATE/rootfs" -type f | wc -l) files laid, ${#present[@]} unused units masked"
