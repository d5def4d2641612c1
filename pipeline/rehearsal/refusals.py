"""How EC2 of the local cloud says no: in, what was asked; out, the error that a client sees."""

from moto.ec2.exceptions import EC2ClientError


def unsupported(what: str) -> EC2ClientError:
    """For what moto would accept and forget."""
    return EC2ClientError("UnsupportedOperation", f"The local cloud does not support {what}.")


def invalid(message: str) -> EC2ClientError:
    """EC2's own code for a parameter that makes no sense."""
    return EC2ClientError("InvalidParameterValue", message)
