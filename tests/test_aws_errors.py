"""What a refusal of AWS, or its silence, becomes."""

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, WaiterError

from pipeline.aws_errors import aws_errors, is_denied, is_gone
from pipeline.errors import CloudError, Interrupted


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "RunInstances")


def told(error: Exception) -> CloudError:
    with pytest.raises(CloudError) as caught, aws_errors("it failed", where="EC2", remedy="allow ec2:RunInstances"):
        raise error
    return caught.value


def test_a_refusal_is_told_with_the_remedy_for_it() -> None:
    assert str(told(refusal("UnauthorizedOperation"))) == (
        "it failed\n"
        "  found:    An error occurred (UnauthorizedOperation) when calling the RunInstances operation: no\n"
        "  where:    EC2\n"
        "  do:       allow ec2:RunInstances"
    )


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (NoCredentialsError(), "sign in"),
        (refusal("ExpiredToken"), "sign in"),
        (EndpointConnectionError(endpoint_url="https://ec2"), "check network"),
        (WaiterError(name="InstanceRunning", reason="time is up", last_response={}), "allow ec2:RunInstances"),
    ],
)
def test_what_every_call_would_lack_has_a_remedy_of_its_own(error: Exception, remedy: str) -> None:
    found = told(error)
    assert found.exit_code == 8
    assert found.remedy.startswith(remedy)


def test_other_errors_go_through() -> None:
    with pytest.raises(Interrupted), aws_errors("it failed", where="EC2", remedy="-"):
        raise Interrupted("stopped by SIGINT")


def test_gone_and_denied_are_told_apart() -> None:
    assert is_gone(refusal("InvalidAMIID.NotFound"))
    assert is_gone(refusal("NoSuchEntity"))
    assert not is_gone(refusal("AccessDenied"))
    assert is_denied(refusal("AccessDenied"))
    assert not is_denied(NoCredentialsError())
