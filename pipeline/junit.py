"""A record as a test report: in, records; out, JUnit's XML, which CodeBuild and most CI systems show.

One suite a bake, one case a check of the image, and one for each other failure of the proof.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

from pipeline.record import Record


def as_junit(records: Sequence[Record]) -> str:
    """The XML of some records, the newest of each variant as a rule."""
    root = ElementTree.Element("testsuites")
    for record in records:
        root.append(_suite(record))
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(record: Record) -> ElementTree.Element:
    report = record.proof.checks
    failed = {one.id: f"expected {one.expected}, found {one.found}; {one.remedy}" for one in report.failures}
    titles = tuple(one.title for one in report.failures)
    others = (
        [text for text in record.proof.failures if not text.startswith(titles)] if titles else record.proof.failures
    )
    cases = len(report.checks) + len(others)
    suite = ElementTree.Element(
        "testsuite",
        name=f"{record.name} {record.bake_id}",
        tests=str(cases),
        failures=str(len(failed) + len(others)),
        time=f"{(record.ended_at - record.started_at).total_seconds():.0f}",
    )
    for check in report.checks:
        case = ElementTree.SubElement(suite, "testcase", classname=f"{record.name}.{check.topic}", name=check.title)
        if check.id in failed:
            ElementTree.SubElement(case, "failure", message=failed[check.id])
    for text in others:
        case = ElementTree.SubElement(suite, "testcase", classname=f"{record.name}.proof", name=text.partition(":")[0])
        ElementTree.SubElement(case, "failure", message=text)
    return suite
