#!/bin/bash
# Has the initial ramdisk load the drivers of the disks a guest can have, and do nothing else. $1: root of the guest.
# They are in the list because the build machine's own disks, which MODULES=dep would look at, say nothing about it.
# With them loaded, /dev is complete without udev, which under emulation takes four seconds to find that out.
set -euo pipefail
: "${1:?the root of the guest}"

scripts="$1/etc/initramfs-tools/scripts"
mkdir -p "$1/etc/initramfs-tools/conf.d" "$scripts/init-top" "$scripts/init-bottom"
cat > "$1/etc/initramfs-tools/conf.d/guest" <<'CONF'
MODULES=list
COMPRESS=gzip
RESUME=none
FSTYPE=ext4
CONF
printf '%s\n' virtio_pci virtio_blk virtio_scsi ata_piix ahci sd_mod nvme > "$1/etc/initramfs-tools/modules"

# Same names as Debian's scripts, which they stand in front of; "prereqs" is how the order is asked for.
cat > "$scripts/init-top/udev" <<'SCRIPT'
#!/bin/sh
exit 0
SCRIPT
cat > "$scripts/init-bottom/udev" <<'SCRIPT'
#!/bin/sh
[ "$1" = prereqs ] || mount -o move /dev "$rootmnt/dev"
SCRIPT
chmod +x "$scripts"/*/udev
