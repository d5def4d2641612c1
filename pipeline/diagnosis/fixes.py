"""The command that puts a finding right: in, a finding and one of its causes; out, a command line, or nothing.

Nothing where no command of ours helps: hosts outside of Auto Scaling groups cannot be rolled, Bottlerocket has neither
our images nor a shell, and the endpoint of a shared VPC is its owner's. `tests/diagnosis/test_fixes.py` holds every
line against the tasks of `./run`.
"""

from collections.abc import Sequence

from pipeline.diagnosis.causes import causes
from pipeline.diagnosis.model import Finding


def command(finding: Finding, cause: str) -> str:
    """The command line, filled in."""
    fix, options = causes()[cause].fix, causes()[cause].options
    if fix is None:
        return ""
    at = f"--account {finding.account} --region {finding.region}"
    if fix == "enable-monitoring":
        account = finding.vpc_owner if causes()[cause].level == "vpc" else finding.account
        words = f"./run enable-monitoring --on aws --account {account} --region {finding.region} {options}"
        return words.rstrip() if account else ""
    if fix == "endpoint":
        return f"./run fix --on aws --endpoint {at}" if finding.vpc and not finding.vpc_owner else ""
    if fix == "redeploy":
        return f"./run fix --on aws --redeploy {at} --cluster {finding.cluster}"
    if finding.kind != "host" or finding.system == "bottlerocket":
        return ""
    if fix == "roll":
        return f"./run roll --on aws --region {finding.region} --group {finding.group}" if finding.group else ""
    return install([finding.id], finding.region)


def install(hosts: Sequence[str], region: str) -> str:
    """The command line that installs the agent on hosts of one account and region."""
    named = " ".join(f"--instance {one}" for one in hosts)
    return f"./run install-agent --on aws --region {region} {named}"


def acts_in(finding: Finding, cause: str) -> str:
    """The account whose credentials the command needs; nothing where those of the administrator do."""
    return finding.account if causes()[cause].fix in ("roll", "install-agent") else ""
