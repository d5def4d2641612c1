#!/bin/bash
# Turns a Debian root into a base guest's file system. Runs as root, or as root of a user namespace.
#   TAR        the root, from mmdebstrap
#   ROOTFS     folder laid over it, same paths
#   RPMS       folder of packages to install, whose files a guest then really has
#   KNOWN_RPMS folder of packages to make known only: their files are the root's own
#   RPM_KEY    public key of the update repository
#   LINE       name of the repository's folder
#   HOSTS      text that is added to /etc/hosts
#   STANDS_FOR the line of text that says what this is
#   TREE       empty folder to work in
#   IMAGE      file of the disk, holding the file system from OFFSET on; SIZE_KIB is the file system's
set -euo pipefail
: "${TAR:?}" "${ROOTFS:?}" "${RPMS:?}" "${KNOWN_RPMS:?}" "${RPM_KEY:?}" "${LINE:?}"
: "${HOSTS:?}" "${STANDS_FOR:?}" "${TREE:?}" "${IMAGE:?}" "${OFFSET:?}" "${SIZE_KIB:?}"

trap 'rm -rf "$TREE"' EXIT

# The kernel makes the device nodes anew at each boot, and an ordinary user cannot unpack them.
tar --extract --file "$TAR" --directory "$TREE" --numeric-owner --exclude './dev/*' --exclude ./update-kernel
cp --recursive --no-dereference --preserve=mode --no-preserve=ownership "$ROOTFS/." "$TREE/"
rm -f "$TREE/etc/hostname" "$TREE/etc/machine-id" "$TREE"/etc/ssh/ssh_host_*_key*
: > "$TREE/etc/machine-id"
printf '%s\n' "$HOSTS" > "$TREE/etc/hosts"
printf '%s\n' "$STANDS_FOR" > "$TREE/etc/system-release"
printf '%s\nKernel \\r on an \\m (\\l)\n\n' "$STANDS_FOR" > "$TREE/etc/issue"
ln --symbolic --force dnf "$TREE/usr/bin/yum"

install -D -m 0644 "$RPM_KEY" "$TREE/etc/pki/rpm-gpg/RPM-GPG-KEY-ovenproof-standin"
install -d -m 0755 "$TREE/etc/yum.repos.d"
cat > "$TREE/etc/yum.repos.d/ovenproof-standin.repo" <<REPO
[ovenproof-standin]
name=Ovenproof stand-in for Amazon's repositories
baseurl=http://169.254.0.10/repo-$LINE/
gpgcheck=1
gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-ovenproof-standin
skip_if_unavailable=False
REPO

# Debian starts cloud-init's last stage after everything else, Amazon before: the ECS agent waits for it there.
sed '/^After=multi-user.target$/d' "$TREE/usr/lib/systemd/system/cloud-final.service" \
    > "$TREE/etc/systemd/system/cloud-final.service"

mkdir "$TREE/var/tmp/rpms" "$TREE/var/tmp/known"
cp "$KNOWN_RPMS"/*.rpm "$TREE/var/tmp/known/"
cp "$RPMS"/*.rpm "$TREE/var/tmp/rpms/"
in_tree() { chroot "$TREE" /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
in_tree rpm --import /etc/pki/rpm-gpg/RPM-GPG-KEY-ovenproof-standin
in_tree bash -c 'rpm --install --justdb --nosignature /var/tmp/known/*.rpm'
in_tree bash -c 'rpm --install --nosignature /var/tmp/rpms/*.rpm'
in_tree newest-kernel
rm -r "$TREE/var/tmp/rpms" "$TREE/var/tmp/known"

# What a server image would not run, and what only costs a short-lived guest its boot.
systemctl --root "$TREE" mask --quiet apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer man-db.timer qemu-guest-agent.service systemd-timesyncd.service \
    networking.service dnf-makecache.timer keyboard-setup.service console-setup.service
systemctl --root "$TREE" enable --quiet systemd-networkd.service systemd-networkd-wait-online.service ssh.service \
    docker.service containerd.service amazon-ssm-agent.service ecs.service serial-getty@ttyS0.service

rm -rf "$TREE"/var/lib/apt/lists/* "$TREE"/var/cache/apt/*.bin "$TREE"/var/log/*.log "$TREE"/var/log/apt \
    "$TREE"/var/cache/debconf/*-old "$TREE"/var/lib/dpkg/*-old "$TREE"/var/log/journal/* "$TREE"/root/.bash_history

# Everything that the first boot would have to write is written now: the disk's growth is then what a bake adds.
mkfs.ext4 -q -F -L / -m 0 -J size=16 -E "offset=$OFFSET,root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0" \
    -d "$TREE" "$IMAGE" "${SIZE_KIB}k"
