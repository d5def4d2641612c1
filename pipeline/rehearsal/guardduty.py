"""GuardDuty of the local cloud: in, heartbeats over the data endpoint; out, detectors and coverage.

moto has detectors but no coverage. The data endpoint is ours: agents speak to it as `POST /heartbeat` with
`{"identityDocument": {...}, "agentVersion": "1.17.1"}`; the real protocol is not published. Shapes: GuardDuty
API reference, ListCoverage, GetCoverageStatistics.
"""

import json
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, ClassVar, cast

from botocore.validate import ParamValidator
from moto.core.exceptions import ServiceException
from moto.core.utils import get_service_model
from moto.guardduty import urls as moto_urls
from moto.guardduty.models import GuardDutyBackend, guardduty_backends
from moto.guardduty.responses import GuardDutyResponse

from pipeline.rehearsal.guardduty_coverage import Heartbeat, coverage_row, matching
from pipeline.rehearsal.metadata import InstanceFacts, identity_document
from pipeline.rehearsal.wire import HangUp, Reply, Request, Responder
from pipeline.rehearsal.world import World

FEATURES = [
    {
        "name": "RUNTIME_MONITORING",
        "status": "ENABLED",
        "additionalConfiguration": [
            {"name": "EC2_AGENT_MANAGEMENT", "status": "DISABLED"},
            {"name": "ECS_FARGATE_AGENT_MANAGEMENT", "status": "DISABLED"},
            {"name": "EKS_ADDON_MANAGEMENT", "status": "DISABLED"},
        ],
    }
]
# Per the user guide only these sort, and only these filter, for EC2 resources.
SORT_KEYS = {"ACCOUNT_ID", "COVERAGE_STATUS", "INSTANCE_ID", "UPDATED_AT"}
FILTER_KEYS = {
    "ACCOUNT_ID",
    "AGENT_VERSION",
    "CLUSTER_ARN",
    "COVERAGE_STATUS",
    "INSTANCE_ID",
    "MANAGEMENT_TYPE",
    "RESOURCE_TYPE",
}


def data_endpoint(world: World, facts: Callable[[], InstanceFacts], reachable: Callable[[], bool]) -> Responder:
    """What answers a guest at the data service's address; without an endpoint in its VPC, nobody does."""

    def respond(request: Request) -> Reply:
        if not reachable():
            raise HangUp
        if (request.method, request.path) != ("POST", "/heartbeat"):
            return Reply.text("no such operation\n", status=HTTPStatus.NOT_FOUND)
        known = facts()
        try:
            said = json.loads(request.body)
            document, version = said["identityDocument"], said["agentVersion"]
        except (ValueError, KeyError, TypeError):
            return Reply.text("not a heartbeat\n", status=HTTPStatus.BAD_REQUEST)
        if document != identity_document(known) or not isinstance(version, str):
            return Reply.text("this is not the instance's identity document\n", status=HTTPStatus.FORBIDDEN)
        with world.hosting.lock:
            world.agents.heard(
                Heartbeat(
                    instance_id=known.instance_id,
                    instance_type=known.instance_type,
                    region=known.region,
                    account_id=known.account_id,
                    version=version,
                    at=world.clock.now(),
                )
            )
        return Reply()

    return respond


class BadRequest(ServiceException):
    code = "BadRequestException"


def _member_names(shape: Any, value: Any) -> Any:
    """A body off the wire under the model's member names. ValueError for what the model does not have.

    botocore checks types and lower limits by itself, but neither enumerations nor upper limits.
    """
    if shape.type_name == "structure" and isinstance(value, dict):
        members = {member.serialization.get("name", name): name for name, member in shape.members.items()}
        if unknown := sorted(set(value) - set(members)):
            raise ValueError(f"{shape.name} has no member {unknown[0]}")
        return {members[name]: _member_names(shape.members[members[name]], item) for name, item in value.items()}
    if shape.type_name == "list" and isinstance(value, list):
        if len(value) > shape.metadata.get("max", len(value)):
            raise ValueError(f"{shape.name} has more than {shape.metadata['max']} entries")
        return [_member_names(shape.member, item) for item in value]
    if shape.type_name == "integer" and isinstance(value, int) and value > shape.metadata.get("max", value):
        raise ValueError(f"{shape.name} is above {shape.metadata['max']}")
    if shape.metadata.get("enum") and value not in shape.metadata["enum"]:
        raise ValueError(f"{shape.name} has no value {value!r}")
    return value


class LocalGuardDutyBackend(GuardDutyBackend):
    world: ClassVar[World]

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.create_detector(True, "SIX_HOURS", {}, {}, FEATURES)

    @property
    def _url_module(self) -> Any:
        paths = dict.fromkeys(moto_urls.url_paths, LocalGuardDutyResponse.dispatch)
        for suffix in ("coverage", "coverage/statistics"):
            paths["{0}/detector/(?P<detector_id>[^/]+)/" + suffix + "$"] = LocalGuardDutyResponse.dispatch
        return SimpleNamespace(url_bases=moto_urls.url_bases, url_paths=paths)

    def rows(self, detector_id: str, criteria: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of this region that match; none while Runtime Monitoring is off."""
        detector = self.get_detector(detector_id).to_json()
        features = {feature["name"]: feature["status"] for feature in detector.get("features", [])}
        if features.get("RUNTIME_MONITORING") != "ENABLED":
            return []
        for criterion in criteria:
            if (key := criterion["criterionKey"]) not in FILTER_KEYS:
                raise BadRequest(f"The request was rejected: {key} does not filter EC2 resources.")
        now = self.world.clock.now()
        heartbeats = [beat for beat in self.world.agents.last.values() if beat.region == self.region_name]
        return matching((coverage_row(beat, detector_id, now) for beat in heartbeats), criteria)


class LocalGuardDutyResponse(GuardDutyResponse):
    def _validated(self) -> dict[str, Any]:
        """The body, held against the service model: unknown members, keys and limits are refused."""
        body: dict[str, Any] = json.loads(self.body or "{}")
        shape = get_service_model("guardduty").operation_model(self._get_action()).input_shape
        try:
            named = _member_names(shape, body) | {"DetectorId": self.path.split("/")[2]}
        except ValueError as error:
            raise BadRequest(f"The request was rejected: {error}.") from error
        report = ParamValidator().validate(named, shape)
        if report.has_errors():
            raise BadRequest(f"The request was rejected: {report.generate_report()}.")
        return body

    @property
    def local(self) -> LocalGuardDutyBackend:
        return cast(LocalGuardDutyBackend, self.guardduty_backend)

    def list_coverage(self) -> str:
        body = self._validated()
        criteria = body.get("filterCriteria", {}).get("filterCriterion", [])
        rows = self.local.rows(self.path.split("/")[2], criteria)
        sort = body.get("sortCriteria", {})
        key = sort.get("attributeName", "INSTANCE_ID")
        if key not in SORT_KEYS:
            raise BadRequest(f"The request was rejected: EC2 resources do not sort by {key}.")
        by = {
            "ACCOUNT_ID": lambda row: row["accountId"],
            "COVERAGE_STATUS": lambda row: row["coverageStatus"],
            "INSTANCE_ID": lambda row: row["resourceId"],
            "UPDATED_AT": lambda row: row["updatedAt"],
        }[key]
        rows = sorted(rows, key=by, reverse=sort.get("orderBy") == "DESC")
        token = str(body.get("nextToken") or "0")
        if not token.isdigit():
            raise BadRequest("The request was rejected: the next token is not one of ours.")
        start = int(token)
        end = start + int(body.get("maxResults", 50))
        answer: dict[str, Any] = {"resources": rows[start:end]}
        if end < len(rows):
            answer["nextToken"] = str(end)
        return json.dumps(answer)

    def get_coverage_statistics(self) -> str:
        body = self._validated()
        criteria = body.get("filterCriteria", {}).get("filterCriterion", [])
        rows = self.local.rows(self.path.split("/")[2], criteria)
        statistics: dict[str, dict[str, int]] = {}
        if "COUNT_BY_RESOURCE_TYPE" in body["statisticsType"]:
            statistics["countByResourceType"] = Counter(row["resourceDetails"]["resourceType"] for row in rows)
        if "COUNT_BY_COVERAGE_STATUS" in body["statisticsType"]:
            statistics["countByCoverageStatus"] = Counter(row["coverageStatus"] for row in rows)
        return json.dumps({"coverageStatistics": statistics})


def install(world: World) -> None:
    """Make moto's GuardDuty ours. Call it before the first request."""
    guardduty_backends.backend = type("GuardDutyBackend", (LocalGuardDutyBackend,), {"world": world})
