"""`python -m pipeline.runbook.lint`."""

import sys

from pipeline.runbook.lint.command import main

sys.exit(main())
