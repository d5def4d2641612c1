"""What the services of one local cloud share: the guests, the base guests, who is heard of, what is served.

moto creates backends by itself, one a region, so they find the world through a class attribute set by `install`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.clock import Clock
from pipeline.rehearsal.guardduty_coverage import Agents
from pipeline.rehearsal.guest import Hosting
from pipeline.rehearsal.store import BaseRecord, Line
from pipeline.rehearsal.wire import Responder, static_files

ACCOUNT_ID = "123456789012"  # moto's only account


@dataclass
class World:
    hosting: Hosting
    clock: Clock
    bases: dict[Line, BaseRecord] = field(default_factory=dict)
    roots: dict[str, Path] = field(default_factory=dict)  # first part of a URL's path -> folder
    agents: Agents = field(default_factory=Agents)
    ec2: dict[str, Any] = field(default_factory=dict)  # region -> our EC2 backend

    def add_base(self, base: BaseRecord) -> None:
        """Register a base guest in every region in use, in place of an older one of its line."""
        with self.hosting.lock:
            if self.bases.get(base.line) == base:
                return
            old = self.bases.get(base.line)
            self.bases[base.line] = base
            self.hosting.store.remember_base(base)
            for backend in self.ec2.values():
                if old:
                    backend.forget_base(old)
                backend.show_base(base)

    def files(self) -> Responder:
        """The repository and artifact server of every guest."""

        def roots() -> Mapping[str, Path]:
            with self.hosting.lock:
                return dict(self.roots)

        return static_files(roots)
