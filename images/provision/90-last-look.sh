#!/bin/bash
# Nothing may be left that is on the list of leftovers. Looks, and changes nothing but to remove itself.
set -euo pipefail
export LC_ALL=C
shopt -s nullglob dotglob globstar

ROOT=${OVENPROOF_ROOT:-} # a folder to look at instead of the machine's own disk
LIST=$ROOT/usr/share/ovenproof/leftovers.txt

fail() { printf 'ovenproof-error: %s: %s\n' "$1" "$2" >&2; exit 1; }

[[ -s $LIST ]] || fail list-missing "$LIST is not there: 50-install-checks.sh puts it there"
if [[ -z $ROOT && $0 == /var/tmp/* ]]; then rm -f -- "$0"; fi # bash has it open

declare -A kept=() left=()
while read -r action _ pattern what; do
    case $action in keep | remove | empty) ;; *) continue ;; esac
    # shellcheck disable=SC2206 # the pattern is there to be expanded
    matches=("$ROOT"$pattern)
    # ${matches[@]+...}: to bash 4.2 an empty array is an unset variable
    for path in ${matches[@]+"${matches[@]}"}; do
        if [[ $action == keep ]]; then
            kept[$path]=1
        elif [[ -z ${kept[$path]:-} && ($action == remove || (-f $path && ! -L $path && -s $path)) && (-e $path || -L $path) ]]; then
            left[${path#"$ROOT"}]=$what
        fi
    done
done <"$LIST"

if ((${#left[@]})); then
    printf 'ovenproof-error: leftovers: %s things are left on the disk that no image may carry\n' "${#left[@]}" >&2
    for path in "${!left[@]}"; do printf '  %s  (%s)\n' "$path" "${left[$path]}"; done | sort >&2
    exit 1
fi
[[ -f $ROOT/etc/machine-id ]] || fail machine-id-missing "/etc/machine-id has to be there and empty, so that systemd fills it at first boot"
for unit in amazon-guardduty-agent.service ecs.service; do
    state=$(systemctl is-enabled "$unit") || true # a disabled unit is told by its name, in the line below
    [[ $state == enabled ]] || fail unit-not-enabled "$unit is '$state' in the finished image, expected 'enabled'"
done
sync
echo "nothing is left that should not be"
