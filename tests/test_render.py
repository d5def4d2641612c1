"""What Packer is given, for every variant, flavour and target.

The whole text lies in tests/golden/, to be read and reviewed. After a change that is meant, write it anew with
`OVENPROOF_GOLDEN=write pytest tests/test_render.py`, and look at the difference.
"""

import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline import paths, process, tags
from pipeline.base import Base
from pipeline.cache import Cache
from pipeline.catalog import TargetName, VariantSelection, load_catalog
from pipeline.errors import CatalogError, MachineError
from pipeline.progress import Progress
from pipeline.render import (
    Signing,
    TemplateContext,
    hcl_literal,
    image_name,
    packer_variables,
    render,
    template_context,
)
from pipeline.tools import Tools, ensure_tools

GOLDEN = Path(__file__).parent / "golden"
CATALOG = load_catalog()
PLAIN = CATALOG.select("ecs-al2-kernel-5.10", "x86_64")
EVERYTHING = [
    pytest.param(selection, target, id=f"{selection.slug}.{target}")
    for selection in CATALOG.selections()
    for target in CATALOG.targets
]


def golden(selection: VariantSelection, target: TargetName) -> Path:
    return GOLDEN / f"{selection.slug}.{target}.pkr.hcl"


def context(on: TargetName = "aws", **changes: Any) -> TemplateContext:
    return replace(template_context(CATALOG, PLAIN, on), **changes)


@pytest.mark.parametrize(("selection", "target"), EVERYTHING)
def test_rendered_as_reviewed(selection: VariantSelection, target: TargetName) -> None:
    rendered = render(template_context(CATALOG, selection, target))

    if os.environ.get("OVENPROOF_GOLDEN") == "write":
        golden(selection, target).write_text(rendered, encoding="utf-8")
    assert rendered == golden(selection, target).read_text(encoding="utf-8")


def test_no_golden_file_is_left_of_something_no_longer_shipped() -> None:
    shipped = {golden(selection, target) for selection in CATALOG.selections() for target in CATALOG.targets}

    assert set(GOLDEN.glob("*.pkr.hcl")) == shipped


NEVER_FORGOTTEN = [
    r'imds_support += "v2\.0"',
    r'http_tokens += "required"',
    r'instance_metadata_tags += "enabled"',
    r"encrypted += true",
    r"delete_on_termination += true",
    r'shutdown_behavior += "terminate"',
    r"deprecate_at += var\.deprecate_at",
    r"max_attempts += \d+",
    r'GuardDutyManaged += "false"',
    r"run_volume_tags += local\.bake_tags",
    r"snapshot_tags += local\.image_tags",
    r"temporary_iam_instance_profile_policy_document {",
    r'temporary_key_pair_type += "ed25519"',
    r"ssh_clear_authorized_keys += true",
    r"user_data += templatefile\(.*dead-man\.boothook\.tpl.*minutes = 90",
    r'post-processor "manifest" {',
    r'post-processor "provenance" {',
]
NEVER_THERE = [r"0\.0\.0\.0/0", r"::/0", r"encrypt_boot", r"ami_groups", r"ami_users", r"force_deregister", r"<<|<%|<#"]


@pytest.mark.parametrize("target", CATALOG.targets)
def test_what_must_never_be_missing_nor_appear(target: TargetName) -> None:
    rendered = render(context(target))

    assert [pattern for pattern in NEVER_FORGOTTEN if not re.search(pattern, rendered)] == []
    assert [pattern for pattern in NEVER_THERE if re.search(pattern, rendered)] == []


def test_the_tags_are_those_the_sweeper_knows() -> None:
    rendered = render(context())

    for key in (tags.BAKE_ID, tags.OWNER, tags.EXPIRES_AT):
        assert re.search(rf"^    {key} += var\.", rendered, re.MULTILINE)
    assert re.search(rf'^    {tags.STATE} += "baked"', rendered, re.MULTILINE)
    assert re.search(rf'^    {tags.EXCLUDE_FROM_MANAGED_AGENT} += "false"', rendered, re.MULTILINE)


def test_the_temporary_role_may_open_a_session_and_nothing_else() -> None:
    actions = re.findall(r'^ +"([a-z0-9]+:\w+)",$', render(context()), re.MULTILINE)

    assert actions == [
        "ssm:UpdateInstanceInformation",
        "ssmmessages:CreateControlChannel",
        "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel",
        "ssmmessages:OpenDataChannel",
    ]


def test_scripts_run_in_name_order_and_only_the_reboot_may_break_the_connection() -> None:
    shells = re.findall(r'provisioner "shell" {\n(.*?)\n  }', render(context()), re.DOTALL)
    names = [re.findall(r'name += "(.*)"', shell)[0] for shell in shells]

    assert names == sorted(script.stem for script in (paths.IMAGES / "provision").glob("*.sh"))
    assert [name for name, shell in zip(names, shells, strict=True) if "expect_disconnect" in shell] == [
        "20-reboot-if-kernel-changed"
    ]


def test_facts_are_fetched_between_collecting_and_cleaning_up() -> None:
    rendered = render(context())
    places = [
        rendered.index(text)
        for text in ("/70-collect-facts.sh", "/facts.json", "/package-databases.tar.gz", "/80-clean-up.sh")
    ]

    assert places == sorted(places)


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"kms_key_id": None}, ["    kms_key_id            = null"]),
        ({"kms_key_id": "alias/images"}, ['    kms_key_id            = "alias/images"']),
        (
            {"subnet_filters": {"tag:Tier": "private", "tag:Use": "bake"}},
            ['    filters   = { "tag:Tier" = "private", "tag:Use" = "bake" }'],
        ),
        (
            {"target": CATALOG.targets["aws"].model_copy(update={"ssh_interface": "public_ip"})},
            ["  temporary_security_group_source_public_ip = true"],
        ),
        (
            {"target": CATALOG.targets["aws"]},
            ['  temporary_security_group_source_cidrs = ["127.0.0.1/32"] # a session makes no rule; if one is ever '
            "made, it is this"],
        ),
    ],
)  # fmt: skip
def test_what_the_catalog_may_say_and_the_shipped_one_does_not(changes: dict[str, Any], lines: list[str]) -> None:
    assert [line for line in lines if line not in render(context(**changes)).splitlines()] == []


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        (None, "null"),
        (True, "true"),
        (90, "90"),
        ("plain", '"plain"'),
        ('say "hi"\\', '"say \\"hi\\"\\\\"'),
        ("one\ntwo\ttabbed\r", '"one\\ntwo\\ttabbed\\r"'),
        ("${var.secret}", '"$${var.secret}"'),
        ("%{ if true }", '"%%{ if true }"'),
        ("bell \a, umlaut ü", '"bell \\U00000007, umlaut ü"'),
        ((), "[]"),
        (("a", "b"), '["a", "b"]'),
        ({"tag:Tier": "a"}, '{ "tag:Tier" = "a" }'),
    ],
)
def test_a_value_as_hcl_writes_it(value: object, literal: str) -> None:
    assert hcl_literal(value) == literal


def test_a_value_that_hcl_cannot_write() -> None:
    with pytest.raises(TypeError, match="HCL has no literal for float"):
        hcl_literal(1.5)


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("one\n<< nobody_said_this >>\n", 2, "'nobody_said_this' is undefined"),
        ("<< target.color >>\n", 1, "'pipeline.catalog.Target object' has no attribute 'color'"),
        ("one\ntwo\n<% if %>\n", 3, "Expected an expression, got 'end of statement block'"),
    ],
)
def test_a_template_that_asks_for_what_is_not_there(tmp_path: Path, text: str, line: int, found: str) -> None:
    template = tmp_path / "broken.j2"
    template.write_text(text, encoding="utf-8")

    with pytest.raises(CatalogError) as caught:
        render(context(), template)

    assert str(caught.value) == (
        "the Packer template cannot be rendered\n"
        "  expected: only names of pipeline.render.TemplateContext\n"
        f"  found:    {found}\n"
        f"  where:    {template}:{line}\n"
        "  do:       correct the template"
    )


def test_a_script_the_template_counts_on_is_gone(tmp_path: Path) -> None:
    scripts = tmp_path / "provision"
    scripts.mkdir()
    (scripts / "20-reboot-if-kernel-changed.sh").touch()

    with pytest.raises(CatalogError) as caught:
        template_context(CATALOG, PLAIN, "local", images=tmp_path)

    assert str(caught.value) == (
        "a provisioning script is missing: 70-collect-facts\n"
        "  expected: 70-collect-facts.sh among the scripts\n"
        "  found:    20-reboot-if-kernel-changed\n"
        f"  where:    {scripts}\n"
        "  do:       restore the file; the template does something of its own around it"
    )


def test_the_dead_man_timer_leaves_packer_one_thing_to_fill_in() -> None:
    boothook = (paths.IMAGES / "dead-man.boothook.tpl").read_text(encoding="utf-8")

    assert boothook.startswith("#cloud-boothook\n#!/bin/sh\n")
    assert re.findall(r"[$%]{[^}]*}", boothook) == ["${minutes}"]


BASE = Base(
    id="ami-06524d4ef4a884456",
    name="amzn2-ami-ecs-kernel-5.10-hvm-2.0.20260924-x86_64-ebs",
    created=datetime(2026, 9, 24, 18, 11, 2, tzinfo=UTC),
    image_version="2.0.20260924",
    ecs_agent_version="1.107.0",
    architecture="x86_64",
    parameter=PLAIN.flavour.base_parameter,
    region="eu-central-1",
)


def variables(**changes: Any) -> Mapping[str, str]:
    given: dict[str, Any] = {
        "selection": PLAIN,
        "policies": CATALOG.policies,
        "base": BASE,
        "agent_url": CATALOG.agent.artifact_url("eu-central-1"),
        "agent_fingerprint": CATALOG.agent.key_fingerprint,
        "signing": Signing(mode="key", signer="/keys/provenance.pem"),
        "bake_id": "20261123T225735-1f3a",
        "owner": "ana",
        "started": datetime(2026, 11, 23, 22, 57, 35, tzinfo=UTC),
        "expires_at": datetime(2026, 11, 24, 0, 27, 35, tzinfo=UTC),
        "stage_dir": Path("/somewhere/stage/ovenproof"),
        "work_dir": Path("/work"),
    }
    return packer_variables(**(given | changes))


def test_the_variables_of_a_bake() -> None:
    assert variables() == {
        "region": "eu-central-1",
        "bake_id": "20261123T225735-1f3a",
        "owner": "ana",
        "expires_at": "2026-11-24T00:27:35Z",
        "deprecate_at": "2027-05-22T22:57:35Z",
        "image_name": "ovenproof-ecs-al2-kernel-5.10-x86_64-20261123T225735-1f3a",
        "base_id": "ami-06524d4ef4a884456",
        "base_name": "amzn2-ami-ecs-kernel-5.10-hvm-2.0.20260924-x86_64-ebs",
        "agent_url": "https://323658145986-eu-central-1-guardduty-agent-rpm-artifacts.s3.eu-central-1.amazonaws.com",
        "agent_fingerprint": "747891EF537813344456760306C906A7093FF49D",
        "images_dir": str(paths.IMAGES),
        "stage_dir": "/somewhere/stage/ovenproof",
        "work_dir": "/work",
        "signing_mode": "key",
        "signer": "/keys/provenance.pem",
    }


def test_the_template_declares_exactly_these_variables() -> None:
    declared = re.findall(r'^variable "(\w+)" {', render(context()), re.MULTILINE)

    assert sorted(declared) == sorted(variables())


@pytest.mark.parametrize("selection", CATALOG.selections(), ids=lambda selection: selection.id)
def test_image_names_fit_ec2(selection: VariantSelection) -> None:
    assert len(image_name(selection, "20261123T225735-1f3a")) <= 128


@pytest.fixture(scope="module")
def tools() -> Tools:
    return ensure_tools(Cache(paths.cache_root()), Progress())


def packer(tools: Tools, *arguments: str | Path) -> str:
    environment = {**os.environ, **tools.environment(), "AWS_REGION": "eu-central-1"}
    return process.run([tools.packer, *arguments], env=environment)


@pytest.mark.slow
def test_packer_finds_nothing_to_reformat(tools: Tools, tmp_path: Path) -> None:
    unusual = tmp_path / "unusual.pkr.hcl"
    unusual.write_text(
        render(context(subnet_filters={"tag:Tier": "a", "tag:Use": "b"}, kms_key_id="alias/a")), encoding="utf-8"
    )

    assert packer(tools, "fmt", "-check", "-diff", GOLDEN) == ""
    assert packer(tools, "fmt", "-check", "-diff", unusual) == ""


@pytest.mark.slow
def test_packer_takes_every_template(tools: Tools, tmp_path: Path) -> None:
    values = tmp_path / "bake.pkrvars.json"
    (tmp_path / "stage" / "ovenproof").mkdir(parents=True)
    given = variables(stage_dir=tmp_path / "stage" / "ovenproof")  # the one path that validation looks at
    values.write_text(json.dumps(dict(given)), encoding="utf-8")

    def validate(template: Path) -> str:
        return packer(tools, "validate", f"-var-file={values}", template)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        answers = set(pool.map(validate, sorted(GOLDEN.glob("*.pkr.hcl"))))

    assert answers == {"The configuration is valid.\n"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bake_id": "a b"}, "The bake_id must be 4 to 64 letters, digits and hyphens."),
        ({"agent_fingerprint": "093FF49D"}, "The agent_fingerprint must be 40 capital hexadecimal digits."),
        ({"agent_url": "http://host/"}, "The agent_url must be an http(s) address without a slash at its end."),
        ({"signing_mode": "none"}, "The signing_mode must be key or kms: unsigned evidence is none."),
        ({"stage_dir": "/tmp/elsewhere"}, "must be an absolute path that ends in /ovenproof"),
    ],
)  # fmt: skip
def test_packer_refuses_a_wrong_variable_at_once(
    tools: Tools, tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    values = tmp_path / "bake.pkrvars.json"
    values.write_text(json.dumps({**variables(), **changes}), encoding="utf-8")

    with pytest.raises(MachineError) as caught:
        packer(tools, "validate", f"-var-file={values}", golden(PLAIN, "aws"))

    assert said in " ".join(caught.value.found.split())
