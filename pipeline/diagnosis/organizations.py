"""Units of AWS Organizations: in, a root or unit; out, what is below it."""

from collections.abc import Iterator

from pipeline.diagnosis.access import Access

HOME = "us-east-1"
"""Where AWS Organizations answers."""


def units(access: Access, parent: str) -> Iterator[dict[str, str]]:
    """The units right below a root or unit, each with `Id` and `Name`."""
    yield from access.pages(
        "",
        HOME,
        "organizations",
        "list_organizational_units_for_parent",
        "OrganizationalUnits",
        ParentId=parent,
        MaxResults=20,
    )


def accounts_below(access: Access, parent: str) -> Iterator[str]:
    """Every account of a root or unit and of all units below it."""
    for row in access.pages(
        "", HOME, "organizations", "list_accounts_for_parent", "Accounts", ParentId=parent, MaxResults=20
    ):
        yield row["Id"]
    for unit in units(access, parent):
        yield from accounts_below(access, unit["Id"])
