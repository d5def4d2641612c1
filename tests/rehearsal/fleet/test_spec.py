"""Fleet files: the examples live, and what is wrong in a file is said with its place."""

from pathlib import Path

import pytest

from pipeline.errors import CatalogError, UsageError
from pipeline.rehearsal.fleet.spec import FLEETS, example_fleet, read_fleet
from tests.rehearsal.fleet.worlds import Fleet


@pytest.mark.parametrize("name", sorted(file.stem for file in FLEETS.glob("*.yaml")))
def test_every_example_lives_and_is_steady(name: str) -> None:
    fleet = Fleet(name)
    fleet.wait(600)
    assert fleet.world.broken() == ()


def test_the_example_has_twenty_hosts_and_sixty_tasks() -> None:
    spec = example_fleet("twenty")
    assert spec.groups[0].desired == 20
    assert sum(service.desired for service in spec.services) == 60


def test_an_unknown_example_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="twenty"):
        example_fleet("thirty")


def test_a_fault_in_a_file_has_its_line(tmp_path: Path) -> None:
    text = (FLEETS / "twenty.yaml").read_text(encoding="utf-8")
    file = tmp_path / "fleet.yaml"
    file.write_text(text.replace("desired: 20\n    default", "desierd: 20\n    default"), encoding="utf-8")
    with pytest.raises(CatalogError, match=r"fleet.yaml:\d+:\d+ groups > item 1"):
        read_fleet(file)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("cluster: example\n    template", "cluster: other\n    template", "not in `clusters`"),
        ("template: example\n    subnets", "template: other\n    subnets", "not in `templates`"),
        ("max_size: 40", "max_size: 10", "not between"),
        ("    desired: 30", "    constraints: [memberOf something]\n    desired: 30", "not modelled"),
    ],
)
def test_what_refers_to_nothing_is_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    text = (FLEETS / "twenty.yaml").read_text(encoding="utf-8")
    assert old in text
    file = tmp_path / "fleet.yaml"
    file.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(CatalogError, match=complaint):
        read_fleet(file)


def test_more_tasks_than_fit_are_refused() -> None:
    spec = example_fleet("twenty")
    services = (spec.services[0].model_copy(update={"desired": 500}),)
    with pytest.raises(CatalogError, match="room for"):
        Fleet(spec, services=services)
