#!/bin/bash
# Write down what the image is made of: facts.json for the record, the package databases for the SBOM.
set -euo pipefail
export LC_ALL=C

export STATE=/var/tmp/ovenproof

python3 - <<'PYTHON'
import json, os, platform, re, subprocess

STATE = os.environ["STATE"]
# Besides those that the image sets: what else says how the host treats containers, eBPF and shared folders.
MORE_SYSCTLS = (
    "net.ipv4.ip_forward net.ipv4.conf.all.route_localnet kernel.perf_event_paranoid fs.protected_fifos fs.protected_regular"
).split()
LEFT_OUT = "/proc /sys /dev /run /tmp /var/tmp /var/log /var/cache /var/lib/docker /var/lib/cloud /var/lib/ecs/data /home /root".split()


def output(*argv):
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def settings(text):
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip().strip('"') for key, _, value in pairs}


def read(path):
    with open(path) as file:
        return file.read()


def packages():
    rpm = output("rpm", "-qa", "--qf", r"rpm\t%{NAME}\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\t%{ARCH}\n") or ""
    deb = output("dpkg-query", "-W", "-f", r"${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\n") or ""
    found = []
    for line in (rpm + deb).splitlines():
        source, name, version, arch = line.split("\t")
        if source == "rpm" or source.startswith("ii"):
            found.append({"source": "rpm" if source == "rpm" else "deb", "name": name, "version": version, "arch": arch})
    return sorted(found, key=lambda one: (one["source"], one["name"], one["arch"], one["version"]))


def number(text):
    return int(text) if text and text.isdigit() and int(text) < 1 << 62 else None


def agent():
    known = settings(read(STATE + "/agent"))
    known["size_bytes"] = int(known["size_bytes"])
    unit = settings(output(
        "systemctl", "show", "-p",
        "UnitFileState,ActiveState,SubState,MemoryMax,MemoryLimit,LimitMEMLOCK,CPUQuotaPerSecUSec", "amazon-guardduty-agent.service",
    ))
    limits = [limit for limit in (number(unit.get("MemoryMax")), number(unit.get("MemoryLimit"))) if limit is not None]
    quota = re.findall(r"(\d+(?:\.\d+)?)(s|ms)\b", unit.get("CPUQuotaPerSecUSec", ""))
    known.update(
        unit={"enabled": unit["UnitFileState"], "active": unit["ActiveState"], "sub": unit["SubState"]},
        memory_max_bytes=min(limits) if limits else None,
        memlock_bytes=number(unit.get("LimitMEMLOCK")),
        cpu_quota_percent=round(sum(float(value) * (100 if of == "s" else 0.1) for value, of in quota)) if quota else None,
    )
    return known


def installed_bytes():
    """Sizes of the files that the bake put there: their inodes changed after its first script began."""
    argv = ["find", "/", "-xdev"]
    for path in LEFT_OUT:
        argv += ["-path", path, "-prune", "-o"]
    sizes = output(*argv, "-type", "f", "-cnewer", STATE + "/started", "-printf", r"%s\n") or ""
    return sum(int(size) for size in sizes.split())


units = output("systemctl", "list-unit-files", "--state=enabled", "--no-legend", "--no-pager") or ""
set_by_image = settings(read("/etc/sysctl.d/90-ovenproof.conf"))
sysctls = settings(output("sysctl", "--ignore", *sorted([*set_by_image, *MORE_SYSCTLS])) or "")
facts = {
    "schema": 1,
    "kernel": platform.release(),
    "arch": platform.machine(),
    "os_release": settings(read("/etc/os-release")),
    "packages": packages(),
    "units_enabled": sorted(line.split()[0] for line in units.splitlines()),
    "sysctls": sysctls,
    "agent": agent(),
    "ecs": {"init_version": (output("rpm", "-q", "--qf", "%{VERSION}-%{RELEASE}", "ecs-init"))},
    "docker_version": (output("docker", "version", "--format", "{{.Server.Version}}") or "").strip() or None,
    "installed_bytes": installed_bytes(),
    "release": settings(read("/etc/ovenproof-release")),
    "checks": json.loads(read(STATE + "/checks.json")),
}
with open(STATE + "/facts.json", "w") as file:
    json.dump(facts, file, sort_keys=True)
print("facts: {} packages, {} units enabled, {} bytes installed by the bake".format(
    len(facts["packages"]), len(facts["units_enabled"]), facts["installed_bytes"]))
PYTHON

# The package databases at their own paths, so that a scanner finds in a folder what it would find on the disk.
shopt -s nullglob
parts=(/etc/os-release /usr/lib/os-release /etc/system-release "$(rpm --eval '%{_dbpath}')" /var/lib/dpkg/status /var/lib/dpkg/status.d)
existing=()
for part in "${parts[@]}"; do
    if [[ -e $part ]]; then existing+=("${part#/}"); fi
done
tar --create --gzip --file "$STATE/package-databases.tar.gz" --exclude='.rpm.lock' --exclude='__db.*' --directory / "${existing[@]}"
# Packer fetches both as the login user.
chmod 0644 "$STATE/facts.json" "$STATE/package-databases.tar.gz"
