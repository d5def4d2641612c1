#!/usr/bin/env bash
# Packs the package databases and the name of the distribution, from which the software bill of materials is made
# outside the builder: no scanner has to be carried in, and nothing of it can stay behind.
set -euo pipefail

stage=/var/tmp/ovenproof
[[ -d $stage ]] || { echo "expected the staging directory $stage, found none" >&2; exit 1; }

cd /
databases=()
for path in var/lib/rpm usr/lib/sysimage/rpm var/lib/dpkg/status; do
  if [[ -e $path ]]; then
    databases+=("$path")
  fi
done
[[ ${#databases[@]} -gt 0 ]] || { echo "expected an RPM or a dpkg database, found none" >&2; exit 1; }

# /etc/os-release is a link to the other one. Locks and shared memory of the databases are no part of their content.
tar --create --gzip --file "$stage/package-databases.tar.gz" --exclude '.rpm.lock' --exclude '__db.*' \
  etc/os-release usr/lib/os-release "${databases[@]}"
chmod 0644 "$stage/package-databases.tar.gz"
