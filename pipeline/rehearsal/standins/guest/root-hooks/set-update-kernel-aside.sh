#!/bin/bash
# Installs the archive's newest kernel, keeps its finished files in a folder of their own, and removes it again.
# $1: root of the guest; $2: Debian's package that names the newest kernel; $3: name of the folder in the root.
set -euo pipefail
: "${1:?the root of the guest}" "${2:?the kernel package}" "${3:?the folder for the update}"

# The package of the one kernel image that the newest $2 depends on; $2 itself is not needed.
newest=$(chroot "$1" apt-cache show --no-all-versions "$2" | sed -n 's/^Depends:.*\(linux-image-[^ ,]*\).*/\1/p')
update=${newest#linux-image-}
base=$(ls "$1/lib/modules")
if [[ -z "$update" || "$update" == "$base" ]]; then
    echo "$2: the archive has no kernel newer than $base; a bake would have no kernel update to make" >&2
    exit 1
fi

chroot "$1" apt-get -q -y install "$newest"
mkdir -p "$1/$3/boot" "$1/$3/lib/modules"
cp -a "$1"/boot/*"-$update" "$1/$3/boot/"
cp -a "$1/lib/modules/$update" "$1/$3/lib/modules/"
package_version() { chroot "$1" dpkg-query --show "$2" | cut -f 2; }
package_version "$1" "$newest" > "$1/$3/version"
package_version "$1" "linux-image-$base" > "$1/$3/base-version"
chroot "$1" apt-get -q -y purge "$newest"

# The downloads stay where they are: without the mount, mmdebstrap's own cleaning finds an empty folder.
if mountpoint --quiet "$1/var/cache/apt/archives"; then
    umount "$1/var/cache/apt/archives"
fi
