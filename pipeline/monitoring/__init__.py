"""Putting coverage right where that is safe: member accounts, data endpoints, Fargate deployments, events."""
