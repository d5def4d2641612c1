"""The decision table, row by row: every text of AWS's pages, every prerequisite, and a text that nobody knows."""

from pathlib import Path

import pytest

from pipeline.diagnosis.causes import Hit, causes, diagnose, fill, read_table, verdict_of
from pipeline.diagnosis.facts import VALUES, Facts, Resource
from pipeline.errors import CatalogError

BOTH: tuple[Resource, ...] = ("ec2", "bottlerocket")
PROVISION = "Agent Not Provisioned"
TEXTS: list[tuple[tuple[Resource, ...], str, str]] = [
    # gdu-assess-coverage-ec2
    (BOTH, "No Agent Reporting: Waiting for SSM notification", "waiting-for-ssm"),
    (BOTH, "No Agent Reporting", "agent-silent"),
    (BOTH, "No Agent Reporting:", "agent-silent"),
    (("ec2",), "No Agent Reporting - Agent disconnected", "agent-disconnected"),
    (BOTH, f"{PROVISION}: Instances with exclusion tags are excluded from Runtime Monitoring.", "exclusion-tag"),
    (BOTH, f"{PROVISION}: Kernel version is lower than the supported version.", "kernel-below"),
    (BOTH, f"{PROVISION}: Kernel version is higher than the supported version.", "kernel-above"),
    (BOTH, f"{PROVISION}: Unable to retrieve instance identity document.", "identity-document-unreadable"),
    (
        BOTH,
        "SSM Association Creation Failed: GuardDuty SSM association already exists in your account",
        "association-exists",
    ),
    (
        BOTH,
        "SSM Association Creation Failed: Your account has too many SSM associations",
        "too-many-associations",
    ),
    (
        ("ec2",),
        "SSM Association Updation Failed: GuardDuty SSM association does not exist in your account",
        "association-missing",
    ),
    (
        BOTH,
        "SSM Association Deletion Failed: GuardDuty SSM association does not exist in your account",
        "association-already-gone",
    ),
    (
        BOTH,
        "SSM Instance Association Execution Failed: Architectural requirements or other prerequisites are not met.",
        "prerequisites-not-met",
    ),
    (
        BOTH,
        "VPC Endpoint Creation Failed: VPC endpoint creation not supported for shared VPC vpc-1",
        "shared-vpc-not-supported",
    ),
    (
        BOTH,
        "VPC Endpoint Creation Failed: Owner account ID 111122223333 for shared VPC vpc-1 doesn't have either Runtime "
        "Monitoring, automated agent configuration, or both, enabled",
        "shared-vpc-owner-off",
    ),
    (
        BOTH,
        "VPC Endpoint Creation Failed: Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC "
        "attributes set to true for vpc-1 (Service: Ec2, Status Code:400, Request ID: a1b2)",
        "vpc-dns-off",
    ),
    (
        BOTH,
        "Shared VPC Endpoint Deletion Failed: Shared VPC endpoint deletion not allowed for account ID 1, shared VPC "
        "vpc-1, owner account ID 2",
        "shared-vpc-endpoint-kept",
    ),
    (("ec2",), "Agent not reporting", "agent-version-ended"),
    # gdu-assess-coverage-bottlerocket-ecs-ec2: three that differ
    (
        ("bottlerocket",),
        "SSM Association Update Failed: GuardDuty SSM association does not exist in your account",
        "association-missing",
    ),
    (("bottlerocket",), "Agent disconnected", "agent-disconnected"),
    (
        ("bottlerocket",),
        "ECR Image Pull Failed: The agent container image could not be pulled from Amazon ECR.",
        "image-pull-failed",
    ),
    # gdu-assess-coverage-ecs
    (
        ("fargate",),
        "Agent not reporting: Agent not reporting for tasks in TaskDefinition - 'a:1'",
        "fargate-not-reporting",
    ),
    (("fargate",), "Agent exited: ExitCode: 137 for tasks in TaskDefinition - 'a:1'", "fargate-agent-exited"),
    (("fargate",), "Agent exited: Reason: OOM for tasks in TaskDefinition - 'a:1'", "fargate-agent-exited"),
    (
        ("fargate",),
        "Agent exited: ExitCode: 1 with reason: 'OOM' for tasks in TaskDefinition - 'a:1'",
        "fargate-agent-exited",
    ),
    (
        ("fargate",),
        "Agent exited: Reason: CannotPullContainerError: pull image manifest has been retried 5 time(s)",
        "fargate-image-pull-failed",
    ),
    (
        ("fargate",),
        "VPC Endpoint Creation Failed: Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC "
        "attributes set to true for vpc-1 (Service: EC2, Status Code:400, Request ID: a1b2)",
        "vpc-dns-off",
    ),
    (
        ("fargate",),
        "Agent not reporting: VPC endpoint creation not supported for shared VPC vpc-1; for task in "
        "TaskDefinition - 'a:1'",
        "shared-vpc-not-supported",
    ),
    (
        ("fargate",),
        "Agent not provisioned: Unsupported invocation by BATCH for task(s) in TaskDefinition - 'a:1'",
        "fargate-launcher",
    ),
    (
        ("fargate",),
        "Agent not provisioned: Unsupported CPU architecture 'X' for task(s) in TaskDefinition - 'a:1'",
        "fargate-architecture",
    ),
    (
        ("fargate",),
        "Agent not provisioned: TaskExecutionRole missing from TaskDefinition - 'a:1'",
        "fargate-role-missing",
    ),
    (
        ("fargate",),
        "Agent not provisioned: Missing network configuration 'subnets' for task(s) in TaskDefinition - 'a:1'",
        "fargate-network-missing",
    ),
    (
        ("fargate",),
        "Agent not provisioned: Tasks started when clusters had exclusion tag are excluded from Runtime Monitoring. "
        "Impacted task ID(s): 't'",
        "fargate-tasks-excluded",
    ),
    (
        ("fargate",),
        "Agent not provisioned: Services deployed when clusters had exclusion tag are excluded from Runtime "
        "Monitoring. Impacted service name(s): 's'",
        "fargate-services-excluded",
    ),
    (
        ("fargate",),
        "Agent not provisioned: Tasks started before enabling Automated Agent Configuration are not covered. "
        "Impacted task ID(s): 't'",
        "fargate-tasks-before-agent-configuration",
    ),
    (
        ("fargate",),
        "Agent not provisioned: Services deployed before enabling Automated Agent Configuration are not covered. "
        "Impacted service name(s): 's'",
        "fargate-services-before-agent-configuration",
    ),
    (
        ("fargate",),
        "Agent not provisioned: Service 's' requires a new deployment to fix/troubleshoot. Refer documentation, "
        "Impacted service name(s): 's'",
        "fargate-service-needs-deployment",
    ),
    (
        ("fargate",),
        "Agent not provisioned: Tasks started before enabling Runtime Monitoring require a relaunch. "
        "Impacted task ID(s): 't'",
        "fargate-tasks-before-monitoring",
    ),
    (("fargate",), "Others: Unidentified issue, for tasks in TaskDefinition - 'a:1'", "fargate-unidentified"),
]


@pytest.mark.parametrize(("resource", "text", "cause"), [(r, text, cause) for on, text, cause in TEXTS for r in on])
@pytest.mark.parametrize("spelling", [str, str.upper, str.lower])
def test_every_text_of_guardduty_has_exactly_one_cause(
    resource: Resource, text: str, cause: str, spelling: type[str]
) -> None:
    hits = diagnose(Facts({}, {}, resource, (spelling(text),)))
    assert [hit.cause for hit in hits] == [cause]
    assert hits[0].evidence == (f"GuardDuty: {spelling(text)}",)
    assert hits[0].remedy


def test_every_sign_by_text_is_among_the_texts() -> None:
    by_text = {name for name, cause in causes().items() if any(sign.issue for sign in cause.signs)}
    assert by_text == {cause for _, _, cause in TEXTS}


FACT_SIGNS = [
    (name, number, sign)
    for name, cause in causes().items()
    for number, sign in enumerate(cause.signs)
    if sign.when is not None
]


@pytest.mark.parametrize(("name", "number"), [(name, number) for name, number, _ in FACT_SIGNS])
def test_every_prerequisite_is_told_by_its_facts_and_by_nothing_less(name: str, number: int) -> None:
    sign = causes()[name].signs[number]
    assert sign.when is not None
    facts = sign.when.model_dump(exclude_none=True)
    assert name in {hit.cause for hit in diagnose(Facts(facts))}
    for missing in facts:
        less = {key: value for key, value in facts.items() if key != missing}
        assert name not in {hit.cause for hit in diagnose(Facts(less))}, missing
        for other in VALUES[missing] - {facts[missing]}:
            changed = diagnose(Facts({**facts, missing: other}))
            alternatives = [
                other_sign.when.model_dump(exclude_none=True)
                for other_sign in causes()[name].signs
                if other_sign.when is not None
            ]
            told = name in {hit.cause for hit in changed}
            assert told == any(item.items() <= {**facts, missing: other}.items() for item in alternatives), (
                missing,
                other,
            )
    if sign.unless is not None:
        for key, value in sign.unless.model_dump(exclude_none=True).items():
            assert name not in {hit.cause for hit in diagnose(Facts({**facts, key: value}))}


def test_nothing_known_means_nothing_told() -> None:
    assert diagnose(Facts({})) == ()


def test_an_unknown_text_survives_unaltered_beside_a_known_cause() -> None:
    text = "Agent Not Provisioned:  a Text of 2029 {with braces} "
    hits = diagnose(Facts({"metadata": "off"}, {}, "ec2", (text,)))
    assert [hit.cause for hit in hits] == ["metadata-off", "unrecognised"]
    assert hits[1].evidence == (f"GuardDuty: {text}",)


def test_two_signs_of_one_cause_are_one_cause_with_two_pieces_of_evidence() -> None:
    text = "Agent Not Provisioned: Kernel version is lower than the supported version."
    (hit,) = diagnose(Facts({"kernel_support": "below"}, {"kernel": "4.14.355"}, "ec2", (text,)))
    assert hit == Hit("kernel-below", (f"GuardDuty: {text}", "kernel 4.14.355"), hit.remedy)


def test_a_symptom_is_silent_when_its_reason_is_known() -> None:
    disconnected = ("No Agent Reporting: Agent disconnected",)
    assert [hit.cause for hit in diagnose(Facts({"agent_unit": "inactive"}, {}, "ec2", disconnected))] == ["unit-off"]
    assert [hit.cause for hit in diagnose(Facts({}, {}, "ec2", disconnected))] == ["agent-disconnected"]


def test_several_causes_are_all_told() -> None:
    facts = {"kernel_support": "below", "metadata": "off", "endpoint": "missing", "link_local": "impossible"}
    assert {hit.cause for hit in diagnose(Facts(facts))} == {"kernel-below", "metadata-off", "endpoint-missing"}


def test_what_cannot_be_covered_is_told_alone() -> None:
    hits = diagnose(Facts({"platform": "windows", "metadata": "off", "runtime_monitoring": "disabled"}))
    assert [hit.cause for hit in hits] == ["windows"]
    assert verdict_of(hits, listed=False) == "unsupported"


def test_what_enabling_brings_along_is_not_held_against_the_network() -> None:
    facts = {"runtime_monitoring": "disabled", "endpoint": "missing", "link_local": "impossible", "metadata": "off"}
    assert {hit.cause for hit in diagnose(Facts(facts))} == {"runtime-monitoring-off", "metadata-off"}


@pytest.mark.parametrize(("listed", "verdict"), [(True, "unhealthy"), (False, "absent")])
def test_absent_is_never_taken_for_healthy(listed: bool, verdict: str) -> None:
    assert verdict_of((), listed=listed) == verdict


def test_a_text_that_is_not_known_is_named_in_the_sentence() -> None:
    assert fill("endpoint {endpoint_id} in {vpc}", {"vpc": "vpc-1"}) == "endpoint (unknown endpoint id) in vpc-1"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (('when: {metadata: "off"}', "when: {metadata: of}"), "did you mean 'off'? allowed: on, off"),
        (('when: {metadata: "off"}', 'when: {metdata: "off"}'), "did you mean 'metadata'?"),
        (('when: {metadata: "off"}', "when: {}"), "names no fact"),
        (("--instance-id {id}", "--instance-id {idd}"), "{idd} is none of the texts"),
        (("hides: [agent-disconnected, agent-silent", "hides: [agent-gone, agent-silent"), "which is no cause"),
        (("  unrecognised:", "  unrecognized:"), "the cause 'unrecognised' is missing"),
    ],
)
def test_a_mistake_in_the_table_is_told_with_its_place(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    text = Path("pipeline/diagnosis/causes.yaml").read_text(encoding="utf-8")
    assert change[0] in text
    broken = tmp_path / "causes.yaml"
    broken.write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises(CatalogError) as error:
        read_table(broken)
    assert complaint in str(error.value)
    assert f"{broken}:" in str(error.value)
