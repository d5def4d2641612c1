"""What is looked at: in, the command line's words; out, a `Scope` that says yes or no to clusters and hosts."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.errors import UsageError

GROUP_TAG = "aws:autoscaling:groupName"


@dataclass(frozen=True, slots=True)
class Scope:
    """Empty tuples and texts mean: all of them."""

    accounts: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    cluster: str = ""
    group: str = ""
    instance: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether nothing inside an account is left out."""
        return not (self.cluster or self.group or self.instance)

    def has_host(self, *, id: str, cluster: str, tags: Mapping[str, str] | None) -> bool:
        """Whether a host belongs; without its tags nobody can tell its group, so it then does not."""
        return (
            (not self.instance or id == self.instance)
            and (not self.cluster or cluster == self.cluster)
            and (not self.group or (tags or {}).get(GROUP_TAG) == self.group)
        )

    def has_cluster(self, name: str) -> bool:
        """Whether a cluster as a whole belongs."""
        return not (self.group or self.instance) and (not self.cluster or name == self.cluster)

    def describe(self) -> str:
        """The scope in words, for reports and to tell whether a file to resume is about the same."""
        parts = [
            f"accounts {', '.join(self.accounts)}" if self.accounts else "",
            f"regions {', '.join(self.regions)}" if self.regions else "",
            f"cluster {self.cluster}" if self.cluster else "",
            f"group {self.group}" if self.group else "",
            f"instance {self.instance}" if self.instance else "",
        ]
        return "; ".join(filter(None, parts)) or "everything"


def read_scope(
    *, accounts: Iterable[str], regions: Iterable[str], cluster: str = "", group: str = "", instance: str = ""
) -> Scope:
    """The scope of a command line; an ARN may stand for a cluster. Raises UsageError for what cannot be one."""
    numbers = tuple(dict.fromkeys(_words(accounts)))
    for number in numbers:
        if not re.fullmatch(r"\d{12}", number):
            raise UsageError(
                f"{number} is no account",
                expected="12 digits",
                where="--account",
                remedy="give the account's id, not its name",
            )
    names = tuple(dict.fromkeys(_words(regions)))
    for name in names:
        if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", name):
            raise UsageError(f"{name} is no region", expected="a name such as eu-central-1", where="--region")
    if instance and not re.fullmatch(r"m?i-[0-9a-f]{8,17}", instance):
        raise UsageError(f"{instance} is no instance", expected="an id such as i-0123456789abcdef0", where="--instance")
    return Scope(numbers, names, cluster.rsplit("/", 1)[-1], group, instance)


def _words(values: Iterable[str]) -> list[str]:
    return [word for value in values for word in value.replace(",", " ").split()]
