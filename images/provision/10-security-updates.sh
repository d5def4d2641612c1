#!/bin/bash
# Install what the repositories mark as security updates, and stay on the kernel line.
# Left alone: docker, containerd, runc, the ECS agent and accelerator drivers, which AWS releases and tests together in
# the base image (aws/amazon-ecs-ami leaves the same ones out). They move when the base moves.
set -euo pipefail
export LC_ALL=C

: "${OVENPROOF_KERNEL_LINE:?}"
ROOT=${OVENPROOF_ROOT:-} # a folder to look at instead of the machine's own disk
KERNEL_LINES=(4.14 5.4 5.10 5.15 6.1 6.12 6.18)
RELEASED_WITH_THE_BASE=('docker*' 'containerd*' 'runc*' 'ecs-init*' 'nvidia*' 'cuda*' 'aws-neuron*')

fail() { printf 'ovenproof-error: %s: %s\n' "$1" "$2" >&2; exit 1; }

kernels_of_line() {
    local image
    for image in "$ROOT/boot/vmlinuz-$OVENPROOF_KERNEL_LINE".*; do
        [[ -e $image ]] && printf '%s\n' "${image##*/vmlinuz-}"
    done
    return 0
}
kernels_of_other_lines() {
    local image
    for image in "$ROOT"/boot/vmlinuz-[0-9]*; do
        [[ -e $image && $image != "$ROOT/boot/vmlinuz-$OVENPROOF_KERNEL_LINE".* ]] && printf '%s\n' "${image##*/vmlinuz-}"
    done
    return 0
}

[[ -n $(kernels_of_line) ]] || fail kernel-line \
    "the base has no $OVENPROOF_KERNEL_LINE kernel in /boot, only: $(kernels_of_other_lines | tr '\n' ' ')"
others_before=$(kernels_of_other_lines)

arguments=(-y --security --setopt=retries=5 --setopt=timeout=30 --setopt=keepcache=0)
for package in "${RELEASED_WITH_THE_BASE[@]}"; do
    arguments+=("--exclude=$package")
done
for line in "${KERNEL_LINES[@]}"; do
    # AL2 has one name and many versions (kernel-5.15.1); AL2023 has a name a line beyond its first (kernel6.12).
    [[ $line == "$OVENPROOF_KERNEL_LINE" ]] || arguments+=("--exclude=kernel-$line.*" "--exclude=kernel$line" "--exclude=kernel$line-*")
done
# A repository whose address holds the release is locked to the release of the base: ask for the newest one.
if grep -qsF "core/mirrors/\$releasever" "$ROOT"/etc/yum.repos.d/*.repo; then
    arguments+=(--releasever=latest)
fi

tool=yum
command -v dnf >/dev/null && tool=dnf
"$tool" "${arguments[@]}" upgrade || fail update-failed "$tool could not install the security updates; its message stands above"

[[ -n $(kernels_of_line) ]] || fail kernel-line "the updates removed every $OVENPROOF_KERNEL_LINE kernel"
[[ $(kernels_of_other_lines) == "$others_before" ]] || fail kernel-line \
    "the updates brought a kernel outside the $OVENPROOF_KERNEL_LINE line: $(kernels_of_other_lines | tr '\n' ' ')"
echo "newest kernel of the $OVENPROOF_KERNEL_LINE line: $(kernels_of_line | sort -V | tail -n 1)"
