"""A model of fleets of ECS container instances, behind ordinary boto3 clients and a clock that does not wait.

    fleet file ─▶ spec ─▶ world ─▶ session ─▶ whatever talks to AWS
                            │
                            └─▶ invariants, timeline ─▶ picture

This is not the machine as the cloud that the other modules of `pipeline.rehearsal` make: nothing boots here.
"""
