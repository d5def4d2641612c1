"""How the stages are joined: order, what is recorded, what is locked. Whole bakes are in test_bake_*.py."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from pipeline import flow, paths, tags
from pipeline.bake import VARIABLES, Workplace
from pipeline.catalog import TargetName, load_catalog
from pipeline.errors import CloudError, ProofError
from pipeline.packer_output import Baked
from pipeline.plan import Decision, Lock
from pipeline.progress import Progress
from pipeline.proof_host import ProofRequest
from pipeline.prove import Proof
from pipeline.record import Record
from pipeline.render import Signing
from pipeline.target import AgentSource, ProofSeconds, StandIn
from pipeline.tools import Tools
from tests import records
from tests.doubles import START, FakeClock
from tests.test_custody import image_of_a_bake


@pytest.fixture
def session() -> Iterator[boto3.Session]:
    with mock_aws():
        yield boto3.Session(region_name="eu-central-1")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A target with nothing behind it but moto."""

    session: boto3.Session
    records: Path
    locks: Path
    name: TargetName = "local"
    region: str = "eu-central-1"
    stand_ins: tuple[StandIn, ...] = ()

    @property
    def proof_seconds(self) -> ProofSeconds:
        return ProofSeconds(boot=1, coverage=1, every=1)

    def agent_source(self) -> AgentSource:
        return AgentSource(url=records.INPUTS.agent_url, fingerprint=records.FINGERPRINT)

    def signing(self) -> Signing:
        return Signing(mode="key", signer="/key.pem")

    def packer_environment(self) -> Mapping[str, str]:
        return {}


def bake_that_works(session: boto3.Session) -> Callable[..., Baked]:
    """What Packer leaves: an image with the bake's tags, facts and evidence."""

    def bake(workplace: Workplace, **_: Any) -> Baked:
        workplace.facts.write_text(json.dumps(records.facts()))
        sbom = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"name": "docker.io"}]}
        (workplace.folder / "node.sbom.cdx.json").write_text(json.dumps(sbom))
        (workplace.folder / "node.provenance.json").write_text("{}")
        image = image_of_a_bake(session, workplace.folder.name)
        return Baked(images={"eu-central-1": image}, timings=())

    return bake


def planned_for(place: Place) -> flow.Planned:
    """A bake of the default variant that nothing stands against."""
    catalog = load_catalog()
    return flow.Planned(
        catalog=catalog,
        selection=catalog.select("ecs-al2-kernel-5.10", "x86_64"),
        target=place,
        base=records.BASE,
        base_waiver="",
        inputs=records.INPUTS,
        lock=None,
        decision=Decision(bake=True, reasons=()),
        warnings=(),
        images=paths.IMAGES,
    )


@pytest.fixture
def place(session: boto3.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Where everything works up to the proof."""
    place = Place(session=session, records=tmp_path / "records", locks=tmp_path / "locks")
    monkeypatch.setattr(flow, "plan_one", lambda *_, **__: planned_for(place))
    monkeypatch.setattr(flow, "stage", lambda workplace, **_: workplace.stage.mkdir())
    monkeypatch.setattr(flow, "bake", bake_that_works(session))
    return place


NO_TOOLS = Tools(
    packer=Path("packer"),
    plugin=Path("plugin"),
    plugin_folder=Path("plugins"),
    settings_folder=Path("settings"),
    goss={"x86_64": Path("goss")},
    versions={},
)


def build_on(place: Place) -> str:
    features: Any = [{"Name": "RUNTIME_MONITORING", "Status": "ENABLED"}]
    place.session.client("guardduty").create_detector(Enable=True, Features=features)
    return build_again(place)


def build_again(place: Place) -> str:
    catalog = load_catalog()
    return flow.build_on(
        place,
        catalog,
        catalog.select("ecs-al2-kernel-5.10", "x86_64"),
        tools=NO_TOOLS,
        force=True,
        clock=FakeClock(),
        progress=Progress(),
    )


def test_an_image_that_did_not_prove_itself_is_removed_recorded_and_not_locked(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = ("GuardDuty agent: expected 1.17.1, found 1.16.0", "umask: expected 027, found 022; see hardening.yaml")
    monkeypatch.setattr(flow, "prove", lambda *_, **__: records.proof(failures=failures))

    with pytest.raises(ProofError) as error:
        build_on(place)

    [folder] = place.records.iterdir()
    ec2: Any = place.session.client("ec2")
    assert str(error.value) == (
        "the image of ecs-al2-kernel-5.10/x86_64 did not prove itself and was removed\n"
        "  expected: no failure on a new instance launched from it\n"
        "  found:    GuardDuty agent: expected 1.17.1, found 1.16.0\n"
        "            umask: expected 027, found 022; see hardening.yaml\n"
        f"  where:    {folder / 'record.md'}\n"
        "  do:       mend what the failures name, then bake again"
    )
    assert ec2.describe_images(Owners=["self"])["Images"] == []
    record = Record.model_validate_json((folder / "record.json").read_bytes())
    assert not record.proven
    assert record.proof.failures == failures
    assert not place.locks.exists()


def test_an_image_that_proved_itself_stays_and_is_locked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "prove", lambda *_, **__: records.proof())

    said = build_on(place)

    ec2: Any = place.session.client("ec2")
    [image] = ec2.describe_images(Owners=["self"])["Images"]
    assert said.startswith(f"ecs-al2-kernel-5.10/x86_64 is proven: {image['ImageId']} (eu-central-1), ready in ")
    assert tags.as_mapping(image["Tags"])[tags.STATE] == "proven"
    [lock] = place.locks.iterdir()
    assert Lock.model_validate_json(lock.read_bytes()).images == {"eu-central-1": image["ImageId"]}


def test_an_image_that_cannot_be_marked_proven_is_removed_and_the_record_says_what_it_was(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "prove", lambda *_, **__: records.proof())

    def refuse(model: Any, **_: Any) -> None:
        assert list(place.records.glob("*/record.json")), "the record comes before the mark"
        raise ClientError({"Error": {"Code": "UnauthorizedOperation", "Message": "no"}}, model.name)

    place.session.events.register("before-call.ec2.DeleteTags", refuse)
    with pytest.raises(CloudError, match="could not be marked as proven"):
        build_on(place)
    ec2: Any = place.session.client("ec2")
    assert ec2.describe_images(Owners=["self"])["Images"] == []
    assert not place.locks.exists()
    [path] = place.records.glob("*/record.json")
    record = Record.model_validate_json(path.read_bytes())
    assert not record.proven
    [failure] = record.proof.failures
    assert failure.startswith("the image proved itself, but could not be marked as proven")
    assert "not proven" in (path.parent / "record.md").read_text()


def test_without_runtime_monitoring_no_bake_begins(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> Baked:
        raise AssertionError("Packer was started")

    monkeypatch.setattr(flow, "bake", never)
    with pytest.raises(CloudError, match="GuardDuty is not enabled"):
        build_again(place)
    assert not place.records.exists()


def test_template_and_proof_get_the_same_expiry_which_lies_behind_both(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ProofRequest] = []

    def prove(_: boto3.Session, request: ProofRequest, **__: Any) -> Proof:
        asked.append(request)
        return records.proof()

    monkeypatch.setattr(flow, "prove", prove)
    build_on(place)
    [variables] = place.records.glob(f"*/{VARIABLES}")
    in_template = tags.parse_time(json.loads(variables.read_text())["expires_at"])
    lifetime = timedelta(minutes=load_catalog().policies.builder_max_lifetime_minutes)
    assert in_template == asked[0].expires_at > START + lifetime
