"""An organization of accounts behind ordinary boto3 clients: what GuardDuty, EC2, ECS and SSM would say, and why."""
