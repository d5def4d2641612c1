"""Every check: a function from a document to what it finds. One function may speak for several rules."""

from collections.abc import Callable, Iterator
from typing import Final

from pipeline.runbook.lint.checks import (
    branching,
    calls,
    flow,
    limits,
    names,
    operators,
    policies,
    scripts,
    shape,
    together,
)
from pipeline.runbook.lint.finding import Found
from pipeline.runbook.lint.view import Document

Check = Callable[[Document], Iterator[Found]]

AUTOMATION: Final[tuple[Check, ...]] = (
    shape.document_shape,
    shape.parameter_shapes,
    shape.patterns,
    shape.step_shapes,
    shape.action_inputs,
    shape.json_scripts,
    names.step_names,
    names.step_targets,
    names.references_known,
    names.document_outputs,
    names.unused_names,
    calls.api_calls,
    calls.selectors,
    branching.conditions,
    flow.unreachable_steps,
    flow.endless_loops,
    flow.branches,
    flow.outputs_in_time,
    limits.timeouts,
    limits.durations,
    limits.loops,
    limits.given_parameters,
    together.started_documents,
    scripts.runtimes,
    scripts.scripts,
    operators.ways_back,
    operators.repaired_paths,
    operators.silent_ways_back,
    operators.retries,
    operators.secrets,
    operators.wildcards,
    operators.shells,
    operators.roles,
    operators.notes,
    policies.policies,
)
COMMAND: Final[tuple[Check, ...]] = (
    shape.parameter_shapes,
    shape.patterns,
    operators.command_steps,
    operators.command_shells,
)
