"""Execute an Automation document: the document, its parameters and the seams in; what AWS would report out.

The flow of steps is here (which step follows, what a failure or a cancellation does, when a loop ends); what a step
does is in `actions.py`, `automation.py` and `scripts.py`. Sources: UG automation-actions, automation-action-*,
automation-handling-timeouts, automation-statuses; what they leave open is in CONFORMANCE.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from weakref import WeakKeyDictionary

from pipeline.errors import OvenproofError, UsageError
from pipeline.runbook import actions, automation
from pipeline.runbook.conditions import chosen, holds
from pipeline.runbook.document import Document, Step
from pipeline.runbook.engine import Cancelled, Died, Engine, Outcome, StepFailed, call
from pipeline.runbook.language import (
    ACTIONS,
    DIED,
    ITERATION,
    ITERATOR_VALUE,
    LIMITS,
    LOOP_ITERATION,
    LOOP_ITSELF,
    Input,
    ValueType,
)
from pipeline.runbook.own_executions import OwnExecutions
from pipeline.runbook.permitted import Permitted
from pipeline.runbook.seams import Halt, Moment, Seams
from pipeline.runbook.selector import MISSING, BadSelector, select
from pipeline.runbook.start import started_with
from pipeline.runbook.timer import TimeUp
from pipeline.runbook.trace import Execution, StepTrace
from pipeline.runbook.values import Reference, Template, Unresolved, as_json, compiled, is_of_type, type_of

NOT_AVAILABLE: Final = "No output available yet because the step is not successfully executed"
"""What AWS reports for a document's output whose step did not yield it."""

_WHOLE_VALUES: Final = frozenset({"aws:executeScript", "aws:invokeLambdaFunction"})
"""Actions whose payload is the author's own: a list inside of a list stays one."""


def execute(
    document: Document,
    parameters: Mapping[str, Any],
    seams: Seams,
    *,
    execution_id: str | None = None,
) -> Execution:
    """Run the document to its end, then whatever executions it started and did not wait for (its `children`).

    Raises UsageError when the parameters are refused, and whatever OvenproofError the seams or the model behind the
    session raise (an answer that is missing, an action that is not executed here). Failures of steps are not raised:
    they are in the result.
    """
    engine = Engine(seams)
    chosen_id = execution_id or engine.new_id(f"{document.name}/{seams.clock.now()}/{len(seams.executions)}")
    try:
        return execute_in(engine, document, parameters, execution_id=chosen_id, depth=0)
    except Halt as halt:
        raise halt.error from halt


def execute_in(
    engine: Engine,
    document: Document,
    parameters: Mapping[str, Any],
    *,
    execution_id: str,
    depth: int,
    region: str = "",
    account: str = "",
    target: str = "",
) -> Execution:
    """Run a document as part of a run: `depth` 0 is the one that was asked for."""
    engine.count_nested(document, depth)
    run = Run(engine, document, execution_id=execution_id, depth=depth, region=region, account=account)
    run.start(parameters, target)
    engine.running[execution_id] = run
    try:
        run.main()
    except Died:
        run.status = DIED
        if depth:
            raise
    finally:
        del engine.running[execution_id]
        engine.seams.executions[execution_id] = run.ended()
    if depth == 0 and run.status != DIED:
        while engine.waiting:
            started = next(iter(engine.waiting))
            try:
                run.children.append(engine.waiting.pop(started)())
            except Died:
                run.status = DIED
                break
    return run.ended()


@dataclass(frozen=True, kw_only=True)
class _Compiled:
    step: Step
    inputs: Template
    checks: tuple[tuple[str, Input, bool], ...]  # input's name, its rule, and whether it is written as a reference


@dataclass(frozen=True, kw_only=True)
class _Program:
    """What is made once from a document, however often it is executed."""

    steps: Mapping[str, _Compiled]
    homes: Mapping[str, tuple[tuple[Step, ...], int]]  # the list that a step is in, and where in it


_programs: WeakKeyDictionary[Document, _Program] = WeakKeyDictionary()


def _program(document: Document) -> _Program:
    program = _programs.get(document)
    if program is None:
        homes: dict[str, tuple[tuple[Step, ...], int]] = {}
        lists = [document.steps, *(step.steps for step in document.all_steps() if step.steps)]
        for steps in lists:
            for index, step in enumerate(steps):
                homes[step.name] = (steps, index)
        program = _Program(steps={step.name: _compile(step) for step in document.all_steps()}, homes=homes)
        _programs[document] = program
    return program


def _compile(step: Step) -> _Compiled:
    known = ACTIONS[step.action].inputs
    return _Compiled(
        step=step,
        inputs=compiled(step.inputs, splice=step.action not in _WHOLE_VALUES),
        checks=tuple(
            (name, known[name], isinstance(value, str) and "{{" in value)
            for name, value in step.inputs.items()
            if name in known
        ),
    )


@dataclass(eq=False)
class _Record:
    """A step while it runs."""

    step: Step
    started: datetime
    execution_id: str
    iteration: int
    parent: str
    status: str = "InProgress"
    attempts: int = 0
    inputs: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    ended: datetime | None = None
    failure: str = ""

    def trace(self) -> StepTrace:
        return StepTrace(
            name=self.step.name,
            action=self.step.action,
            status=self.status,
            attempts=self.attempts,
            inputs=self.inputs,
            outputs=self.outputs,
            started=self.started,
            ended=self.ended,
            failure=self.failure,
            iteration=self.iteration,
            parent=self.parent,
            execution_id=self.execution_id,
        )


@dataclass(frozen=True)
class _Left:
    """How a list of steps was left: at its end, by a jump to a step elsewhere, or with the whole execution over."""

    jump: str = ""
    over: bool = False
    aborted: bool = False


_AT_END: Final = _Left()


class Run:
    """One execution."""

    def __init__(
        self, engine: Engine, document: Document, *, execution_id: str, depth: int, region: str, account: str
    ) -> None:
        self.engine = engine
        self.seams = engine.seams
        self.timer = engine.timer
        self.document = document
        self.execution_id = execution_id
        self.depth = depth
        self.status = "InProgress"
        self.failure = ""
        self.children: list[Execution] = []
        self.parameters: Mapping[str, Any] = {}
        self.script_modules: dict[str, Any] = {}
        self.started_at = self.timer.now()
        self._program = _program(document)
        self._values: dict[str, Any] = {}
        self._records: list[_Record] = []
        self._critical = ""
        self._cancelling = engine.cancelled  # started on the way of a cancellation: it is to run
        self._was_cancelled = False
        self._iterations: list[tuple[str, int]] = []
        self._region = region
        self._account = account
        here = region == "" and account == ""
        other = self.seams.session_for
        self.session = self.seams.session if here or other is None else other(account, region)

    # --- values ---

    def start(self, parameters: Mapping[str, Any], target: str) -> None:
        """Check and take the parameters. Raises UsageError."""
        if target:
            self._values.update({"RESOURCE_ID": target, "TARGET_ID": target})
        try:
            values = started_with(self.document, parameters, read_parameter=self._read_parameter, nested=self.depth > 0)
            for name, value in values.items():
                if name not in parameters and isinstance(value, str) and "{{" in value:
                    values[name] = compiled(value)(self.lookup)  # a default that names a system variable
        except (StepFailed, Unresolved) as error:
            raise UsageError(
                f"the execution of {self.document.name} cannot be started: a default cannot be had",
                expected="a String or StringList in Parameter Store, or a system variable",
                found=str(error),
                where=self.document.where,
                remedy="give the parameter a value, or make the one in Parameter Store",
            ) from error
        self.parameters = values
        self._values.update(values)
        for name, variable in self.document.variables.items():
            if variable.has_default:
                self._values[f"variable:{name}"] = variable.default

    def _read_parameter(self, name: str) -> Any:
        found = call(self.client("ssm").get_parameter, "ssm:GetParameter", {"Name": name})["Parameter"]
        if found.get("Type") == "SecureString":
            raise StepFailed(f"{{{{ssm:{name}}}}} is a SecureString, which a document cannot refer to")
        return found["Value"]

    def lookup(self, reference: Reference) -> Any:
        """What a reference stands for at this moment. Raises Unresolved."""
        name = reference.name
        if name in self._values:
            return self._values[name]
        if name.startswith(("global:", "automation:")):
            return self._system_value(name)
        if reference.output:
            ran = any(record.step.name == reference.step for record in self._records)
            why = "has no such output this time" if ran else "did not run"
            raise Unresolved(f"{{{{ {name} }}}} has no value: step {reference.step} {why}")
        raise Unresolved(f"{{{{ {name} }}}} has no value")

    def lookup_or_none(self, reference: Reference) -> Any:
        """As `lookup`, for conditions: what is not there compares as nothing."""
        try:
            return self.lookup(reference)
        except Unresolved:
            return None

    def _system_value(self, name: str) -> str:
        now = self.timer.now()
        if name == "global:DATE":
            return f"{now:%Y-%m-%d}"
        if name == "global:DATE_TIME":
            return f"{now:%Y-%m-%d_%H.%M.%S}"
        if name == "global:REGION":
            return self.region
        if name == "global:AWS_PARTITION":
            return self.session.get_partition_for_region(self.region)
        if name == "global:ACCOUNT_ID":
            return self.account
        return self.execution_id

    @property
    def region(self) -> str:
        """The region that the execution runs in."""
        return self._region or self.session.region_name or "us-east-1"

    @property
    def account(self) -> str:
        """The account that the execution runs in; asked of sts at most once in a run."""
        if self._account:
            return self._account
        if self.engine.account_id is None:
            identity = call(self.client("sts").get_caller_identity, "sts:GetCallerIdentity", {})
            self.engine.account_id = str(identity["Account"])
        return self.engine.account_id

    def client(self, service: str, region: str = "") -> Any:
        """A client of the session. Its executions are those of this run, unless the seams say otherwise."""
        client = self.engine.client(self.session, service, region)
        if service == "ssm" and self.seams.own_executions:
            client = OwnExecutions(client, self)
        return client if self.seams.permit is None else Permitted(client, self, service)

    # --- the flow ---

    def main(self) -> None:
        """Run the steps from the first to the end, and decide the status."""
        self._walk(self.document.steps)
        self.status = "Cancelled" if self._was_cancelled else self._critical or "Success"

    def _walk(self, steps: tuple[Step, ...], index: int = 0) -> _Left:
        """Run a list of steps from `index` on, along jumps inside of it."""
        while index < len(steps):
            step = steps[index]
            record, outcome = self._run(step)
            left = self._after(step, record, outcome)
            if left.over:
                return left
            if left.jump:
                home, place = self._program.homes[left.jump]
                if home is not steps:
                    return left
                index = place
            else:
                index += 1
        return _AT_END

    def _after(self, step: Step, record: _Record, outcome: Outcome) -> _Left:
        """Where the execution goes from a step that ended; decided from its status and what it says."""
        if record.status == "Cancelled":
            self._cancel(step)
            return _Left(over=True)
        if record.status in ("Success", "Exited"):
            if outcome.ends or (step.is_end and not outcome.jump):
                return _Left(over=True)
            return _Left(jump=outcome.jump or step.next_step)
        aborts = outcome.aborts or step.on_failure == "Abort"
        if not outcome.aborts and (step.critical or aborts):
            self._critical = self._critical or record.status
            self.failure = self.failure or f"step {step.name}: {record.failure}"
        if outcome.aborts or aborts or step.is_end:
            return _Left(over=True, aborted=outcome.aborts or aborts)
        return _Left(jump=step.fails_to or step.next_step)

    def _cancel(self, step: Step) -> None:
        """The steps that a cancellation goes to, for two minutes at most. UG automation-actions, onCancel."""
        self._was_cancelled = self._cancelling = True
        self.failure = self.failure or f"step {step.name}: cancelled by an operator"
        if not step.cancels_to:
            return
        steps, index = self._program.homes[step.cancels_to]
        try:
            with self.timer.limit(LIMITS.cancel_seconds) as two_minutes:
                left = self._walk(steps, index)
                while left.jump and not left.over:
                    steps, index = self._program.homes[left.jump]
                    left = self._walk(steps, index)
        except TimeUp as up:
            if up.deadline is not two_minutes:
                raise
            for record in self._records:
                if record.status in ("InProgress", "Waiting"):
                    why = f"the {LIMITS.cancel_seconds} s of a cancellation are over"
                    self._end(record, "Cancelled", failure=why)

    # --- one step ---

    def _run(self, step: Step) -> tuple[_Record, Outcome]:
        number = self.engine.count(self.document, step.name)
        parent, iteration = self._iterations[-1] if self._iterations else ("", 0)
        record = _Record(
            step=step,
            started=self.timer.now(),
            execution_id=self.execution_id,
            iteration=iteration,
            parent=parent,
        )
        self._records.append(record)
        self.seams.watch(record.trace())
        outcome = Outcome()
        try:
            self._ask("before", record, number)
            outcome = self._attempts(record, number)
            self._ask("after", record, number)
        except Cancelled:
            self._end(record, "Cancelled", failure="cancelled by an operator")
            return record, outcome
        except BaseException as error:
            if isinstance(error, Died | TimeUp):
                record.failure = str(error) or "the engine stopped"
            raise
        self._end(record, record.status, failure=record.failure)
        return record, outcome

    def _attempts(self, record: _Record, number: int) -> Outcome:
        step = record.step
        outcome = Outcome()
        for attempt in range(1, step.max_attempts + 1):
            if attempt > 1:
                self._ask("attempt", record, number)
            record.attempts = attempt
            outcome = self._attempt(record)
            if self.engine.cancelled and not self._cancelling:
                raise Cancelled  # of a child that this step was waiting for
            if record.status not in ("Failed", "TimedOut") or outcome.aborts:
                break
        return outcome

    def _attempt(self, record: _Record) -> Outcome:
        """One try: its status, outputs and failure go into the record."""
        step = record.step
        mine = None
        try:
            inputs = self._inputs(record)
            with self.timer.limit(self._seconds(step)) as mine:
                outcome = self._act(record, inputs)
            record.outputs = self._outputs(step, outcome)
            for name, value in {**outcome.outputs, **record.outputs}.items():
                self._values[f"{step.name}.{name}"] = value
            record.status = outcome.status
            record.failure = "an inner step failed, and its onFailure is Abort" if outcome.aborts else ""
            return outcome
        except TimeUp as up:
            if mine is None or up.deadline is not mine:
                raise
            record.status, record.failure = "TimedOut", f"timed out: {up}"
        except (StepFailed, Unresolved) as error:
            record.status, record.failure = "Failed", str(error)
        except OvenproofError as error:
            raise Halt(error) from error
        return Outcome()

    def _act(self, record: _Record, inputs: Mapping[str, Any]) -> Outcome:
        step = record.step
        if step.action == "aws:loop":
            return self._loop(step, inputs)
        if step.action == "aws:branch":
            return Outcome(jump=chosen(inputs["Choices"]) or str(inputs.get("Default") or ""))
        if step.action == "aws:updateVariable":
            name, value = actions.updated_variable(self.document, inputs)
            self._values[f"variable:{name}"] = value
            return Outcome()
        if step.action == "aws:executeAutomation":
            return automation.execute_automation(self, step, inputs)
        return actions.act(self, step, inputs)

    def _inputs(self, record: _Record) -> Mapping[str, Any]:
        """The step's inputs with every reference replaced, and checked against what the action takes."""
        one = self._program.steps[record.step.name]
        lenient = record.step.action in ("aws:branch", "aws:loop")
        inputs: Mapping[str, Any] = one.inputs(self.lookup_or_none if lenient else self.lookup)
        record.inputs = inputs
        for name, rule, referred in one.checks:
            _check_input(name, inputs[name], rule, referred)
        return inputs

    def _seconds(self, step: Step) -> float | None:
        action = ACTIONS[step.action]
        wanted = step.timeout_seconds
        if isinstance(wanted, str):
            wanted = compiled(wanted)(self.lookup)
            if isinstance(wanted, str) and wanted.isdigit():
                wanted = int(wanted)
            if not isinstance(wanted, int) or isinstance(wanted, bool):
                raise StepFailed(f"timeoutSeconds: an Integer is wanted, found {wanted!r}")
        if wanted is None:
            return action.default_seconds
        most = LIMITS.api_seconds if step.action == "aws:executeAwsApi" else action.max_seconds
        return wanted if most is None else min(wanted, most)

    def _outputs(self, step: Step, outcome: Outcome) -> dict[str, Any]:
        """Declared outputs: what each selector finds, if it is of the declared type; what it does not find is unset."""
        found = {name: value for name, value in outcome.outputs.items() if name != "OutputPayload"}
        for output in step.outputs:
            try:
                value = select(output.selector, outcome.response)
            except BadSelector as error:
                raise StepFailed(f"output {output.name}: {error}") from error
            if value is MISSING or value is None:
                continue
            value = as_json(value)
            if output.type == "Integer" and isinstance(value, float) and value.is_integer():
                value = int(value)  # JSON has one kind of number; AWS's own limits and rates come as 10000.0
            if not is_of_type(value, output.type):
                raise StepFailed(
                    f"output {output.name}: {output.selector} found a {type_of(value)}, the Type is {output.type}; "
                    "nothing is converted"
                )
            found[output.name] = value
        return found

    def _end(self, record: _Record, status: str, *, failure: str) -> None:
        record.status, record.failure, record.ended = status, failure, self.timer.now()
        self.seams.watch(record.trace())

    def waits(self) -> None:
        """Tell whoever watches that the current step waits for people."""
        record = self._records[-1]
        record.status = "Waiting"
        self.seams.watch(record.trace())

    def _ask(self, when: Any, record: _Record, number: int) -> None:
        self.engine.ask(
            Moment(
                when=when,
                document=self.document.name,
                step=record.step.name,
                action=record.step.action,
                number=number,
                attempt=record.attempts,
                depth=self.depth,
                execution_id=self.execution_id,
            )
        )

    # --- loops ---

    def _loop(self, step: Step, inputs: Mapping[str, Any]) -> Outcome:
        """UG automation-action-loop: for each item, or again while the condition holds; 100 times at most."""
        most = inputs.get("MaxIterations", LIMITS.loop_iterations)
        if not isinstance(most, int) or not 1 <= most <= LIMITS.loop_iterations:
            raise StepFailed(f"MaxIterations: {most!r}; allowed: 1 to {LIMITS.loop_iterations}")
        items = self._items(inputs) if "Iterators" in inputs else None
        condition = compiled(step.inputs.get("LoopCondition"))
        count = most if items is None else min(most, len(items))
        for iteration in range(1, count + 1):
            told = {ITERATION: iteration, LOOP_ITERATION: iteration}
            if items is not None:
                told[ITERATOR_VALUE] = items[iteration - 1]
            outcome = self._iteration(step, iteration, told)
            if outcome is not None:
                return outcome
            if items is None and not holds(condition(self.lookup_or_none)):
                break
        return Outcome()

    def _iteration(self, step: Step, iteration: int, told: Mapping[str, Any]) -> Outcome | None:
        """The inner steps once. An outcome when the loop is left before its end."""
        around = {name: self._values.get(f"{LOOP_ITSELF}.{name}") for name in told}
        for name, value in told.items():
            self._values[f"{step.name}.{name}"] = self._values[f"{LOOP_ITSELF}.{name}"] = value
        self._iterations.append((step.name, iteration))
        try:
            left = self._walk(step.steps)
        finally:
            self._iterations.pop()
            self._values.update({f"{LOOP_ITSELF}.{name}": value for name, value in around.items()})
        if self._was_cancelled:
            raise Cancelled
        if left.aborted:
            return Outcome(status="Failed", aborts=True)
        if left.over:
            return Outcome(status="Exited", ends=True)
        if left.jump:
            return Outcome(status="Exited", jump=left.jump)
        return None

    def _items(self, inputs: Mapping[str, Any]) -> list[Any]:
        items = inputs["Iterators"]
        kind: ValueType = inputs.get("IteratorDataType", "String")
        if not isinstance(items, list):
            raise StepFailed(f"Iterators: a list is wanted, found a {type_of(items)}")
        if len(items) > LIMITS.loop_iterators:
            raise StepFailed(f"Iterators: {len(items)} items; at most {LIMITS.loop_iterators} are allowed")
        for item in items:
            if not is_of_type(item, kind):
                raise StepFailed(f"Iterators: found a {type_of(item)}, IteratorDataType is {kind}")
        return items

    # --- the result ---

    def traces(self) -> tuple[StepTrace, ...]:
        """Every step as it stands: in the order in which they ran, those never reached last."""
        ran = {record.step.name for record in self._records}
        pending = (
            StepTrace(
                name=step.name,
                action=step.action,
                status="Pending",
                inputs={},
                outputs={},
                execution_id=self.execution_id,
            )
            for step in self.document.all_steps()
            if step.name not in ran
        )
        return (*(record.trace() for record in self._records), *pending)

    def ended(self) -> Execution:
        """The execution as it stands."""
        return Execution(
            execution_id=self.execution_id,
            document=self.document.name,
            status=self.status,
            outputs={name: self._document_output(name) for name in self._output_names()},
            steps=self.traces(),
            failure=self.failure,
            started=self.started_at,
            ended=self.timer.now(),
            parameters=self.parameters,
            children=tuple(self.children),
        )

    def _output_names(self) -> list[str]:
        return [text.strip().removeprefix("{{").removesuffix("}}").strip() for text in self.document.outputs]

    def _document_output(self, name: str) -> Any:
        return self._values.get(name, NOT_AVAILABLE)


def _check_input(name: str, value: Any, rule: Input, referred: bool) -> None:
    """Nothing is converted: a reference has to have the input's type. Literals are taken as AWS's JSON takes them."""
    if value is None:
        if rule.required:
            raise StepFailed(f"input {name}: nothing is there")
        return
    if referred and rule.types and not any(_fits(value, kind) for kind in rule.types):
        wanted = " or ".join(rule.types)
        raise StepFailed(
            f"input {name}: found a {type_of(value)}, the action takes a {wanted}; nothing is converted, "
            "convert it in an aws:executeScript step"
        )
    if not referred and rule.types and not any(_has_shape_of(value, kind) for kind in rule.types):
        raise StepFailed(f"input {name}: found a {type_of(value)}, the action takes a {' or '.join(rule.types)}")
    if rule.choices and str(value) not in rule.choices:
        raise StepFailed(f"input {name}: found {value!r}; allowed: {', '.join(rule.choices)}")
    if rule.max_items is not None and isinstance(value, list) and len(value) > rule.max_items:
        raise StepFailed(f"input {name}: {len(value)} items; at most {rule.max_items} are allowed")
    if rule.max_characters is not None and isinstance(value, str) and len(value) > rule.max_characters:
        raise StepFailed(f"input {name}: {len(value)} characters; at most {rule.max_characters} are allowed")


def _has_shape_of(value: Any, kind: ValueType) -> bool:
    """Whether a literal has at least the shape: one value, a list, a mapping, a list of mappings."""
    if kind == "MapList":
        return isinstance(value, list) and all(isinstance(item, dict) for item in value)
    if kind == "StringList":
        return isinstance(value, list) and not any(isinstance(item, list | dict) for item in value)
    return isinstance(value, dict) if kind == "StringMap" else not isinstance(value, list | dict)


def _fits(value: Any, kind: ValueType) -> bool:
    if kind == "StringList":
        return isinstance(value, list)
    return is_of_type(value, kind)
