"""What a bake leaves behind: both forms, and how they are found and read again.

The pages for people lie in tests/golden/records, the schema beside the module. After a change that is meant, write
them anew with `OVENPROOF_GOLDEN=write pytest tests/test_record.py`, and look at the difference.
"""

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline import paths
from pipeline.coverage import Coverage
from pipeline.errors import BakeError, CatalogError, ProofError, UsageError
from pipeline.packer_output import Timing
from pipeline.record import (
    SCHEMA,
    EvidenceFile,
    Record,
    Sbom,
    expected_seconds,
    find_record,
    latest_record,
    read_evidence,
    read_facts,
    record_schema,
    who_bakes,
    write_record,
)
from tests.records import INPUTS, START, TIMINGS, check_report, facts, proof, record

GOLDEN = Path(__file__).parent / "golden" / "records"


def unproven() -> Record:
    """The second bake of the variant: slower, with a newer agent asked for, and a check that fails."""
    return record(
        bake_id="20261124-0900-y",
        started_at=START + timedelta(hours=21),
        ended_at=START + timedelta(hours=21, minutes=6),
        inputs=INPUTS.model_copy(update={"agent_version": "1.18.0"}),
        proof=proof(
            checks=check_report("first-boot", failed=("agent-memlock",)),
            coverage=Coverage(
                instance_id="i-0123456789abcdef0", status="UNHEALTHY", issue="Agent Disconnected", remedy="look"
            ),
            failures=(
                "the agent may lock 32 MB: expected yes, found no | nothing; see images/hardening.yaml",
                "GuardDuty coverage: expected HEALTHY, found UNHEALTHY (Agent Disconnected); look",
            ),
        ),
        timings=[
            Timing(name=name, kind=kind, seconds=seconds * (2 if name == "connect to the builder" else 1))  # type: ignore[arg-type]
            for name, kind, seconds in TIMINGS
        ],
        previous=record(),
    )


def golden(path: Path, text: str) -> None:
    if os.environ.get("OVENPROOF_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "one"), [("first-and-proven", record()), ("second-and-not-proven", unproven())])
def test_the_page_for_people(name: str, one: Record) -> None:
    golden(GOLDEN / f"{name}.md", one.as_markdown())


def test_a_slower_phase_is_a_warning() -> None:
    assert unproven().warnings[-1] == "slower than the last bake: connect to the builder took 1 min 22 s, before 41 s"


def test_the_schema_is_the_types() -> None:
    golden(SCHEMA, record_schema())


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    one = unproven()
    path = write_record(one, tmp_path / one.bake_id)
    assert sorted(file.name for file in path.parent.iterdir()) == ["record.json", "record.md"]
    for reference in (str(path), str(path.parent), one.bake_id):
        assert find_record(reference, [tmp_path]) == one


def test_an_unknown_record_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        find_record("nonsense", [tmp_path])
    assert str(caught.value) == (
        "there is no record nonsense\n"
        "  expected: a bake id, or the path of a record\n"
        "  found:    no bake has left a record yet\n"
        f"  where:    {tmp_path}\n"
        "  do:       run `./run build-image` first"
    )
    write_record(record(), tmp_path / "20261123-1200-x")
    with pytest.raises(UsageError) as caught:
        find_record("nonsense", [tmp_path])
    assert caught.value.expected == "a bake id, or the path of a record; the newest are 20261123-1200-x"


def test_a_damaged_record_says_which_field(tmp_path: Path) -> None:
    path = write_record(record(), tmp_path / "x")
    path.write_text(path.read_text().replace('"bake_id"', '"bakeid"'))
    with pytest.raises(CatalogError) as caught:
        find_record("x", [tmp_path])
    assert str(caught.value) == (
        "a record cannot be read\n"
        "  expected: what Ovenproof wrote, see pipeline/record.schema.json\n"
        "  found:    bake_id: Field required (and 1 more)\n"
        f"  where:    {path}\n"
        "  do:       restore the file, or remove its folder if nobody needs it"
    )


def test_the_latest_record_is_the_newest_proven_one_of_the_variant(tmp_path: Path) -> None:
    def ask() -> Record | None:
        return latest_record(tmp_path, variant="ecs-al2-kernel-5.10", flavour="x86_64")

    assert ask() is None
    other = INPUTS.model_copy(update={"flavour": "arm64"})
    newer = record(bake_id="b", ended_at=START + timedelta(days=1))
    for one in (record(), newer, unproven(), record(bake_id="z", inputs=other, ended_at=START + timedelta(days=9))):
        write_record(one, tmp_path / one.bake_id)
    assert ask() == newer


def test_what_phases_took_is_what_is_expected_next_time() -> None:
    assert expected_seconds(None) == {}
    assert expected_seconds(record())["connect to the builder"] == 41


def test_facts_are_read_field_by_field(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(facts()))
    assert read_facts(path) == record().guest


@pytest.mark.parametrize(
    ("other", "found"),
    [
        ({"shoe_size": 43}, "shoe_size: Extra inputs are not permitted"),
        ({"kernel": 5.10}, "kernel: Input should be a valid string"),
        ({"schema": 2}, "schema: Input should be 1"),
        (
            {"packages": [{"source": "snap", "name": "a", "version": "1", "arch": "x"}]},
            "packages > 0 > source: Input should be 'rpm' or 'deb'",
        ),
    ],
)
def test_facts_not_as_agreed_name_the_field(tmp_path: Path, other: dict[str, Any], found: str) -> None:
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(facts(**other)))
    with pytest.raises(BakeError) as caught:
        read_facts(path)
    assert str(caught.value) == (
        "the facts that the builder wrote down cannot be used\n"
        "  expected: the fields of pipeline.record.GuestFacts\n"
        f"  found:    {found}\n"
        f"  where:    {path}\n"
        "  do:       make images/provision/70-collect-facts.sh and pipeline/record.py agree"
    )


def test_missing_facts_say_so(tmp_path: Path) -> None:
    with pytest.raises(BakeError, match="No such file or directory"):
        read_facts(tmp_path / "facts.json")


def test_a_report_not_as_agreed_is_no_proof() -> None:
    with pytest.raises(ProofError) as caught:
        record(proof=proof(checks={**check_report("first-boot"), "at": "midnight"}))
    assert caught.value.found == "at: Input should be 'bake', 'first-boot' or 'running'"


def evidence(folder: Path, sbom: str) -> None:
    (folder / "node.sbom.cdx.json").write_text(sbom)
    (folder / "node.provenance.json").write_text("{}")


def test_evidence_is_named_with_its_digests(tmp_path: Path) -> None:
    evidence(tmp_path, '{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"name": "bash"}]}')
    assert read_evidence(tmp_path) == (
        Sbom(
            file="node.sbom.cdx.json",
            sha256="c0b006e139939b68d5fe1a8d3daaec7598f9d26790da3413c040d99f7eb9952c",
            spec_version="1.6",
            components=1,
        ),
        EvidenceFile(
            file="node.provenance.json",
            sha256="44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        ),
    )


@pytest.mark.parametrize(
    ("sbom", "found"),
    [
        ('{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": []}', "0 components"),
        ('{"spdxVersion": "SPDX-2.3"}', "another format"),
        ("nonsense", "another format"),
        ("[]", "another format"),
    ],
)
def test_an_unusable_sbom_is_refused(tmp_path: Path, sbom: str, found: str) -> None:
    evidence(tmp_path, sbom)
    with pytest.raises(BakeError) as caught:
        read_evidence(tmp_path)
    assert str(caught.value) == (
        "the software bill of materials is not usable\n"
        "  expected: CycloneDX in JSON, with at least one component\n"
        f"  found:    {found}\n"
        f"  where:    {tmp_path / 'node.sbom.cdx.json'}\n"
        "  do:       look for the scanner's messages in Packer's log beside it"
    )


def test_evidence_of_two_bakes_in_one_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BakeError) as caught:
        read_evidence(tmp_path)
    assert caught.value.found == "none"
    (tmp_path / "a.sbom.cdx.json").touch()
    (tmp_path / "b.sbom.cdx.json").touch()
    with pytest.raises(BakeError) as caught:
        read_evidence(tmp_path)
    assert caught.value.found == "a.sbom.cdx.json, b.sbom.cdx.json"


def test_who_bakes_is_asked_of_git_and_the_machine(tmp_path: Path) -> None:
    outside = who_bakes({"CODEBUILD_BUILD_ID": "ovenproof:1"}, checkout=tmp_path)
    assert (outside.commit, outside.dirty, outside.ci_build) == ("", False, "ovenproof:1")
    inside = who_bakes({}, checkout=paths.CHECKOUT)
    assert len(inside.commit) in (0, 40)
