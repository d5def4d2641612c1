#!/bin/bash
# Remove what belongs to the builder or to the bake. What that is stands in images/checks/leftovers.txt, and only there.
# The SSH session that Packer works through goes on without its keys on the disk.
set -euo pipefail
export LC_ALL=C
shopt -s nullglob dotglob globstar

ROOT=${OVENPROOF_ROOT:-} # a folder to clean instead of the machine's own disk
LIST=$ROOT/usr/share/ovenproof/leftovers.txt

fail() { printf 'ovenproof-error: %s: %s\n' "$1" "$2" >&2; exit 1; }

[[ -s $LIST ]] || fail list-missing "$LIST is not there: 50-install-checks.sh puts it there"

# -- first whoever writes ------------------------------------------------------------------------------------------
units=$(systemctl list-unit-files --no-legend --no-pager | awk '{ print $1 }')
stop() {
    local unit present=()
    for unit in "$@"; do
        if grep -qxF "$unit" <<<"$units"; then present+=("$unit"); fi
    done
    if ((${#present[@]})); then systemctl stop "${present[@]}"; fi
}
stop amazon-guardduty-agent.service ecs.service
# The ECS agent's image comes back from the archive in /var/cache/ecs when it starts again.
docker ps --all --quiet | xargs --no-run-if-empty docker rm --force --volumes >/dev/null
docker images --quiet amazon/amazon-ecs-agent | xargs --no-run-if-empty docker rmi --force >/dev/null
stop docker.socket docker.service containerd.service crond.service cron.service
# auditd refuses systemctl on Amazon Linux; it ends by itself when asked by signal, and is not started again then.
if [[ -s $ROOT/run/auditd.pid || -s $ROOT/var/run/auditd.pid ]]; then
    kill -TERM "$(cat "$ROOT"/run/auditd.pid "$ROOT"/var/run/auditd.pid 2>/dev/null | head -n 1)"
fi
stop syslog.socket rsyslog.service
# From systemd 243 on the journal can be asked to let go of the disk; before that it writes on into a deleted file.
if [[ $(journalctl --help) == *--relinquish-var* ]]; then
    journalctl --relinquish-var
fi

# -- then what they wrote ------------------------------------------------------------------------------------------
# ${matches[@]+...}: to bash 4.2 an empty array is an unset variable.
matching() { # PATTERN: the paths it matches, which have no blanks, into `matches`
    [[ $1 == /* && $1 != *..* ]] || fail list-invalid "the pattern '$1' in $LIST has to be an absolute path"
    # shellcheck disable=SC2206 # the pattern is there to be expanded
    matches=("$ROOT"$1)
}
declare -A kept=()
while read -r action _ pattern _; do
    [[ $action == keep ]] || continue
    matching "$pattern"
    for path in ${matches[@]+"${matches[@]}"}; do kept[$path]=1; done
done <"$LIST"

removed=0
while read -r action _ pattern _; do
    [[ $action == remove || $action == empty ]] || continue
    matching "$pattern"
    for path in ${matches[@]+"${matches[@]}"}; do
        if [[ -n ${kept[$path]:-} || (! -e $path && ! -L $path) ]]; then continue; fi
        if [[ $action == remove ]]; then
            rm -rf -- "$path"
            removed=$((removed + 1))
        elif [[ -f $path && ! -L $path && -s $path ]]; then
            : >"$path"
            removed=$((removed + 1))
        fi
    done
done <"$LIST"
[[ -e $ROOT/etc/machine-id ]] || : >"$ROOT/etc/machine-id" # empty, not absent: systemd then fills it at first boot

# -- then the blocks they took -------------------------------------------------------------------------------------
sync
device=$(findmnt --noheadings --output SOURCE --target "${ROOT:-/}")
if [[ $(lsblk --noheadings --nodeps --bytes --output DISC-MAX "$device" | tr -d ' ') =~ ^[1-9] ]]; then
    fstrim --verbose "${ROOT:-/}"
else
    echo "the disk takes no discard, as EBS volumes do not"
fi
echo "$removed leftovers removed or emptied"
