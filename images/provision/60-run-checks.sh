#!/bin/bash
# Run the image's own checks on the builder. The report goes into the facts; a failure stops the bake.
set -euo pipefail
export LC_ALL=C

STATE=/var/tmp/ovenproof

systemctl start docker.service
code=0
ovenproof-check --at bake --format json >"$STATE/checks.json" || code=$?
case $code in
0) python3 -c 'import json, sys; print("{checks} checks passed, {not_applicable} not applicable".format(**json.load(sys.stdin)["summary"]))' <"$STATE/checks.json" ;;
1)
    python3 - "$STATE/checks.json" >&2 <<'PYTHON'
import json, sys

failures = json.load(open(sys.argv[1]))["failures"]
print("ovenproof-error: checks-failed: {} of the image's checks failed: {}".format(
    len(failures), ", ".join(sorted({one["id"] for one in failures}))))
for one in failures:
    print("{title} [{id}]\n  expected: {expected}\n  found:    {found}\n  do:       {remedy}".format(**one))
PYTHON
    exit 1
    ;;
*) exit "$code" ;; # ovenproof-check said why
esac
