"""The rules as data: `rules/*.yaml`, one file a tier, each rule with its reason, source and examples.

A rule's examples are its tests: the bad one is found by this rule and by no other, the good one by none.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from pipeline.runbook.lint.finding import Severity

FOLDER: Final = Path(__file__).parent / "rules"
TIERS: Final = ("source", "creation", "run-time", "scripts", "operations", "permissions")
_LOADER: Final[type[Any]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

HEADER: Final = 'schemaVersion: "0.3"\ndescription: An example.\n'


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule. `bad` and `good` are whole documents, or what follows the first two lines of one.

    `policy` is shipped with the bad one, `good_policy` (or the same) with the good one; `suffix` is how files end.
    """

    id: str
    tier: str
    severity: Severity
    reason: str
    link: str
    bad: str
    good: str
    policy: str = ""
    good_policy: str = ""
    suffix: str = ".yaml"

    def example(self, text: str) -> str:
        """An example as a whole document."""
        whole = "schemaVersion" in text or self.tier == "source" or self.suffix == ".json"
        return text if whole else HEADER + text


@functools.cache
def rules() -> Mapping[str, Rule]:
    """Every rule by its id, in the order of the files."""
    known: dict[str, Rule] = {}
    for tier in TIERS:
        listed = yaml.load((FOLDER / f"{tier}.yaml").read_text(encoding="utf-8"), _LOADER)  # noqa: S506 - a safe loader
        for rule_id, fields in (listed or {}).items():
            known[rule_id] = Rule(id=rule_id, tier=tier, **fields)
    return known
