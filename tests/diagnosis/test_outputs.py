"""What people and programs read: table, JSON, CSV and the page, each complete, none of them fooled by a text."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.diagnosis import outputs, page, table
from pipeline.diagnosis.command import FORMATS, coverage
from pipeline.diagnosis.ledger import Ledger
from pipeline.diagnosis.summary import Summary, summarise
from pipeline.errors import UsageError
from pipeline.rehearsal.organization.spec import (
    AccountSpec,
    BulkSpec,
    ClusterSpec,
    HostsSpec,
    ServiceSpec,
)
from tests.diagnosis.planted import organization_of, spec_of, survey

EVIL = "=cmd|' /C calc'!A0 <script>alert(\"x\")</script> {{ 7*7 }} << 7 >>"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ledger, Summary]:
    hosts = (HostsSpec(count=3), HostsSpec(count=2, problems=("unit-off",)), HostsSpec(says=EVIL))
    spec = spec_of(
        AccountSpec(id="200000000001", name="a", clusters=(ClusterSpec(name="main", hosts=hosts),)),
        AccountSpec(id="200000000002", name="b", reachable=False),
    )
    organization, clock = organization_of(spec)
    ledger = survey(organization, clock, tmp_path_factory.mktemp("survey") / "ledger")
    return ledger, summarise(ledger)


class Page(HTMLParser):
    """Collects what matters: open elements, attributes, text."""

    VOID = ("meta", "input", "br", "link", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)


def test_the_page_works_without_network_and_holds_what_it_should(made: tuple[Ledger, Summary]) -> None:
    text = page.render(made[1])
    found = Page(text)
    assert found.open == []
    assert not re.search(r"(?:src|href)=\"(?!#)|@import|url\(|https?://", text)
    words = " ".join(" ".join(found.text).split())
    for wanted in ("the agent's unit is off", "200000000001", "Not seen, so not known", "200000000002", "50 %"):
        assert wanted in words, wanted


def test_the_page_is_accessible(made: tuple[Ledger, Summary]) -> None:
    found = Page(page.render(made[1]))
    tags = [tag for tag, _ in found.seen]
    assert dict(found.seen[0][1]) == {"lang": "en"}
    assert tags.count("h1") == 1 and tags.count("main") == 1 and "title" in tags
    for tag, attributes in found.seen:
        if tag == "th":
            assert attributes.get("scope") in ("row", "col")
        if attributes.get("role") == "img":
            assert attributes.get("aria-label")
        if attributes.get("role") == "region":
            assert attributes.get("tabindex") == "0" and attributes.get("aria-labelledby")
    labelled = [attributes["aria-labelledby"] for _, attributes in found.seen if "aria-labelledby" in attributes]
    ids = {attributes.get("id") for _, attributes in found.seen}
    assert set(labelled) <= ids
    assert tags.count("label") == tags.count("input") + tags.count("select")


def luminance(color: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_every_text_stands_out_from_its_ground(made: tuple[Ledger, Summary], mode: int) -> None:
    colors = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", page.render(made[1]).split(":root")[mode + 1]))
    for ground in ("ground", "panel"):
        for ink in ("ink", "soft", "good", "bad", "gone", "out", "link"):
            light, dark = sorted((luminance(colors[ink]), luminance(colors[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def test_every_table_of_the_page_has_a_caption_and_the_page_counts_fargate() -> None:
    shown: list[str] = []
    coverage(format="html", look_inside="yes", show=shown.append, say=lambda _: None)
    found = Page(shown[0])
    tags = [tag for tag, _ in found.seen]
    assert tags.count("table") == tags.count("caption") == 3
    assert "Command for the first of them, with credentials of account 200000000001" in " ".join(found.text)
    assert "3 of 11 Fargate services healthy" in " ".join(" ".join(found.text).split())


def test_a_remedy_for_several_clusters_names_none_of_them() -> None:
    shown: list[str] = []
    coverage(show=shown.append, say=lambda _: None)
    blocks = {block.split("[")[-1].split("]")[0]: " ".join(block.split()) for block in shown[0].split("\n\n")}
    assert "roll <cluster> onto an image that has it" in blocks["agent-not-installed"]
    assert "roll checkout onto an image with kernel 5.10" in blocks["kernel-below"]  # that is where all of them are
    assert "on <id>: systemctl enable" in blocks["unit-off"]


def test_a_command_is_in_one_piece_and_says_who_can_run_it() -> None:
    shown: list[str] = []
    coverage(account="200000000001", region="eu-central-1", show=shown.append, say=lambda _: None)
    lines = shown[0].splitlines()
    at = next(number for number, line in enumerate(lines) if "./run roll" in line)
    assert lines[at] == "  run:    ./run roll --on aws --region eu-central-1 --group checkout-group"
    assert lines[at + 1] == "  as:     somebody of account 200000000001"


def test_a_text_of_guardduty_is_shown_and_not_executed(made: tuple[Ledger, Summary]) -> None:
    ledger, summary = made
    text = page.render(summary)
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text and "{{ 7*7 }} &lt;&lt; 7" in text
    rows = list(csv.DictReader(io.StringIO(outputs.write("csv", ledger, summary, None))))
    assert any(row["issues"] == f"'{EVIL}" for row in rows)
    document = json.loads(outputs.write("json", ledger, summary, None))
    assert EVIL in document["unrecognised"]
    assert '<script>alert("x")</script> {{ 7*7 }} << 7 >>' in " ".join(table.render(summary).split())


def test_json_has_every_finding_and_the_counts(made: tuple[Ledger, Summary]) -> None:
    ledger, summary = made
    document = json.loads(outputs.write("json", ledger, summary, None))
    assert document["hosts"] == {"healthy": 3, "unhealthy": 3}
    assert len(document["findings"]) == 3
    assert document["percent"] == 50
    assert document["clusters"][0]["name"] == "main"
    (unit_off, *_) = (hit for item in document["findings"] for hit in item["hits"] if hit["cause"] == "unit-off")
    assert unit_off["command"].startswith("./run install-agent --on aws --region eu-central-1 --instance i-")
    assert unit_off["acts_in"] == "200000000001"
    assert {cause["cause"]: cause["level"] for cause in document["causes"]}["unit-off"] == "host"
    assert all(cause["remedy"] for cause in document["causes"])
    assert document["unseen"][0]["account"] == "200000000002"


def test_an_account_with_fargate_only_is_among_those_with_gaps(tmp_path: Path) -> None:
    services = (ServiceSpec(name="web"), ServiceSpec(name="api", problems=("fargate-role-missing",)))
    accounts = (
        AccountSpec(id="200000000001", name="a", clusters=(ClusterSpec(name="front", services=services),)),
        AccountSpec(id="200000000002", name="b", hosts=(HostsSpec(),)),
    )
    organization, clock = organization_of(spec_of(*accounts))
    summary = summarise(survey(organization, clock, tmp_path / "ledger"))
    assert summary.by_account["200000000001"] == {"healthy": 1, "unhealthy": 1}
    assert "200000000001  1        1          0 " in table.render(summary)
    assert "service api in front (200000000001, eu-central-1)" in " ".join(table.render(summary).split())


def test_csv_has_a_row_for_each_cause_of_each_finding(made: tuple[Ledger, Summary]) -> None:
    ledger, summary = made
    rows = list(csv.DictReader(io.StringIO(outputs.write("csv", ledger, summary, None))))
    assert sorted(row["cause"] for row in rows) == ["unit-off", "unit-off", "unrecognised"]
    assert all(row["remedy"] and row["account"] == "200000000001" for row in rows)


def test_earlier_results_make_a_trend(made: tuple[Ledger, Summary], tmp_path: Path) -> None:
    ledger, summary = made
    before = tmp_path / "before.json"
    before.write_text(json.dumps({"looked_until": "2026-10-01T00:00:00+00:00", "percent": 12.5}))
    text = page.render(summary, [before, ledger.path])
    assert text.index("12.5 %") > text.index("Trend")
    assert "Trend" not in page.render(summary)
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(UsageError, match="an earlier result cannot be read"):
        page.render(summary, [tmp_path / "bad.json"])


def test_a_thousand_clusters_stay_readable(tmp_path: Path) -> None:
    bulk = BulkSpec(accounts=1000, hosts=1, troubled_percent=10)
    organization, clock = organization_of(spec_of(name="big", organization="o-biiiiiiiig1", bulk=bulk))
    summary = summarise(survey(organization, clock, tmp_path / "ledger", accounts=()))
    text = page.render(summary)
    assert text.count("<tr data-status=") == 1000
    assert len(text) < 600_000
    assert text.index('data-status="unhealthy"') < text.index('data-status="healthy"')
    assert table.render(summary).count("\n") < 150


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_goes_to_a_file(tmp_path: Path, format: str) -> None:
    shown: list[str] = []
    out = tmp_path / "new" / f"coverage.{format}"
    coverage(format=format, out=str(out), region="us-east-1", show=shown.append, say=lambda _: None)
    assert out.stat().st_size > 500 and str(out) in shown[0]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"format": "pdf"}, "there is no format pdf"),
        ({"fail_under": "101"}, "--fail-under 101 is no percentage"),
        ({"fail_under": "1x"}, "--fail-under 1x is no percentage"),
        ({"fail_under": "nan"}, "--fail-under nan is no percentage"),
        ({"look_inside": "maybe"}, "--look-inside maybe is unclear"),
        ({"on": "azure"}, "there is no target azure"),
        ({"region": "eu-west-9"}, "example is not in eu-west-9"),
        ({"earlier": "before.json"}, "a trend is shown on the page only"),
        ({"out": "/proc/none/x"}, "the result cannot be written"),
    ],
)
def test_a_wrong_command_line_is_told(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        coverage(show=lambda _: None, say=lambda _: None, **given)


@pytest.mark.parametrize(
    ("value", "words"), [(100.0, "100 %"), (99.9999, "99.99 %"), (0.0, "0 %"), (45.454, "45.45 %")]
)
def test_a_percentage_says_hundred_only_when_nothing_is_missing(value: float, words: str) -> None:
    assert table.percent(value) == words


def test_the_only_gap_being_excluded_hosts_makes_the_cluster_excluded(tmp_path: Path) -> None:
    hosts = (HostsSpec(count=2), HostsSpec(problems=("exclusion-tag",)))
    account = AccountSpec(id="200000000001", name="a", clusters=(ClusterSpec(name="main", hosts=hosts),))
    organization, clock = organization_of(spec_of(account))
    summary = summarise(survey(organization, clock, tmp_path / "ledger"))
    assert [line.status for line in summary.clusters] == ["excluded"]
    assert set(summary.by_cause) == {"exclusion-tag"} and summary.percent == 100
