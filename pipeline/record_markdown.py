"""A record in, Markdown for people out: the verdict first, then what it is, what changed, the checks, the time."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pipeline.progress import duration

if TYPE_CHECKING:
    from pipeline.record import CheckReport, Record


def as_markdown(record: "Record") -> str:
    """The whole page."""
    sections = [
        _headline(record),
        _list("Why it is not proven", record.proof.failures),
        _list("Warnings", record.warnings),
        _stand_ins(record),
        _facts(record),
        _changes(record),
        _checks(record),
        _time(record),
        _contents(record),
        _inputs(record),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _headline(record: "Record") -> str:
    verdict = "proven" if record.proven else "NOT PROVEN"
    images = ", ".join(f"`{image}` in {region}" for region, image in sorted(record.images.items()))
    took = duration((record.ended_at - record.started_at).total_seconds())
    where = "in AWS" if record.target == "aws" else "in a rehearsal on one machine"
    coverage = record.proof.coverage
    heard = f"GuardDuty coverage of it was {coverage.status}" + (f" ({coverage.issue})" if coverage.issue else "")
    return (
        f"# {record.name}: {verdict}\n\n"
        f"Image {images}, baked {where} on {record.started_at:%Y-%m-%d %H:%M} UTC in {took} "
        f"(bake `{record.bake_id}`).\n"
        f"The proof ran on `{record.proof.instance_id}`, an instance launched from the finished image; {heard}."
    )


def _stand_ins(record: "Record") -> str:
    if not record.stand_ins:
        return ""
    return (
        "## Not the real thing\n\n"
        "In this bake these parts were stand-ins. What depends on them says nothing about AWS's own.\n\n"
        + _table(("part", "played by"), ((one.part, one.played_by) for one in record.stand_ins))
    )


def _facts(record: "Record") -> str:
    guest, agent, base = record.guest, record.guest.agent, record.base
    signature = f"good, by key `{agent.fingerprint}`, made {agent.signed_at}"
    made = record.made_by
    commit = f"commit `{made.commit[:12]}`" + (" with changes not committed" if made.dirty else "")
    return "## What it is\n\n" + _table(
        ("", ""),
        (
            ("Base", f"{base.name} (`{base.id}`), {base.age_days} days old" + (f"; {base.waiver}" * bool(base.waiver))),
            ("Kernel", f"{record.proof.kernel} on the new instance"),
            ("Distribution", guest.os_release.get("PRETTY_NAME", guest.os_release.get("ID", "unknown"))),
            ("GuardDuty agent", f"{agent.version}-{agent.release} ({agent.arch}), unit {agent.unit.enabled}"),
            ("Agent's package", f"`{agent.sha256}`, {agent.size_bytes} bytes, from {agent.url}"),
            ("Agent's signature", signature),
            ("Agent's limits", _limits(record)),
            ("ECS", f"ecs-init {guest.ecs.init_version or 'none'}; docker {guest.docker_version or 'none'}"),
            ("Packages", f"{len(guest.packages)}, {_mib(guest.installed_bytes)} put on disk by the bake"),
            ("Units enabled", str(len(guest.units_enabled))),
            ("Made by", f"{made.user} on {made.host}" + (f", CI build {made.ci_build}" if made.ci_build else "")),
            ("Made from", commit if made.commit else "no git checkout"),
            (
                "SBOM",
                f"`{record.sbom.file}`, CycloneDX {record.sbom.spec_version}, {record.sbom.components} components, "
                f"sha256 `{record.sbom.sha256[:12]}…`",
            ),
            ("Provenance", f"`{record.provenance.file}`, sha256 `{record.provenance.sha256[:12]}…`"),
        ),
    )


def _limits(record: "Record") -> str:
    agent = record.guest.agent
    memory = "no memory limit" if agent.memory_max_bytes is None else f"memory {_mib(agent.memory_max_bytes)}"
    locked = "unlimited" if agent.memlock_bytes is None else _mib(agent.memlock_bytes)
    cpu = "no CPU limit" if agent.cpu_quota_percent is None else f"{agent.cpu_quota_percent} % of a CPU"
    return f"{memory} and {cpu} on the builder (computed anew at each boot); locked memory {locked}"


def _changes(record: "Record") -> str:
    if record.difference is None:
        return "## What changed\n\nThis is the first proven record of this variant and flavour here."
    return f"## What changed since {record.difference.before}\n\n{record.difference.as_markdown()}"


def _checks(record: "Record") -> str:
    bake, proof = record.guest.checks, record.proof.checks
    lines = ["## Checks", ""]
    for report, where in ((bake, "on the builder"), (proof, "on the new instance")):
        for failure in report.failures:
            lines += [
                f"**FAILED {where}: {failure.title}** (`{failure.id}`)",
                "",
                f"- expected: {failure.expected}",
                f"- found: {failure.found}",
                f"- do: {failure.remedy}",
                "",
            ]
    topics = sorted({check.topic for report in (bake, proof) for check in report.checks})
    lines.append(
        _table(
            ("topic", "on the builder", "on the new instance"),
            ((topic, _score(bake, topic), _score(proof, topic)) for topic in topics),
        )
    )
    skipped = {one.id: f"{one.title}: {one.why}" for report in (bake, proof) for one in report.not_applicable}
    if skipped:
        lines += ["", *_folded(f"{len(skipped)} not applicable", (f"- {text}" for text in skipped.values()))]
    titles = (f"- {check.topic}: {check.title}" + ("" if check.passed else " **FAILED**") for check in proof.checks)
    lines += ["", *_folded(f"All {len(proof.checks)} checks of the new instance", titles)]
    return "\n".join(lines)


def _score(report: "CheckReport", topic: str) -> str:
    passed = Counter(check.passed for check in report.checks if check.topic == topic)
    if not passed:
        return ""
    return f"{passed[True]} passed" + (f", **{passed[False]} FAILED**" if passed[False] else "")


def _time(record: "Record") -> str:
    slow = {item.name: item for item in record.difference.slower} if record.difference else {}
    rows = [
        (
            timing.name,
            timing.kind,
            duration(timing.seconds),
            f"**slower: was {duration(slow[timing.name].before)}**" if timing.name in slow else "",
        )
        for timing in record.timings
    ]
    return "## Time\n\n" + _table(("phase or provisioner", "kind", "took", ""), rows)


def _contents(record: "Record") -> str:
    guest = record.guest
    packages = ((one.name, one.version, one.arch, one.source) for one in guest.packages)
    lines = [
        "## What is in it",
        "",
        *_folded(f"{len(guest.packages)} packages", [_table(("package", "version", "for", ""), packages)]),
        *_folded(f"{len(guest.units_enabled)} units enabled", (f"- {unit}" for unit in guest.units_enabled)),
        *_folded(f"{len(guest.sysctls)} kernel settings", [_table(("setting", "value"), guest.sysctls.items())]),
    ]
    return "\n".join(lines)


def _inputs(record: "Record") -> str:
    inputs = record.inputs
    rows = [
        ("agent source", inputs.agent_url),
        ("agent key", inputs.agent_fingerprint),
        *((f"tool {name}", value) for name, value in inputs.tools.items()),
        *((f"setting {name}", value) for name, value in inputs.settings.items()),
        *((f"stand-in {name}", f"`{value[:12]}`") for name, value in inputs.stand_ins.items()),
        *((name, f"`{value[:12]}`") for name, value in inputs.files.items()),
        ("rendered template", f"`{inputs.rendered_template[:12]}`"),
    ]
    head = f"## Inputs\n\nTogether `{record.inputs_digest}`. A change of any of them is a reason to bake."
    return "\n".join([head, "", *_folded(f"All {len(rows)}", [_table(("input", "value"), rows)])])


def _list(title: str, items: Sequence[str]) -> str:
    return f"## {title}\n\n" + "\n".join(f"- {item}" for item in items) if items else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _folded(summary: str, lines: Iterable[str]) -> list[str]:
    return [f"<details><summary>{summary}</summary>", "", *lines, "", "</details>"]


def _mib(size: int) -> str:
    return f"{size / 1024**2:.0f} MiB"
