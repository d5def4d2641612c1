#!/bin/sh
# One line of JSON about this host on standard output, whatever is wrong with it; exit code 0 when nothing is.
# POSIX sh and what every Linux has. SSM_WindowSeconds is the document's parameter; an SSM Agent too old to hand it
# over (before 3.3.2746.0) leaves it away.
set -u
export LC_ALL=C

unit=amazon-guardduty-agent.service
most=180 # seconds that a boot may still take
window=${SSM_WindowSeconds:-20}
case $window in
'' | 0* | *[!0-9]* | ????*) window=20 ;;
esac

# quoted TEXT: a JSON string
quoted() {
    printf '"%s"' "$(printf '%s' "$1" | tr -d '\000-\037\177-\377' | sed 's/\\/\\\\/g; s/"/\\"/g')"
}

property() {
    systemctl show "$unit" --property="$1" 2>/dev/null | sed -n "s/^$1=//p"
}

# started: changes with each start of the unit; systemd before 235 counts no restarts
started() {
    printf '%s/%s' "$(property MainPID)" "$(property ExecMainStartTimestampMonotonic)"
}

# agent_version: of whichever package manager has it; nothing when none has
agent_version() {
    if version=$(rpm -q --queryformat '%{VERSION}\n' amazon-guardduty-agent 2>/dev/null); then
        printf '%s' "$version" | tail -n 1
        return
    fi
    # a package that was removed and left its settings has a version as well
    dpkg-query --show --showformat '${Status} ${Version}\n' amazon-guardduty-agent 2>/dev/null |
        sed -n 's/^install ok installed //p'
}

# supported KERNEL: GuardDuty's documents begin with 5.4
supported() {
    major=${1%%.*}
    minor=${1#"$major"}
    minor=${minor#.}
    minor=${minor%%[!0-9]*}
    case $major in '' | *[!0-9]*) return 1 ;; esac
    [ "$major" -gt 5 ] || { [ "$major" -eq 5 ] && [ "${minor:-0}" -ge 4 ]; }
}

# limited COMMAND...: ended when it hangs, since a command that SSM ends has no report at all
limited() {
    if command -v timeout >/dev/null 2>&1; then timeout "$((window + most + 120))" "$@"; else "$@"; fi
}

# From ovenproof-check's report to ours. Exit code 0: all well, 1: something failed; any other: no report.
summary='
import json, re, sys
line = [one for one in sys.stdin.read().splitlines() if one.startswith("{")]
if not line:
    sys.exit(3)
try:
    report = json.loads(line[-1])
    kernel, agent, seen = report["kernel"], report["agent"], report["window"]
    watched = seen["units"]["amazon-guardduty-agent.service"]
    failures = [str(one["title"]) for one in report["failures"]]
    unit = dict(
        installed=watched["end"].get("LoadState", "loaded") not in ("", "not-found"),
        enabled=agent["unit"]["enabled"] == "enabled",
        active=agent["unit"]["active"],
        restarts_in_window=watched["restarts"],
        window_seconds=int(round(seen["seconds"])),
    )
    told = dict(
        kernel=kernel,
        kernel_supported=tuple(int(part) for part in re.findall("[0-9]+", kernel)[:2]) >= (5, 4),
        unit=unit,
        agent_version=agent["version"],
        checks=dict(passed=report["summary"]["checks"] - len(failures), failed=len(failures)),
        carried=False,
    )
except (KeyError, TypeError, ValueError, AttributeError):
    sys.exit(3)
well = not failures and told["kernel_supported"] and unit["enabled"] and unit["active"] == "active"
shown = [one[:200] for one in failures[:20]]
told["checks"]["failures"] = shown
while len(json.dumps(told)) > 20000:
    shown.pop()
print(json.dumps(told))
sys.exit(0 if well and not unit["restarts_in_window"] else 1)
'

unable= # why the checks of the image could not be made
if command -v ovenproof-check >/dev/null 2>&1; then
    said=$(limited ovenproof-check --format json --window "$window" 2>&1)
    code=$?
    told=$(printf '%s\n' "$said" | python3 -c "$summary" 2>/dev/null)
    understood=$?
    if [ "$understood" -le 1 ] && [ -n "$told" ]; then
        printf '%s\n' "$told"
        exit "$understood"
    fi
    unable=$(printf '%s\n' "$said" | sed -n 's/^ovenproof-error: //p' | head -n 1 | cut -c 1-300)
    unable="ovenproof-check could not run: ${unable:-it ended with code $code and without a report}"
    printf '%s\n' "$said" | head -n 20 >&2
fi

# A unit's first start, at the end of the boot, is no restart.
waited=0
while [ "$waited" -lt "$most" ]; do
    case $(systemctl is-system-running 2>/dev/null) in
    initializing | starting) ;;
    *) break ;;
    esac
    sleep 2
    waited=$((waited + 2))
done

counted=$(property NRestarts)
start=$(started)
sleep "$window" # the window is the observation itself
kernel=$(uname -r)
now_counted=$(property NRestarts)
active=$(property ActiveState)
restarts=0
if [ "${now_counted:-0}" -gt "${counted:-0}" ]; then
    restarts=$((now_counted - counted))
elif [ "$(started)" != "$start" ]; then
    restarts=1
fi
kernel_supported=false installed=false enabled=false steady=false
if supported "$kernel"; then kernel_supported=true; fi
case $(property LoadState) in
'' | not-found) ;;
*) installed=true ;;
esac
if [ "$(property UnitFileState)" = enabled ]; then enabled=true; fi
if [ "$active" = active ] && [ "$restarts" -eq 0 ]; then steady=true; fi

passed=0 failed=0 failures=
# judge TRUE-OR-FALSE TITLE
judge() {
    if [ "$1" = true ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        failures="$failures${failures:+, }$(quoted "$2")"
    fi
}
if [ -n "$unable" ]; then judge false "$unable"; fi
judge "$kernel_supported" "the kernel is one that GuardDuty's agent supports"
judge "$installed" "GuardDuty's agent is installed"
judge "$enabled" "the agent's unit is enabled"
judge "$steady" "the agent's unit runs and is not restarted"

printf '{"kernel": %s, "kernel_supported": %s, "unit": {"installed": %s, "enabled": %s, "active": %s, ' \
    "$(quoted "$kernel")" "$kernel_supported" "$installed" "$enabled" "$(quoted "${active:-unknown}")"
printf '"restarts_in_window": %s, "window_seconds": %s}, "agent_version": %s, ' \
    "$restarts" "$window" "$(quoted "$(agent_version)")"
printf '"checks": {"passed": %s, "failed": %s, "failures": [%s]}, "carried": true}\n' "$passed" "$failed" "$failures"

[ "$failed" -eq 0 ]
