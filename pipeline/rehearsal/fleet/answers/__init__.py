"""What the world answers to each operation: one module a service, each function one operation.

In: the world and parameters that botocore has validated. Out: a dict in the operation's output shape, or Refused.
A parameter that an operation does not list is refused by `World.call`.
"""

from pipeline.rehearsal.fleet.answers import autoscaling, ec2, ecs, others, ssm
from pipeline.rehearsal.fleet.answers.registry import OPERATIONS

__all__ = ["OPERATIONS", "autoscaling", "ec2", "ecs", "others", "ssm"]
