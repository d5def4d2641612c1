"""Why is this not covered: GuardDuty's view of an account joined with what exists in it."""
