#!/bin/bash
# Has the initial ramdisk hold only the drivers of the disks a guest can have. $1: root of the guest.
# They are in the list because the build machine's own disks, which MODULES=dep would look at, say nothing about it.
set -euo pipefail
: "${1:?the root of the guest}"

mkdir -p "$1/etc/initramfs-tools/conf.d"
cat > "$1/etc/initramfs-tools/conf.d/guest" <<'CONF'
MODULES=list
COMPRESS=gzip
RESUME=none
FSTYPE=ext4
CONF
printf '%s\n' virtio_pci virtio_blk virtio_scsi ata_piix ahci sd_mod nvme > "$1/etc/initramfs-tools/modules"
