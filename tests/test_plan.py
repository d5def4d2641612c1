"""What makes a bake necessary, and how the plan says so."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from pipeline.base import Base
from pipeline.catalog import load_catalog
from pipeline.errors import CatalogError
from pipeline.plan import (
    BakeInputs,
    Change,
    Decision,
    Lock,
    PlanRow,
    changes,
    collect_inputs,
    decide,
    digest_files,
    end_of_support_warning,
    lock_path,
    plan_text,
    read_lock,
    write_lock,
)
from pipeline.render import template_context

INPUTS = BakeInputs(
    variant="ecs-al2-kernel-5.10",
    flavour="x86_64",
    target="aws",
    region="eu-central-1",
    base_id="ami-1",
    base_name="amzn2-ami-ecs-kernel-5.10-hvm-2.0.20260922-x86_64-ebs",
    agent_version="1.16.0",
    agent_fingerprint="A" * 40,
    agent_url="https://bucket.s3.eu-central-1.amazonaws.com",
    settings={"builder_instance_type": "c6i.large", "root_volume_gib": "30"},
    tools={"packer": "1.16.0"},
    files={"images/provision/30-install-agent.sh": "a" * 64, "images/ecs-node.pkr.hcl.j2": "b" * 64},
    stand_ins={},
    rendered_template="c" * 64,
)
LOCK = Lock(
    bake_id="20261123-1200-x",
    proven_at=datetime(2026, 11, 23, 12, 30, tzinfo=UTC),
    images={"eu-central-1": "ami-9"},
    record="20261123-1200-x/record.json",
    inputs=INPUTS,
)


def but(**other: object) -> BakeInputs:
    return INPUTS.model_copy(update=other)


@pytest.mark.parametrize(
    ("new", "reasons"),
    [
        (INPUTS, []),
        (but(agent_version="1.17.1"), ["agent version: 1.16.0 -> 1.17.1"]),
        (
            but(base_id="ami-2", base_name="amzn2-ami-ecs-kernel-5.10-hvm-2.0.20260924-x86_64-ebs"),
            [
                "base: ami-1 (amzn2-ami-ecs-kernel-5.10-hvm-2.0.20260922-x86_64-ebs) -> "
                "ami-2 (amzn2-ami-ecs-kernel-5.10-hvm-2.0.20260924-x86_64-ebs)"
            ],
        ),
        (but(agent_fingerprint="B" * 40), [f"agent key: {'A' * 40} -> {'B' * 40}"]),
        (
            but(settings={"builder_instance_type": "c6i.xlarge", "kms_key_id": "alias/bake"}),
            [
                "setting builder_instance_type: c6i.large -> c6i.xlarge",
                "setting kms_key_id: none -> alias/bake",
                "setting root_volume_gib: 30 -> none",
            ],
        ),
        (but(tools={"packer": "1.17.0"}), ["tool packer: 1.16.0 -> 1.17.0"]),
        (
            but(
                files={
                    "images/provision/30-install-agent.sh": "d" * 64,
                    "images/rootfs/etc/issue": "e" * 64,
                    "images/checks/ecs.yaml": "e" * 64,
                },
                rendered_template="f" * 64,
            ),
            [
                "check ecs.yaml added",
                "images/ecs-node.pkr.hcl.j2 removed",
                "provision script 30-install-agent.sh changed",
                "file of the image /etc/issue added",
            ],
        ),
        (but(stand_ins={"base guest": "f" * 64}), ["stand-in base guest: none -> ffffffffffff"]),
        (but(rendered_template="f" * 64), ["rendered template: cccccccccccc -> ffffffffffff"]),
    ],
)
def test_each_input_that_differs_is_a_reason(new: BakeInputs, reasons: list[str]) -> None:
    assert [str(change) for change in changes(INPUTS, new)] == reasons
    decision = decide(new, LOCK, image_exists=True, force=False)
    assert (decision.bake, [str(reason) for reason in decision.reasons]) == (bool(reasons), reasons)


@pytest.mark.parametrize(
    ("lock", "image_exists", "force", "reasons"),
    [
        (None, False, False, ["never baked and proven here"]),
        (LOCK, False, False, ["the image of the last bake is gone (ami-9 in eu-central-1)"]),
        (LOCK, True, True, ["asked for with --force"]),
        (LOCK, True, False, []),
    ],
)
def test_reasons_that_are_no_input(lock: Lock | None, image_exists: bool, force: bool, reasons: list[str]) -> None:
    decision = decide(INPUTS, lock, image_exists=image_exists, force=force)
    assert decision.bake == bool(reasons)
    assert [str(reason) for reason in decision.reasons] == reasons


def test_equal_inputs_have_one_digest() -> None:
    assert INPUTS.digest() == BakeInputs.model_validate_json(INPUTS.model_dump_json()).digest()
    assert INPUTS.digest() != but(agent_version="1.17.1").digest()


def test_a_lock_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "ecs-al2-kernel-5.10-x86_64.json"
    assert read_lock(path) is None
    write_lock(path, LOCK)
    assert read_lock(path) == LOCK
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "the file: Invalid JSON: EOF while parsing an object at line 1 column 1"),
        (
            json.dumps({**json.loads(LOCK.model_dump_json()), "bake_id": 7}),
            "bake_id: Input should be a valid string",
        ),
        (
            json.dumps({**json.loads(LOCK.model_dump_json()), "schema_version": 2}),
            "schema_version: Input should be 1",
        ),
    ],
)
def test_a_damaged_lock_says_which_file_and_what_to_do(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "lock.json"
    path.write_text(text)
    with pytest.raises(CatalogError) as caught:
        read_lock(path)
    assert str(caught.value) == (
        "a lock cannot be read\n"
        "  expected: what Ovenproof wrote after the last proven bake\n"
        f"  found:    {found}\n"
        f"  where:    {path}\n"
        "  do:       restore the file from git, or delete it: the next `./run build-image` bakes and writes it anew"
    )


def collected(**files: str) -> BakeInputs:
    catalog = load_catalog()
    selection = catalog.select("ecs-al2-kernel-5.10", "x86_64")
    base = Base(
        id="ami-1",
        name="amzn2-ami-ecs-kernel-5.10-hvm-2.0.20260924-x86_64-ebs",
        created=datetime(2026, 9, 24, tzinfo=UTC),
        image_version="2.0.20260924",
        ecs_agent_version="1.107.0",
        architecture="x86_64",
        parameter="/aws/service/ecs/optimized-ami/amazon-linux-2/kernel-5.10/recommended",
        region="eu-central-1",
    )
    return collect_inputs(
        catalog=catalog,
        selection=selection,
        target="aws",
        region="eu-central-1",
        base=base,
        agent_url=catalog.agent.artifact_url("eu-central-1"),
        agent_fingerprint=catalog.agent.key_fingerprint,
        context=template_context(catalog, selection, "aws"),
        tools={"packer": "1.16.0"},
        files=files,
        stand_ins={},
    )


def test_inputs_name_what_the_catalog_and_the_target_decide() -> None:
    inputs = collected()
    assert inputs.agent_version == load_catalog().agent.version
    assert inputs.settings["builder_instance_type"] == "c6i.large"
    assert inputs.settings["target.ssh_interface"] == "session_manager"
    assert inputs.settings["deprecate_after_days"].isdigit()
    assert not {"variant", "slug", "agent_version"} & set(inputs.settings)
    assert collected() == inputs


def test_every_file_that_goes_into_an_image_counts_by_its_path(tmp_path: Path) -> None:
    script = tmp_path / "images" / "provision" / "30-install-agent.sh"
    script.parent.mkdir(parents=True)
    script.write_text("echo one\n")
    (tmp_path / "images" / "catalog.yaml").write_text("not a file of the image\n")
    before = digest_files(tmp_path / "images")
    assert set(before) == {"images/provision/30-install-agent.sh"}
    script.chmod(0o755)
    with_mode = digest_files(tmp_path / "images")
    script.write_text("echo two\n")
    assert len({*before.values(), *with_mode.values(), *digest_files(tmp_path / "images").values()}) == 3


ROWS = (
    PlanRow(
        name="ecs-al2-kernel-5.10/x86_64",
        decision=Decision(
            bake=True,
            reasons=(
                Change(what="agent version", old="1.16.0", new="1.17.1"),
                Change(what="provision script 30-install-agent.sh changed"),
            ),
        ),
        lock=LOCK,
        warnings=("past its end of support",),
    ),
    PlanRow(name="ecs-al2023/x86_64", decision=Decision(bake=False, reasons=()), lock=LOCK),
    PlanRow(name="ecs-al2023/gpu", decision=None, lock=None, problem="the base is too old\n  found: [90] days"),
)


def test_the_plan_as_plain_lines() -> None:
    assert plan_text(ROWS) == (
        "ecs-al2-kernel-5.10/x86_64  bake        agent version: 1.16.0 -> 1.17.1\n"
        "                                        provision script 30-install-agent.sh changed\n"
        "                                        warning: past its end of support\n"
        "ecs-al2023/x86_64           up to date  ami-9, proven 2026-11-23 by bake 20261123-1200-x\n"
        "ecs-al2023/gpu              refused     the base is too old\n"
        "                                          found: [90] days"
    )
    assert plan_text(()) == ""


@pytest.mark.parametrize(
    ("today", "warning"),
    [
        (date(2026, 3, 31), ""),
        (
            date(2026, 4, 1),
            "ecs-al2-kernel-5.10 reaches its end of support on 2026-06-30, in 90 days: plan the move",
        ),
        (
            date(2026, 6, 30),
            "ecs-al2-kernel-5.10 reaches its end of support on 2026-06-30, in 0 days: plan the move",
        ),
        (
            date(2026, 11, 23),
            "ecs-al2-kernel-5.10 is past its end of support since 2026-06-30 (146 days): plan the move",
        ),
    ],
)
def test_end_of_support_is_said_in_time(today: date, warning: str) -> None:
    assert end_of_support_warning(load_catalog().select("ecs-al2-kernel-5.10", "x86_64"), today) == warning


def test_a_lock_lies_by_variant_and_flavour() -> None:
    selection = load_catalog().select("ecs-al2-kernel-5.10", "arm64")
    assert lock_path(Path("locks"), selection) == Path("locks/ecs-al2-kernel-5.10-arm64.json")
