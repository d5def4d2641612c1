#!/bin/bash
# Install the GuardDuty agent, once its signature is proven to be by the key whose fingerprint the catalog pins.
# Names and layout: GuardDuty user guide, "Installing GuardDuty security agent on Amazon EC2 instances manually".
# The key lies beside the package, so the key's word counts for nothing: the pinned fingerprint does.
# Any failure starts with `ovenproof-error: <code>: ` on standard error; the pipeline tells the cause by the code.
set -euo pipefail
export LC_ALL=C

ROOT=${OVENPROOF_ROOT:-} # a folder to look at instead of the machine's own disk
STATE=$ROOT/var/tmp/ovenproof
NAME=amazon-guardduty-agent
UNIT=amazon-guardduty-agent.service
GENERATOR=/lib/systemd/system-generators/ovenproof-agent-limits # /lib: Debian 11 keeps it apart from /usr/lib
LEAST_MEMLOCK=$((32 * 1024 * 1024)) # where the kernel is 5.10 or older: GuardDuty user guide, prerequisites

fail() { printf 'ovenproof-error: %s: %s\n' "$1" "$2" >&2; exit 1; }

for name in OVENPROOF_ARCH OVENPROOF_AGENT_VERSION OVENPROOF_AGENT_FINGERPRINT OVENPROOF_AGENT_URL; do
    [[ -n ${!name:-} ]] || fail input-missing "the environment variable $name is not set"
done
version=$OVENPROOF_AGENT_VERSION
pinned=$(tr -d '[:space:]' <<<"$OVENPROOF_AGENT_FINGERPRINT" | tr '[:lower:]' '[:upper:]')
[[ $pinned =~ ^[0-9A-F]{40}$ ]] || fail input-invalid \
    "OVENPROOF_AGENT_FINGERPRINT has to be a full fingerprint of 40 hexadecimal digits, found '$OVENPROOF_AGENT_FINGERPRINT'"
[[ $version =~ ^[0-9]+(\.[0-9]+)+$ ]] || fail input-invalid "OVENPROOF_AGENT_VERSION has to be like 1.17.1, found '$version'"
case $OVENPROOF_ARCH in # what AWS's file names say, and what the package itself has to say
x86_64) header_arch=x86_64 ;;
arm64) header_arch=aarch64 ;;
*) fail input-invalid "OVENPROOF_ARCH has to be x86_64 or arm64, found '$OVENPROOF_ARCH'" ;;
esac

[[ -s $ROOT/sys/kernel/btf/vmlinux ]] || fail btf-missing \
    "kernel $(uname -r) has no BTF (CONFIG_DEBUG_INFO_BTF), without which the agent cannot load its programs"

install -d -m 0755 "$STATE"
work=$(mktemp -d "$STATE/agent.XXXXXX")
trap 'rm -rf "$work"' EXIT

url="${OVENPROOF_AGENT_URL%/}/$version"
stem="$NAME-$version.$OVENPROOF_ARCH"

# fetch URL FILE CODE-WHEN-ABSENT
fetch() {
    local code=0 status
    status=$(curl --silent --show-error --location --retry 5 --retry-delay 2 --connect-timeout 15 --max-time 300 \
        --write-out '%{http_code}' --output "$2" "$1" 2>"$work/curl-error") || code=$?
    [[ $code -ne 18 ]] || fail package-truncated "$1 broke off before its end: $(<"$work/curl-error")"
    [[ $code -eq 0 ]] || fail fetch-failed "$1: $(<"$work/curl-error") (is there a route to the agent's bucket?)"
    case $status in
    200) ;;
    403 | 404) fail "$3" "$1 is not there (HTTP $status): check the agent's version and the region's artifact account" ;;
    *) fail fetch-failed "$1: HTTP status $status" ;;
    esac
}
package="$work/$stem.rpm"
fetch "$url/publickey.pem" "$work/publickey.pem" key-missing
fetch "$url/$OVENPROOF_ARCH/$stem.sig" "$work/$stem.sig" signature-missing
fetch "$url/$OVENPROOF_ARCH/$stem.rpm" "$package" package-missing

# An empty home holds the fetched key and nothing else. What gpg means is read from its machine-readable status.
install -d -m 0700 "$work/gnupg"
options=(--homedir "$work/gnupg" --batch --no-tty --no-options --trust-model always)
# No secret key, no agent: Amazon Linux 2023's gnupg2-minimal has none to start. GnuPG 2.0 knows neither the option.
if [[ $(gpg --dump-options) == *--no-autostart* ]]; then options+=(--no-autostart); fi
in_empty_home() { gpg "${options[@]}" "$@"; }
# gpg's exit code also counts an agent that it could not ask, so its status says whether there is a key.
in_empty_home --status-fd 1 --import "$work/publickey.pem" >"$work/import-status" 2>"$work/import" || echo "gpg --import ended with code $?" >>"$work/import"
grep -q '^\[GNUPG:\] IMPORT_OK ' "$work/import-status" ||
    fail key-mismatch "$url/publickey.pem is no OpenPGP key: $(head -n 1 "$work/import")"
keys=$(in_empty_home --with-colons --fingerprint --list-keys 2>/dev/null)
# `pub` opens a primary key (field 2 tells its validity); the first `fpr` after it is its full fingerprint.
primary=$(awk -F: '$1 == "pub" { open = 1; validity = $2; created = $6 }
    $1 == "fpr" && open { print $10 ":" validity ":" created; open = 0 }' <<<"$keys")
[[ $(wc -l <<<"$primary") -eq 1 ]] || fail key-mismatch \
    "publickey.pem holds $(wc -l <<<"$primary") primary keys, expected exactly one, $pinned"
IFS=: read -r fingerprint validity key_created <<<"$primary"
[[ $fingerprint == "$pinned" ]] || fail key-mismatch \
    "publickey.pem holds the key ${fingerprint:-(none)}, the catalog pins $pinned: do not use it until AWS explains the change"
case $validity in
e) fail key-expired "the key $fingerprint has expired: take the key, and its fingerprint, that AWS publishes now" ;;
r) fail key-revoked "the key $fingerprint was revoked by its owner" ;;
esac

# Only a detached signature says anything about the package. Handed a signed message in its place, GnuPG 2.0 (Amazon Linux 2)
# verifies the message's own content and never opens the package, so what the file holds is looked at first.
not_detached() {
    fail signature-bad "$stem.sig is no detached signature: it has to hold one signature packet and nothing else, found $1"
}
LAST_ASCII=127 # a packet begins with the highest bit set, so anything else is text, and only armor is looked for in it
if [[ -s $work/$stem.sig ]] && (($(head -c 1 "$work/$stem.sig" | od -An -t u1) <= LAST_ASCII)); then
    frame=$(tr -d '\r' <"$work/$stem.sig" | sed '/^[[:space:]]*$/d' | sed -n '1p; $p; /^-----/p' | tr '\n' ' ')
    begin='-----BEGIN PGP SIGNATURE----- ' end='-----END PGP SIGNATURE----- '
    # The first line, each line of dashes, the last line: nothing stands before, between or behind.
    [[ $frame == "$begin$begin$end$end" ]] || not_detached "text that is not one armored signature"
fi
unreadable=0
in_empty_home --list-packets "$work/$stem.sig" >"$work/packets" 2>"$work/packets-error" || unreadable=$?
packets=$(sed -n 's/^:\([^:]*\):.*/\1/p' "$work/packets")
[[ $packets == 'signature packet' ]] || not_detached "$(tr '\n' ',' <<<"${packets:-no packet at all}" | sed 's/,$//; s/,/, /g')"
[[ $unreadable -eq 0 ]] || not_detached "bytes that are no packet: $(tail -n 1 "$work/packets-error")"

verified=0
in_empty_home --status-fd 1 --verify "$work/$stem.sig" "$package" >"$work/status" 2>"$work/verify" || verified=$?
has() { grep -q "^\[GNUPG:\] $1\( \|\$\)" "$work/status"; }

# A package shorter than its own header says was cut, whoever signed it. Only asked once the signature was refused.
refuse_altered_package() {
    local declared
    declared=$(rpm -qp --nosignature --nodigest --qf '%|LONGSIGSIZE?{%{LONGSIGSIZE}}:{%{SIGSIZE}}|' "$package" 2>/dev/null) || declared=
    if [[ $declared =~ ^[0-9]+$ && $(stat -c %s "$package") -lt $declared ]]; then
        fail package-truncated "$stem.rpm has $(stat -c %s "$package") bytes, its header declares more than $declared"
    fi
    fail signature-bad "BADSIG: $stem.rpm is not what the key $pinned signed: package or signature was altered"
}
if has BADSIG; then refuse_altered_package; fi
if has REVKEYSIG; then fail key-revoked "REVKEYSIG: $stem.rpm was signed by $fingerprint, which is revoked"; fi
if has EXPKEYSIG; then fail key-expired "EXPKEYSIG: $stem.rpm was signed by $fingerprint, which has expired"; fi
if has EXPSIG; then fail signature-expired "EXPSIG: the signature of $stem.rpm has expired"; fi
if has NO_PUBKEY; then fail signature-other-key \
    "ERRSIG: $stem.rpm was signed by key $(awk '$2 == "NO_PUBKEY" { print $3; exit }' "$work/status"), not by $pinned"; fi
if has ERRSIG; then fail signature-bad "ERRSIG: the signature of $stem.rpm cannot be checked: $(tail -n 1 "$work/verify")"; fi
valid=$(awk '$2 == "VALIDSIG" { print $5, $11, $NF }' "$work/status")
if [[ $verified -ne 0 ]] || ! has GOODSIG || [[ -z $valid ]]; then
    fail signature-bad "gpg found no valid signature in $stem.sig: $(tail -n 1 "$work/verify")"
fi
[[ $(wc -l <<<"$valid") -eq 1 ]] || fail signature-bad "$stem.sig holds $(wc -l <<<"$valid") signatures, expected exactly one"
read -r signed_at class by <<<"$valid" # the last field is the primary key also where a subkey signed
# Class 01 signs text, in which line ends and trailing blanks count for nothing: not so in a package.
[[ $class == 00 ]] || fail signature-bad "$stem.sig has a signature of class $class, expected 00, one of the package's very bytes"
[[ $by == "$pinned" ]] || fail signature-other-key "$stem.rpm was signed by $by, not by $pinned"
sha256=$(sha256sum "$package" | cut -d ' ' -f 1)
echo "$stem.rpm: good signature by $by, sha256 $sha256"

# Only now is the package's own word worth reading. Its own digests are checked as rpm reads it.
# SHA1HEADER tells two builds apart, and is what rpm 4.11 of Amazon Linux 2 knows as well; trust came from the signature.
header='%{NAME} %{VERSION} %{RELEASE} %{ARCH} %{BUILDTIME}-%{SHA1HEADER}\n'
facts=$(rpm -qp --nosignature --qf "$header" "$package" 2>"$work/rpm-error") ||
    fail package-truncated "rpm cannot read $stem.rpm: $(tail -n 1 "$work/rpm-error")"
read -r found_name found_version found_release found_arch _ <<<"$facts"
[[ $found_arch == "$header_arch" ]] || fail arch-mismatch "$stem.rpm is for $found_arch, expected $header_arch"
[[ $found_name == "$NAME" && $found_version == "$version" ]] || fail package-mismatch \
    "$stem.rpm holds $found_name $found_version, expected $NAME $version"

installed=already-there
if [[ $(rpm -q --qf "$header" "$NAME" 2>/dev/null) != "$facts" ]]; then
    # The catalog decides the version, also when the base came with a newer one.
    rpm -Uvh --replacepkgs --oldpackage "$package" || fail install-failed "rpm could not install $stem.rpm; its message stands above"
    installed=installed
fi

install -D -m 0755 "$STATE/rootfs$GENERATOR" "$ROOT$GENERATOR"
systemctl daemon-reload
systemctl enable "$UNIT" || fail unit-missing "$stem.rpm brought no unit $UNIT that can be enabled"
[[ $(systemctl is-enabled "$UNIT") == enabled ]] || fail unit-not-enabled \
    "$UNIT is '$(systemctl is-enabled "$UNIT")' after it was enabled"
memlock=$(systemctl show -p LimitMEMLOCK "$UNIT" | cut -d = -f 2)
if [[ $(printf '%s\n' 5.11 "$(uname -r)" | sort -V | head -n 1) != 5.11 && $memlock != infinity ]] && ((${#memlock} < 19 && memlock < LEAST_MEMLOCK)); then
    fail memlock-too-low "$UNIT may lock $memlock bytes, and kernel $(uname -r) needs at least $LEAST_MEMLOCK: see $GENERATOR"
fi

# Whether it stays up is for the checks to say (60-run-checks.sh): without an endpoint it exits and is started again.
systemctl restart --no-block "$UNIT"

iso() { if [[ $1 =~ ^[0-9]+$ ]]; then date -u -d "@$1" +%Y-%m-%dT%H:%M:%SZ; else echo "$1"; fi; }
cat >"$STATE/agent" <<FACTS
name=$found_name
version=$found_version
release=$found_release
arch=$found_arch
fingerprint=$by
sha256=$sha256
size_bytes=$(stat -c %s "$package")
signed_at=$(iso "$signed_at")
key_created_at=$(iso "$key_created")
url=$url/$OVENPROOF_ARCH/$stem.rpm
installed=$installed
FACTS
