#!/bin/bash
# Sets the unit's limits for the machine the package is installed on: 10 % of all CPUs, memory by the host's memory
# (GuardDuty user guide: below 8 GB 128 MB, below 32 GB 256 MB, from there 1 GB). Literals, so they travel in an image.
set -euo pipefail

unit=/lib/systemd/system/amazon-guardduty-agent.service
mebibytes=$(( $(awk '$1 == "MemTotal:" { print $2 }' /proc/meminfo) / 1024 ))
memory=1024M
if (( mebibytes < 8192 )); then
    memory=128M
elif (( mebibytes < 32768 )); then
    memory=256M
fi
sed --in-place \
    --expression "s/^CPUQuota=.*/CPUQuota=$(( $(nproc) * 10 ))%/" \
    --expression "s/^MemoryLimit=.*/MemoryLimit=$memory/" \
    --expression "s/^MemoryMax=.*/MemoryMax=$memory/" "$unit"
