"""What the services of one local cloud share: the guests, the base guests, who is heard of, what is served.

moto creates backends by itself, one a region, so they find the world through a class attribute set by `install`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.clock import Clock
from pipeline.rehearsal import stand_in
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
        """Register a base guest in every region in use; the newest of its line is the one that parameters lead to.

        As in AWS an older release stays an image, and does not become the recommended one again while the newer stands.
        """
        with self.hosting.lock:
            old = self.bases.get(base.line)
            if old == base or (old and old.made > base.made and old.disk.is_file()):
                return
            self.bases[base.line] = base
            self.hosting.store.remember_base(base)
            for backend in self.ec2.values():
                if old and stand_in.image_name(old) == stand_in.image_name(base):
                    backend.forget_base(old)
                backend.show_base(base)

    def tags_on(self, region: str, kind: str, name: str) -> tuple[str, ...]:
        """The keys of the tags on a resource of EC2, in order; none when nobody knows it."""
        backend = self.ec2.get(region)
        if backend is None:
            return ()
        if kind == "key-pair" and name in backend.key_pairs:
            name = backend.key_pairs[name].id
        return tuple(sorted(backend.tags.get(name, ())))

    def files(self) -> Responder:
        """The repository and artifact server of every guest."""

        def roots() -> Mapping[str, Path]:
            with self.hosting.lock:
                return dict(self.roots)

        return static_files(roots)
