"""Records as JUnit's XML."""

import xml.etree.ElementTree as ElementTree

from pipeline.junit import as_junit
from tests import records


def test_a_suite_a_bake_and_a_case_a_check() -> None:
    (suite,) = ElementTree.fromstring(as_junit([records.record()]))  # noqa: S314 - our own
    assert (suite.get("name"), suite.get("tests"), suite.get("failures"), suite.get("time")) == (
        "ecs-al2-kernel-5.10/x86_64 20261123-1200-x",
        "4",
        "0",
        "242",
    )
    assert suite[0].get("classname") == "ecs-al2-kernel-5.10/x86_64.agent"


def test_failed_checks_and_other_failures_of_the_proof_are_failures() -> None:
    report = records.check_report("first-boot", failed=("kernel-btf",))
    failures = ("the kernel has BTF: expected yes, found no", "kernel: expected the 5.10 line, found 4.14")
    proof = records.proof(checks=report, failures=failures)
    (suite,) = ElementTree.fromstring(as_junit([records.record(proof=proof)]))  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("failures")) == ("5", "2")
    told = [(case.get("name"), case[0].get("message")) for case in suite if len(case)]
    assert told == [
        ("the kernel has BTF", "expected yes, found no | nothing; see images/hardening.yaml"),
        ("kernel", "kernel: expected the 5.10 line, found 4.14"),
    ]
