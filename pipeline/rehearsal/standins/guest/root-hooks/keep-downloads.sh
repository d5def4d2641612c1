#!/bin/bash
# Lets apt write straight into a folder that outlives this build. $1: root of the guest; BIND: that folder.
set -euo pipefail
: "${1:?the root of the guest}" "${BIND:?the folder that keeps downloads}"

mkdir -p "$1/var/cache/apt/archives"
mount --bind "$BIND" "$1/var/cache/apt/archives"
