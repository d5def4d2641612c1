"""The template of the stack as text: in, the policies of `pipeline/policies/`; out, what CloudFormation takes.

The policies are those that whoever works by hand attaches, so there is one list of permissions and one place for its
reasons.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from pipeline.paths import CHECKOUT
from pipeline.templating import environment

TEMPLATE: Final = Path(__file__).with_name("template.yaml.j2")
POLICIES: Final = CHECKOUT / "pipeline" / "policies"
LIMIT: Final = 51_200
"""Bytes of a template that is given in the call itself: CloudFormation user guide, "Quotas"."""


def rendered_template() -> str:
    """The stack's template as YAML."""
    return environment(TEMPLATE.parent).get_template(TEMPLATE.name).render(policy=_policy)


def _policy(name: str, places: Mapping[str, Any]) -> str:
    """A policy in one line of JSON, which is YAML too, with CloudFormation's own values put in its places."""
    document: Any = yaml.safe_load((POLICIES / f"{name}.yaml").read_text(encoding="utf-8"))
    for statement in document["Statement"]:
        if isinstance(statement["Resource"], str) and statement["Resource"] in places:
            statement["Resource"] = places[statement["Resource"]]
    return json.dumps(document)
