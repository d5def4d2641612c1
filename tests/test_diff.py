"""What changed from one bake to the next, as people read it."""

from pipeline.diff import Slower, diff, slower
from pipeline.packer_output import Timing
from pipeline.record import Record
from tests.records import CHECKS, INPUTS, PACKAGES, check_report, facts, guest, proof, record


def packages(*those: tuple[str, str, str, str]) -> list[dict[str, str]]:
    return [dict(zip(("source", "name", "version", "arch"), one, strict=True)) for one in those]


def changed() -> Record:
    return record(
        bake_id="20261124-0900-y",
        inputs=INPUTS.model_copy(update={"agent_version": "1.18.0", "tools": {**INPUTS.tools, "goss": "0.4.10"}}),
        guest=guest(
            kernel="5.10.0-37-amd64",
            packages=packages(
                ("deb", "docker.io", "20.10.5+dfsg1-1+deb11u4", "amd64"),
                ("deb", "jq", "1.6-2.1", "amd64"),
                ("deb", "openssl", "1.1.1w-0+deb11u2", "amd64"),
                ("rpm", "amazon-guardduty-agent", "1.18.0-1", "x86_64"),
            ),
            units_enabled=["amazon-guardduty-agent.service", "auditd.service", "docker.service"],
            sysctls={"kernel.randomize_va_space": "2", "net.ipv4.ip_forward": "0"},
            agent={**facts()["agent"], "version": "1.18.0", "sha256": "e" * 64},
            ecs={"init_version": None},
            checks=check_report("bake", checks=CHECKS[:3]),
        ),
        proof=proof(
            checks=check_report(
                "first-boot", failed=("agent-memlock",), checks=(*CHECKS[:3], ("ecs", "ecs-up", "the ECS agent runs"))
            )
        ),
    )


def test_everything_that_can_differ_is_said() -> None:
    assert diff(record(), changed()).as_text() == (
        "20261123-1200-x -> 20261124-0900-y\n"
        "\n"
        "Kernel, agent and runtime (4)\n"
        f"  GuardDuty agent: 1.17.1-1 -> 1.18.0-1\n"
        f"  GuardDuty agent's package: {'d' * 64} -> {'e' * 64}\n"
        "  ecs-init: 1.106.1-1 -> none\n"
        "  kernel: 5.10.0-36-amd64 -> 5.10.0-37-amd64\n"
        "\n"
        "Checks that fail now (1)\n"
        "  agent: the agent may lock 32 MB\n"
        "\n"
        "Packages moved (2)\n"
        "  amazon-guardduty-agent: 1.17.1-1 -> 1.18.0-1\n"
        "  openssl: 1.1.1w-0+deb11u3 -> 1.1.1w-0+deb11u2 (older)\n"
        "\n"
        "Packages added (1)\n"
        "  jq 1.6-2.1\n"
        "\n"
        "Packages removed (1)\n"
        "  ecs-init 1.106.1-1\n"
        "\n"
        "Units enabled (1)\n"
        "  auditd.service\n"
        "\n"
        "Units no longer enabled (1)\n"
        "  ecs.service\n"
        "\n"
        "Kernel settings (1)\n"
        "  net.ipv4.ip_forward: 1 -> 0\n"
        "\n"
        "Checks gained (1)\n"
        "  ecs: the ECS agent runs\n"
        "\n"
        "Checks lost (1)\n"
        "  kernel: the kernel has BTF\n"
        "\n"
        "Inputs (2)\n"
        "  agent version: 1.17.1 -> 1.18.0\n"
        "  tool goss: 0.4.9 -> 0.4.10"
    )


def test_the_other_way_round_is_the_opposite() -> None:
    back = diff(changed(), record())
    assert back.packages_added == ("ecs-init 1.106.1-1",)
    assert back.packages_removed == ("jq 1.6-2.1",)
    assert [str(moved) for moved in back.packages_moved] == [
        "amazon-guardduty-agent: 1.18.0-1 -> 1.17.1-1 (older)",
        "openssl: 1.1.1w-0+deb11u2 -> 1.1.1w-0+deb11u3",
    ]
    assert back.checks_repaired == ("agent: the agent may lock 32 MB",)


def test_equal_images_are_said_to_be_equal() -> None:
    same = diff(record(), record(bake_id="20261124-0900-y"))
    assert same.same_image
    assert same.as_text() == "20261123-1200-x -> 20261124-0900-y\n\nNo difference in the image."
    assert same.as_markdown() == "No difference in the image."


def test_several_versions_and_architectures_of_a_package_are_kept_apart() -> None:
    def with_packages(*more: tuple[str, str, str, str]) -> Record:
        return record(guest=guest(packages=packages(*PACKAGES, *more)))

    found = diff(
        with_packages(("rpm", "kernel", "5.10.1-1", "x86_64"), ("deb", "libc6", "2.31-13", "amd64")),
        with_packages(
            ("rpm", "kernel", "5.10.1-1", "x86_64"),
            ("rpm", "kernel", "5.10.2-1", "x86_64"),
            ("deb", "libc6", "2.31-13", "amd64"),
            ("deb", "libc6", "2.31-13", "i386"),
        ),
    )
    assert [str(moved) for moved in found.packages_moved] == ["kernel: 5.10.1-1 -> 5.10.1-1, 5.10.2-1"]
    assert found.packages_added == ("libc6.i386 2.31-13",)


def test_markdown_has_headings_of_the_level_asked_for() -> None:
    lines = diff(record(), changed()).as_markdown(level=4).splitlines()
    assert lines[:3] == ["#### Kernel, agent and runtime (4)", "", "- GuardDuty agent: 1.17.1-1 -> 1.18.0-1"]


def test_only_much_slower_and_long_phases_are_called_slower() -> None:
    def timings(*seconds: float) -> list[Timing]:
        return [Timing(name=f"phase {n}", kind="phase", seconds=s) for n, s in enumerate(seconds)]

    assert slower(timings(100, 10, 100, 40), timings(150, 29, 149, 61)) == (
        Slower(name="phase 3", before=40, after=61),
    )
    assert slower(timings(), timings(100)) == ()
    assert str(Slower(name="prove", before=40, after=61)) == "prove took 1 min 01 s, before 40 s"
