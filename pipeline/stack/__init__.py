"""The standing pipeline as CloudFormation: its template, and what deploys and removes it."""
