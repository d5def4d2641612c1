"""SSM's own API about executions, as a document sees it: answered from the executions that are run here.

A started execution is asynchronous in AWS. Here it is run to its end when somebody first asks about it, or after the
execution that started it; the limits of whoever asks stand still meanwhile.
"""

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ParamValidationError
from botocore.validate import ParamValidator

from pipeline.errors import OvenproofError
from pipeline.runbook.language import DIED
from pipeline.runbook.seams import Halt
from pipeline.runbook.trace import Execution, StepTrace
from pipeline.runbook.values import as_texts

if TYPE_CHECKING:
    from pipeline.runbook.execute import Run


class OwnExecutions:
    """An ssm client; what it does not say itself, the session's client says."""

    def __init__(self, client: Any, run: "Run") -> None:
        self._client = client
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def start_automation_execution(self, **parameters: Any) -> dict[str, Any]:
        """Take a document and its parameters; run it later."""
        self._check("StartAutomationExecution", parameters)
        run, engine = self._run, self._run.engine
        try:
            document = run.seams.documents(parameters["DocumentName"])
        except OvenproofError as error:
            raise Halt(error) from error
        execution_id = engine.new_id(f"{run.execution_id}/started")
        from pipeline.runbook.execute import execute_in

        def later() -> Execution:
            with engine.timer.no_limits():
                cancelled, engine.cancelled = engine.cancelled, False
                try:
                    return execute_in(
                        engine, document, parameters.get("Parameters", {}), execution_id=execution_id, depth=1
                    )
                finally:
                    engine.cancelled = cancelled

        engine.waiting[execution_id] = later
        return {"AutomationExecutionId": execution_id, "ResponseMetadata": {"HTTPStatusCode": 200}}

    def get_automation_execution(self, **parameters: Any) -> dict[str, Any]:
        """An execution of this run or of an earlier one; one whose engine died is not found."""
        self._check("GetAutomationExecution", parameters)
        return {"AutomationExecution": self._found(parameters["AutomationExecutionId"], "GetAutomationExecution")}

    def describe_automation_step_executions(self, **parameters: Any) -> dict[str, Any]:
        """The steps of such an execution."""
        operation = "DescribeAutomationStepExecutions"
        self._check(operation, parameters)
        return {"StepExecutions": self._found(parameters["AutomationExecutionId"], operation)["StepExecutions"]}

    def _found(self, execution_id: str, operation: str) -> dict[str, Any]:
        engine = self._run.engine
        if execution_id in engine.waiting:
            self._run.children.append(engine.waiting.pop(execution_id)())
        if execution_id in engine.running:
            running = engine.running[execution_id]
            return _described(running.ended())
        found = self._run.seams.executions.get(execution_id)
        if found is None or found.status == DIED:
            code = "AutomationExecutionNotFoundException"
            response = {"Error": {"Code": code, "Message": f"no execution {execution_id}"}}
            raise self._client.exceptions.from_code(code)(response, operation)
        return _described(found)

    def _check(self, operation: str, parameters: dict[str, Any]) -> None:
        shape = self._client.meta.service_model.operation_model(operation).input_shape
        report = ParamValidator().validate(parameters, shape)
        if report.has_errors():
            raise ParamValidationError(report=report.generate_report())


def _described(execution: Execution) -> dict[str, Any]:
    return {
        "AutomationExecutionId": execution.execution_id,
        "DocumentName": execution.document,
        "AutomationExecutionStatus": execution.status,
        "ExecutionStartTime": execution.started,
        "FailureMessage": execution.failure,
        "Parameters": {name: as_texts(value) for name, value in execution.parameters.items()},
        "Outputs": {name: as_texts(value) for name, value in execution.outputs.items()},
        "StepExecutions": [_step(step) for step in execution.steps],
        "StepExecutionsTruncated": False,
    }


def _step(step: StepTrace) -> dict[str, Any]:
    described: dict[str, Any] = {"StepName": step.name, "Action": step.action, "StepStatus": step.status}
    if step.outputs:
        described["Outputs"] = {name: as_texts(value) for name, value in step.outputs.items()}
    if step.failure:
        described["FailureMessage"] = step.failure
    if step.started:
        described["ExecutionStartTime"] = step.started
    if step.ended:
        described["ExecutionEndTime"] = step.ended
    return described
