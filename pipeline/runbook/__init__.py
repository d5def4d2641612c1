"""SSM Automation documents, schema 0.3: read, linted and executed on this machine."""
