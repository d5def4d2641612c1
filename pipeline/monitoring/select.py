"""Which accounts: in, ids, an organizational unit or a tag; out, account ids."""

from collections.abc import Iterator, Sequence

from pipeline.diagnosis.access import Access
from pipeline.diagnosis.organizations import HOME, accounts_below, units
from pipeline.errors import UsageError


def select(access: Access, *, accounts: Sequence[str], unit: str = "", tag: str = "") -> tuple[str, ...]:
    """The accounts that are named, in the unit (with all below it), or tagged `key=value`; each once.

    Raises UsageError when nothing is named, CloudError when AWS Organizations does not let the caller look.
    """
    if not (accounts or unit or tag):
        raise UsageError(
            "no account is named",
            expected="--account, --unit or --tag",
            remedy="name the accounts; all members at once are never meant by saying nothing",
        )
    found = list(accounts)
    if unit:
        found += accounts_below(access, _unit_id(access, unit))
    if tag:
        key, sign, value = tag.partition("=")
        if not sign:
            raise UsageError(f"{tag} is no tag", expected="key=value", where="--tag")
        found += _tagged(access, key, value)
    return tuple(dict.fromkeys(found))


def _unit_id(access: Access, unit: str) -> str:
    """The id of a unit given as an id, or as a path of names below the root."""
    if unit.startswith(("ou-", "r-")):
        return unit
    at: str = next(iter(access.pages("", HOME, "organizations", "list_roots", "Roots")))["Id"]
    for name in unit.strip("/").split("/"):
        children = {row["Name"]: row["Id"] for row in units(access, at)}
        if name not in children:
            raise UsageError(
                f"there is no organizational unit {unit}",
                expected=f"one of {', '.join(sorted(children)) or '(none)'} for {name!r}",
                where="--unit",
            )
        at = children[name]
    return at


def _tagged(access: Access, key: str, value: str) -> Iterator[str]:
    for row in access.pages("", HOME, "organizations", "list_accounts", "Accounts", MaxResults=20):
        tags = access.pages("", HOME, "organizations", "list_tags_for_resource", "Tags", ResourceId=row["Id"])
        if any((tag["Key"], tag["Value"]) == (key, value) for tag in tags):
            yield row["Id"]
