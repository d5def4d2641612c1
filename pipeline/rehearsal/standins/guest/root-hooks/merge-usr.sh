#!/bin/bash
# Puts /bin, /sbin and /lib into /usr before anything is unpacked, as they are on Amazon Linux. $1: root of the guest.
# mmdebstrap's own hook for it needs a package that Debian 11 does not have.
set -euo pipefail
: "${1:?the root of the guest}"

for name in bin sbin lib lib64; do
    mkdir -p "$1/usr/$name"
    ln --symbolic "usr/$name" "$1/$name"
done
