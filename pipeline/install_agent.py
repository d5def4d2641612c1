"""`./run install-agent`: hosts or a group in; the agent on each of them, by Ovenproof-InstallAgentOnInstances.

For running hosts that cannot be replaced by baked ones yet. `local` runs the documents against the fleet model; `aws`
starts them in SSM Automation and follows. Which host gets it, in which order and when to stop is the documents' word.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.documents import PREFIX
from pipeline.engine import Ended, Engine, Say, open_engine
from pipeline.errors import UsageError
from pipeline.progress import duration

DOCUMENT: Final = f"{PREFIX}InstallAgentOnInstances"
MOST: Final = 50  # values of a parameter: Systems Manager API, StartAutomationExecution


@dataclass(frozen=True, kw_only=True)
class InstallRequest:
    """What the user asked for; empty values leave the document's own defaults."""

    group: str = ""
    instances: Sequence[str] = ()
    version: str = ""
    source: str = ""
    max_concurrency: str = ""
    max_errors: str = ""

    def parameters(self) -> dict[str, Any]:
        """Parameters of the document. Raises UsageError for what SSM would refuse."""
        if bool(self.group) == bool(self.instances):
            raise UsageError(
                "it is not said where the agent is to be installed",
                expected="--group NAME, or --instance ID once or several times",
                found="both" if self.group else "neither",
                where="./run install-agent",
                remedy="name one of both",
            )
        if wrong := [one for one in self.instances if not re.fullmatch(r"i-[0-9a-f]{8,17}", one)]:
            raise UsageError(f"{wrong[0]} is no instance's id", expected="i- and 8 to 17 digits", where="--instance")
        if len(self.instances) > MOST:
            raise UsageError(
                f"{len(self.instances)} hosts are more than SSM takes by name",
                expected=f"at most {MOST}",
                where="--instance",
                remedy="name their Auto Scaling group, or start it for some of them after the others",
            )
        given = {
            "Group": self.group,
            "InstanceIds": list(self.instances),
            "Version": self.version,
            "Source": self.source,
            "MaxConcurrency": self.max_concurrency,
            "MaxErrors": self.max_errors,
        }
        return {name: value for name, value in given.items() if value not in ("", [])}


def install_with(engine: Engine, request: InstallRequest, say: Say) -> Ended:
    """Install and prove. Raises ExecutionError when more hosts failed than were allowed to."""
    ended = engine.run(DOCUMENT, request.parameters(), say)
    if not ended.good:
        raise ended.error(
            f"the agent is not on all of {request.group or ', '.join(request.instances)}",
            found=f"{ended.status}: {ended.failure}",
            remedy="mend what it says and start it again: hosts that have the agent keep it; a kernel below 5.4 needs "
            "a roll (`./run roll`)",
        )
    return ended


def install_agent(request: InstallRequest, *, on: str, region: str, fleet: str, say: Say) -> None:
    """Install the agent. Raises what `install_with` and `open_engine` raise."""
    request.parameters()
    engine, _ = open_engine(on, region, fleet)
    ended = install_with(engine, request, say)
    say(f"installed and proven in {duration(ended.seconds)}")
