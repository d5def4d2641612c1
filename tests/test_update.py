"""What is newer than what is pinned, from what go and pip print."""

import json

from pipeline.paths import CHECKOUT
from pipeline.update import Pin, _tool_modules, as_text, go_pins, python_pins, raised, wanted_packages

PACKER = "github.com/hashicorp/packer"


def test_go_says_which_module_has_an_update() -> None:
    listed = "\n".join(
        json.dumps(one, indent="\t")
        for one in (
            {"Path": PACKER, "Version": "v1.16.0", "Update": {"Path": PACKER, "Version": "v1.16.1"}},
            {"Path": "github.com/goss-org/goss", "Version": "v0.4.9"},
            {"Path": "example.com/other", "Version": "v1.0.0", "Update": {"Version": "v2.0.0"}},
        )
    )
    assert [str(pin) for pin in go_pins(listed, (PACKER, "github.com/goss-org/goss"))] == [
        "program packer: 1.16.0 -> 1.16.1",
        "program goss 0.4.9 is the newest",
    ]


def test_only_packages_that_are_asked_for_by_name_count() -> None:
    outdated = json.dumps(
        [
            {"name": "boto3", "version": "1.44.5", "latest_version": "1.44.9"},
            {"name": "somebody-elses", "version": "1", "latest_version": "2"},
        ]
    )
    installed = {"boto3": "1.44.5", "ruamel-yaml": "0.18", "somebody-elses": "1"}
    pins = python_pins(outdated, ("boto3", "ruamel.yaml"), installed)
    assert [str(pin) for pin in pins] == ["package boto3: 1.44.5 -> 1.44.9", "package ruamel.yaml 0.18 is the newest"]


def test_names_are_read_from_our_own_requirements() -> None:
    names = wanted_packages((CHECKOUT / "requirements.in").read_text(encoding="utf-8"))
    assert {"boto3", "moto", "boto3-stubs", "types-PyYAML"} <= set(names)
    assert not [name for name in names if set(name) & set("[=# ")]


def test_versions_that_are_written_out_are_raised_and_nothing_else() -> None:
    text = "boto3==1.44.5\nmoto[ec2,server]==5.2.5\nboto3-stubs[ec2]\n"
    pins = [
        Pin(kind="package", name="boto3", now="1.44.5", newest="1.44.9"),
        Pin(kind="package", name="moto", now="5.2.5", newest="5.2.6"),
        Pin(kind="package", name="boto3-stubs", now="1", newest="2"),
    ]
    assert raised(text, pins) == "boto3==1.44.9\nmoto[ec2,server]==5.2.6\nboto3-stubs[ec2]\n"


def test_the_programs_are_those_of_tools() -> None:
    assert _tool_modules() == ("github.com/goss-org/goss", PACKER, "github.com/hashicorp/packer-plugin-amazon")


def test_what_is_newer_comes_first_and_what_nobody_can_tell_is_said() -> None:
    pins = [
        Pin(kind="package", name="rich", now="1"),
        Pin(kind="agent", name="amazon-guardduty-agent", now="1.17.1", unknown="AWS publishes no list to ask"),
        Pin(kind="program", name="packer", now="1.16.0", newest="1.16.1"),
    ]
    assert as_text(pins) == (
        "program packer: 1.16.0 -> 1.16.1\n"
        "agent amazon-guardduty-agent 1.17.1: not looked up: AWS publishes no list to ask\n"
        "1 others are the newest"
    )
