"""Every error a user can meet, with its exit code.

    OvenproofError          1   anything below, not further told apart
    ├─ UsageError           2   the command line asks for something that is not there
    ├─ CatalogError         3   a file of ours (catalog, hardening, record, lock) is wrong
    ├─ MachineError         4   this machine lacks something: package, program, space, network
    ├─ BakeError            5   Packer, or a script it ran, failed
    ├─ ProofError           6   the finished image did not prove itself
    ├─ PolicyRefusal        7   a policy of the catalog forbids it
    ├─ CloudError           8   AWS, or its stand-in, refused or did not answer in time
    ├─ ExecutionError       9   an Automation document was executed, and did not end Success
    └─ Interrupted        130   SIGINT, SIGTERM or SIGHUP; everything was cleaned up first

`tasks.py` is the only place that turns these into a message and an exit code.
"""

from typing import ClassVar


class OvenproofError(Exception):
    """Something the user has to know.

    what      one sentence: what went wrong
    expected  what should have been there
    found     what was there instead
    where     file and line, resource, host or log
    remedy    what to do next, as an instruction
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        what: str,
        *,
        expected: str = "",
        found: str = "",
        where: str = "",
        remedy: str = "",
    ) -> None:
        self.what = what
        self.expected = expected
        self.found = found
        self.where = where
        self.remedy = remedy
        super().__init__(self.render())

    def render(self) -> str:
        """The whole message, a labelled line for each part that is known."""
        parts = {
            "expected": self.expected,
            "found": self.found,
            "where": self.where,
            "do": self.remedy,
        }
        lines = [self.what]
        for label, text in parts.items():
            if text:
                lines.append(f"  {label + ':':<10}{text.replace(chr(10), chr(10) + ' ' * 12)}")
        return "\n".join(lines)


class UsageError(OvenproofError):
    exit_code = 2


class CatalogError(OvenproofError):
    exit_code = 3


class MachineError(OvenproofError):
    exit_code = 4


class BakeError(OvenproofError):
    exit_code = 5


class ProofError(OvenproofError):
    exit_code = 6


class PolicyRefusal(OvenproofError):
    exit_code = 7


class CloudError(OvenproofError):
    exit_code = 8


class ExecutionError(OvenproofError):
    exit_code = 9


class Interrupted(OvenproofError):
    exit_code = 130
