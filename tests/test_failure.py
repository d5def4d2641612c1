"""From a failed build to an error that says what to do."""

import re
from pathlib import Path

import pytest

from pipeline import paths
from pipeline.failure import bake_error, known_causes, likely_cause
from pipeline.packer_output import BuildFollower, Failed

SAMPLES = Path(__file__).parent / "samples" / "packer"
LOG = Path("/home/ada/.cache/ovenproof/bake/packer.log")


def failed(*last_lines: str, reason: str = "Script exited with non-zero exit status: 1") -> Failed:
    return Failed(
        phase="30-install-agent.sh",
        kind="provisioner",
        reason=reason,
        last_lines=last_lines,
        stderr=(),
        left_behind=(),
        timings=(),
    )


def recorded(sample: str) -> Failed:
    follower = BuildFollower()
    for line in (SAMPLES / f"{sample}.txt").read_text().splitlines():
        follower.feed(line)
    outcome = follower.finish(1)
    assert isinstance(outcome, Failed)
    return outcome


def test_a_script_that_says_why_is_believed() -> None:
    error = bake_error(recorded("signature-bad"), LOG)
    assert error.exit_code == 5
    assert str(error) == (
        "the bake stopped in 30-install-agent.sh: the agent's package is not what the pinned key signed\n"
        "  found:    Script exited with non-zero exit status: 12. Allowed exit codes are: [0]\n"
        "            last lines of 30-install-agent.sh:\n"
        '              gpg: BAD signature from "GuardDuty test key"\n'
        "              ovenproof-error: signature-bad: the package does not match its signature\n"
        "              fetching amazon-guardduty-agent 1.17.1\n"
        "  where:    /home/ada/.cache/ovenproof/bake/packer.log\n"
        "  do:       do not use the package; fetch it again by hand, and ask AWS if it still fails"
    )


def test_a_guess_is_called_one() -> None:
    assert str(bake_error(recorded("ssh-timeout"), LOG)) == (
        "the bake stopped in the phase 'connect to the builder'; "
        "likely cause: the builder started, and SSH did not answer in time\n"
        "  found:    Timeout waiting for SSH.\n"
        "            last lines of connect to the builder:\n"
        "              Waiting for SSH to become available...\n"
        "  where:    /home/ada/.cache/ovenproof/bake/packer.log\n"
        "  do:       check the subnet's route and network ACL, that the base's ssh user is the catalog's, "
        "and the builder's console output"
    )


def test_what_is_unknown_is_said_to_be_unknown() -> None:
    assert str(bake_error(failed("segmentation fault"), LOG)) == (
        "the bake stopped in 30-install-agent.sh\n"
        "  found:    Script exited with non-zero exit status: 1\n"
        "            last lines of 30-install-agent.sh:\n"
        "              segmentation fault\n"
        "  where:    /home/ada/.cache/ovenproof/bake/packer.log\n"
        "  do:       read the last lines, then the log; nothing in them is known to Ovenproof"
    )


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("error: can't create transaction lock on /var/lib/rpm/.rpm.lock", "another process holds rpm's lock"),
        ("Error: Nothing to do", "yum of Amazon Linux 2 fails when all it was given is installed already"),
        ("write error: No space left on device", "the builder's disk is full"),
        ("curl: (6) Could not resolve host: repo", "the builder does not reach its package repositories"),
        (
            'exec: "session-manager-plugin": executable file not found in $PATH',
            "session-manager-plugin is not on this machine",
        ),
        ("TargetNotConnected: i-1 is not connected.", "SSM does not manage the builder"),
        ("ssh: handshake failed: ssh: unable to authenticate", "the builder refuses the bake's temporary key"),
        (
            "Script disconnected unexpectedly. If you expected your script to disconnect",
            "the connection broke while a script ran; the builder crashed, rebooted or ran out of memory",
        ),
        ("api error ExpiredToken: The security token is expired", "the credentials ran out during the bake"),
        ("api error UnauthorizedOperation: You are not", "the credentials may not do what Packer asked for"),
        ("api error RequestLimitExceeded: Request limit", "AWS throttled the calls of this account"),
        ("api error InsufficientInstanceCapacity: We", "EC2 has no such instance to give"),
        ("api error VPCIdNotSpecified: No default VPC", "there is no network to start the builder in"),
        ("exceeded max wait time for ImageAvailable waiter", "the image, or its snapshot, was not ready in time"),
    ],
)
def test_known_symptoms(line: str, cause: str) -> None:
    found = likely_cause(failed(line))
    assert found is not None
    assert (found.text, found.certain) == (cause, False)


def test_a_code_without_an_entry_still_tells_its_text() -> None:
    found = likely_cause(failed("ovenproof-error: brand-new: the oven is cold"))
    assert found is not None
    assert (found.text, found.certain) == ("the oven is cold", True)
    assert found.remedy == "read what 30-install-agent.sh printed"


@pytest.mark.parametrize("code", ["package-missing", "signature-missing", "key-missing"])
def test_a_403_of_s3_is_not_taken_for_a_missing_file_alone(code: str) -> None:
    line = f"ovenproof-error: {code}: https://bucket/1.17.1/x is not there (HTTP 403): check the agent's version"
    found = likely_cause(failed(line))
    assert found is not None
    assert found.text.endswith("or may not be read from here")
    assert "S3 gives 403 for what is missing as well as for what is denied" in found.remedy


def test_a_long_list_of_failed_checks_keeps_its_headline() -> None:
    headline = "ovenproof-error: checks-failed: 30 of the image's checks failed: cron-modes, ..."
    found = bake_error(failed(headline, *(f"check {number}" for number in range(1, 31))), LOG).found.splitlines()
    assert found[2:4] == [f"  {headline}", "  check 11"]
    assert found[-1] == "  check 30"


def test_every_code_of_the_scripts_has_a_cause() -> None:
    printed = {
        code
        for script in sorted((paths.IMAGES / "provision").glob("*.sh"))
        for code in re.findall(r"(?:\bfail |ovenproof-error: )([a-z]+(?:-[a-z]+)*)[ :]", script.read_text())
    }
    assert printed - set(known_causes().codes) == set()


def test_every_pattern_is_a_regular_expression() -> None:
    for pattern in known_causes().matches:
        re.compile(pattern.match)
