"""Schema 0.3 as data: the actions with their inputs and outputs, step properties, conditions, limits, statuses.

Nothing is decided here. The executor enforces it, the linter checks a document against it. Sources, by these names:

    UG      Systems Manager User Guide, the page of the thing named (`automation-actions`, `automation-action-*`,
            `automation-variables`, `automation-branch-condition`, `documents-syntax-data-elements-parameters`)
    MODEL   botocore's service model of `ssm` (constraints of shapes)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

ValueType = Literal["String", "StringList", "Integer", "Boolean", "MapList", "StringMap"]
Impact = Literal["mutating", "non-mutating", "undetermined"]

SCHEMA_VERSION: Final = "0.3"

VALUE_TYPES: Final[tuple[ValueType, ...]] = ("String", "StringList", "Integer", "Boolean", "MapList", "StringMap")
"""Types of parameters, variables and outputs. UG documents-syntax-data-elements-parameters."""

RESOURCE_TYPE_PATTERN: Final = r"AWS::[A-Za-z0-9]+::[A-Za-z0-9]+::[A-Za-z0-9]+"
"""A parameter of a resource's type (`AWS::EC2::Instance::Id`, `List<AWS::EC2::Instance::Id>`) is a String or a
StringList with a picker in the console. By their use in published runbooks."""

DOCUMENT_KEYS: Final = (
    "schemaVersion",
    "description",
    "assumeRole",
    "parameters",
    "variables",
    "mainSteps",
    "outputs",
    "files",
)
PARAMETER_KEYS: Final = (
    "type",
    "description",
    "default",
    "allowedValues",
    "allowedPattern",
    "displayType",
    "minItems",
    "maxItems",
    "minChars",
    "maxChars",
)
VARIABLE_KEYS: Final = (*PARAMETER_KEYS, "value")
STEP_KEYS: Final = (
    "name",
    "action",
    "description",
    "maxAttempts",
    "timeoutSeconds",
    "onFailure",
    "onCancel",
    "isEnd",
    "nextStep",
    "isCritical",
    "inputs",
    "outputs",
)
"""Properties shared by all actions. UG automation-actions."""

OUTPUT_KEYS: Final = ("Name", "Selector", "Type")

STEP_NAME_PATTERN: Final = r"[a-zA-Z0-9_]+"
PARAMETER_NAME_PATTERN: Final = r"[a-zA-Z0-9]+"

STEP_STATUSES: Final = (
    "Pending",
    "InProgress",
    "Waiting",
    "Success",
    "TimedOut",
    "Cancelling",
    "Cancelled",
    "Failed",
    "Exited",  # only a loop that an inner step jumped out of
)
EXECUTION_STATUSES: Final = (
    "Pending",
    "InProgress",
    "Waiting",
    "Success",
    "TimedOut",
    "Cancelling",
    "Cancelled",
    "Failed",
)
DIED: Final = "Died"
"""Not a status of AWS: a rehearsal let the engine stop dead, and nothing was run afterwards."""

ON_CANCEL_FORBIDDEN_TARGETS: Final = frozenset(
    f"aws:{name}"
    for name in (
        "approve",
        "copyImage",
        "createImage",
        "createStack",
        "createTags",
        "pause",
        "runInstances",
        "sleep",
    )
)
"""Actions that `onCancel: step:NAME` may not go to. UG automation-actions."""

ON_CANCEL_UNSUPPORTED: Final = frozenset({"aws:loop", "aws:updateVariable"})
"""Actions that may not say `onCancel` at all. UG automation-action-loop, automation-action-update-variable."""

STRING_OPERATIONS: Final = ("StringEquals", "EqualsIgnoreCase", "StartsWith", "EndsWith", "Contains")
NUMERIC_OPERATIONS: Final = (
    "NumericEquals",
    "NumericGreater",
    "NumericLesser",
    "NumericGreaterOrEquals",
    "NumericLesserOrEquals",
)
BOOLEAN_OPERATIONS: Final = ("BooleanEquals",)
CONDITION_OPERATIONS: Final = (*STRING_OPERATIONS, *NUMERIC_OPERATIONS, *BOOLEAN_OPERATIONS)
LOGICAL_OPERATORS: Final = ("And", "Or", "Not")
"""What a choice of aws:branch, and the LoopCondition of aws:loop, is made of. UG automation-action-branch."""

GLOBAL_VARIABLES: Final[Mapping[str, ValueType]] = MappingProxyType(
    {
        "global:ACCOUNT_ID": "String",
        "global:DATE": "String",
        "global:DATE_TIME": "String",
        "global:REGION": "String",
        "global:AWS_PARTITION": "String",
        "automation:EXECUTION_ID": "String",
    }
)
"""Values that every step may refer to, evaluated when the step runs. UG automation-variables."""

PSEUDO_PARAMETERS: Final = ("RESOURCE_ID", "TARGET_ID")
"""The target of a rate-controlled execution or of a maintenance window. UG automation-action-runcommand."""

ITERATOR_VALUE: Final = "CurrentIteratorValue"
"""`{{ LOOP.CurrentIteratorValue }}`: the item of a for-each loop, inside it. UG automation-action-loop."""

LOOP_ITSELF: Final = "loop"
"""Inside of a loop's steps, `{{ loop.CurrentIteratorValue }}` is that of the loop around, whatever its name."""

LOOP_ITERATION: Final = "CurrentLoopIteration"
"""Another name that published runbooks use for ITERATION."""

ITERATION: Final = "CurrentIteration"
"""`{{ LOOP.CurrentIteration }}`: the number of the iteration, from 1. UG automation-action-loop."""

ITERATOR_TYPES: Final[tuple[ValueType, ...]] = ("Boolean", "Integer", "String", "StringMap")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Every number that AWS sets, in the unit that its name says."""

    document_bytes: int = 64 * 1024  # SDK: MaxDocumentSizeExceeded
    attachments: int = 5  # UG automation-document-script-considerations
    parameter_keys: int = 200  # MODEL AutomationParameterMap
    parameter_key_characters: int = 50  # MODEL AutomationParameterKey
    parameter_values: int = 50  # MODEL AutomationParameterValueList
    parameter_value_characters: int = 512  # MODEL AutomationParameterValue
    target_maps: int = 300  # MODEL TargetMaps
    target_locations: int = 100  # MODEL TargetLocations
    accounts_or_regions: int = 50  # MODEL Accounts, Regions
    tags: int = 5  # UG automation-action-executeAutomation
    api_seconds: int = 25  # UG automation-action-executeAwsApi
    script_seconds: int = 600  # UG automation-action-executeScript
    script_payload_bytes: int = 100 * 1024  # UG automation-action-executeScript
    script_list_items: int = 100  # UG automation-action-executeScript
    lambda_seconds: int = 300  # UG automation-action-lamb
    lambda_payload_bytes: int = 200 * 1024  # UG automation-action-lamb
    wait_default_seconds: int = 3600  # UG automation-action-waitForAwsResourceProperty
    change_state_default_seconds: int = 3600  # UG automation-action-changestate
    approve_default_seconds: int = 604_800  # UG automation-action-approve
    approve_seconds: int = 2_592_000  # UG automation-action-approve
    approvers: int = 10  # UG automation-action-approve
    approve_message_characters: int = 4096  # UG automation-action-approve
    sleep_seconds: int = 604_799  # UG automation-action-sleep
    loop_iterations: int = 100  # UG automation-action-loop
    loop_iterators: int = 100  # UG automation-action-loop
    command_instances: int = 50  # UG automation-action-runcommand
    command_output_characters: int = 2_500  # MODEL CommandPluginOutput
    cancel_seconds: int = 120  # UG automation-actions, onCancel
    variable_string_characters: int = 512  # UG automation-action-update-variable
    variable_list_items: int = 50  # UG automation-action-update-variable
    variable_map_list_items: int = 200  # UG automation-action-update-variable
    variable_key_characters: int = 50  # UG automation-action-update-variable


LIMITS: Final = Limits()


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of an action. `types` empty: anything goes (the action's own API checks it)."""

    types: tuple[ValueType, ...] = ()
    required: bool = False
    choices: tuple[str, ...] = ()
    max_items: int | None = None
    max_characters: int | None = None


@dataclass(frozen=True, kw_only=True)
class Action:
    """One of the 23 actions.

    executed          this executor runs it; otherwise a document that reaches it stops with an error that names it
    inputs            by name; `inputs_open` when the called API adds its own (executeAwsApi) or the guide says
                      "most parameters of" the API
    one_of            input names of which exactly one has to be there
    outputs           what every such step yields, by name
    declares_outputs  the step may say `outputs` of its own, selectors on its response
    impact            AWS's own class for the remediation-impact preview; `aws:loop` varies with its steps
    default_seconds   the step's time if it says no `timeoutSeconds`; None: not documented, none is applied
    max_seconds       what `timeoutSeconds` cannot exceed
    page              of the User Guide
    """

    name: str
    page: str
    impact: Impact
    executed: bool = True
    inputs: Mapping[str, Input]
    inputs_open: bool = False
    one_of: tuple[str, ...] = ()
    outputs: Mapping[str, ValueType]
    declares_outputs: bool = False
    default_seconds: int | None = None
    max_seconds: int | None = None


_ANY: Final = Input()
_TEXT: Final = Input(types=("String",))
_TEXT_NEEDED: Final = Input(types=("String",), required=True)
_NUMBER: Final = Input(types=("Integer",))
_FLAG: Final = Input(types=("Boolean",))
_TEXTS: Final = Input(types=("StringList",))
_TEXTS_NEEDED: Final = Input(types=("StringList",), required=True)
_MAP: Final = Input(types=("StringMap",))
_MAPS: Final = Input(types=("MapList",))
_API: Final = {"Service": _TEXT_NEEDED, "Api": _TEXT_NEEDED}


def _actions() -> Mapping[str, Action]:
    known = (
        Action(
            name="aws:approve",
            page="automation-action-approve",
            impact="non-mutating",
            inputs={
                "NotificationArn": _TEXT,
                "Message": Input(types=("String",), max_characters=LIMITS.approve_message_characters),
                "MinRequiredApprovals": _NUMBER,
                "Approvers": Input(types=("StringList",), required=True, max_items=LIMITS.approvers),
            },
            outputs={"ApprovalStatus": "String", "ApproverDecisions": "MapList"},
            default_seconds=LIMITS.approve_default_seconds,
            max_seconds=LIMITS.approve_seconds,
        ),
        Action(
            name="aws:assertAwsResourceProperty",
            page="automation-action-assertAwsResourceProperty",
            impact="non-mutating",
            inputs={
                **_API,
                "PropertySelector": _TEXT_NEEDED,
                "DesiredValues": Input(required=True),
            },
            inputs_open=True,
            outputs={},
            declares_outputs=True,
        ),
        Action(
            name="aws:branch",
            page="automation-action-branch",
            impact="non-mutating",
            inputs={"Choices": Input(types=("MapList",), required=True), "Default": _TEXT},
            outputs={},
        ),
        Action(
            name="aws:changeInstanceState",
            page="automation-action-changestate",
            impact="mutating",
            inputs={
                "InstanceIds": _TEXTS_NEEDED,
                "CheckStateOnly": _FLAG,
                "DesiredState": Input(types=("String",), required=True, choices=("running", "stopped", "terminated")),
                "Force": _FLAG,
                "AdditionalInfo": _TEXT,
            },
            outputs={"InstanceStates": "StringList"},
            default_seconds=LIMITS.change_state_default_seconds,
        ),
        Action(
            name="aws:copyImage",
            page="automation-action-copyimage",
            impact="mutating",
            inputs={
                "SourceRegion": _TEXT_NEEDED,
                "SourceImageId": _TEXT_NEEDED,
                "ImageName": _TEXT_NEEDED,
                "ImageDescription": _TEXT,
                "Encrypted": _FLAG,
                "KmsKeyId": _TEXT,
                "ClientToken": _TEXT,
            },
            inputs_open=True,
            outputs={"ImageId": "String", "ImageState": "String"},
        ),
        Action(
            name="aws:createImage",
            page="automation-action-create",
            impact="mutating",
            inputs={
                "InstanceId": _TEXT_NEEDED,
                "ImageName": _TEXT_NEEDED,
                "ImageDescription": _TEXT,
                "NoReboot": _FLAG,
                "BlockDeviceMappings": _ANY,
            },
            outputs={"ImageId": "String", "ImageState": "String"},
        ),
        Action(
            name="aws:createStack",
            page="automation-action-createstack",
            impact="mutating",
            executed=False,
            inputs={
                "Capabilities": _TEXTS,
                "ClientRequestToken": _TEXT,
                "DisableRollback": _FLAG,
                "NotificationARNs": _TEXTS,
                "OnFailure": Input(types=("String",), choices=("DO_NOTHING", "ROLLBACK", "DELETE")),
                "Parameters": _ANY,
                "ResourceTypes": _TEXTS,
                "RoleARN": _TEXT,
                "StackName": _TEXT_NEEDED,
                "StackPolicyBody": _TEXT,
                "StackPolicyURL": _TEXT,
                "Tags": _MAPS,
                "TemplateBody": _TEXT,
                "TemplateURL": _TEXT,
                "TimeoutInMinutes": _NUMBER,
            },
            outputs={"StackId": "String", "StackStatus": "String", "StackStatusReason": "String"},
        ),
        Action(
            name="aws:createTags",
            page="automation-action-createtag",
            impact="mutating",
            inputs={
                "ResourceIds": _TEXTS_NEEDED,
                "Tags": Input(types=("MapList",), required=True),
                "ResourceType": Input(
                    types=("String",), choices=("EC2", "ManagedInstance", "MaintenanceWindow", "Parameter")
                ),
            },
            outputs={},
        ),
        Action(
            name="aws:deleteImage",
            page="automation-action-delete",
            impact="mutating",
            inputs={"ImageId": _TEXT_NEEDED},
            outputs={},
        ),
        Action(
            name="aws:deleteStack",
            page="automation-action-deletestack",
            impact="mutating",
            executed=False,
            inputs={
                "ClientRequestToken": _TEXT,
                "RetainResources.member.N": _TEXTS,
                "RoleARN": _TEXT,
                "StackName": _TEXT_NEEDED,
            },
            outputs={},
        ),
        Action(
            name="aws:executeAutomation",
            page="automation-action-executeAutomation",
            impact="undetermined",
            inputs={
                "DocumentName": _TEXT_NEEDED,
                "DocumentVersion": _TEXT,
                "MaxConcurrency": _TEXT,
                "MaxErrors": _TEXT,
                "RuntimeParameters": _MAP,
                "Tags": Input(types=("MapList",), max_items=LIMITS.tags),
                "TargetLocations": Input(types=("MapList",), max_items=LIMITS.target_locations),
                "TargetMaps": Input(types=("MapList",), max_items=LIMITS.target_maps),
                "TargetParameterName": _TEXT,
                "Targets": _MAPS,
            },
            outputs={"Output": "StringList", "ExecutionId": "String", "Status": "String"},
        ),
        Action(
            name="aws:executeAwsApi",
            page="automation-action-executeAwsApi",
            impact="undetermined",
            inputs=_API,
            inputs_open=True,
            outputs={},
            declares_outputs=True,
            default_seconds=LIMITS.api_seconds,
        ),
        Action(
            name="aws:executeScript",
            page="automation-action-executeScript",
            impact="undetermined",
            inputs={
                "Runtime": _TEXT_NEEDED,
                "Handler": _TEXT,
                "InputPayload": _ANY,
                "Script": _TEXT,
                "Attachment": _TEXT,
            },
            one_of=("Script", "Attachment"),
            outputs={"Payload": "StringMap", "OutputPayload": "StringMap", "ExecutionLog": "String"},
            declares_outputs=True,
            default_seconds=LIMITS.script_seconds,
            max_seconds=LIMITS.script_seconds,
        ),
        Action(
            name="aws:executeStateMachine",
            page="automation-action-executeStateMachine",
            impact="undetermined",
            executed=False,
            inputs={"stateMachineArn": _TEXT_NEEDED, "name": _TEXT, "input": _TEXT},
            outputs={
                "executionArn": "String",
                "input": "String",
                "name": "String",
                "output": "String",
                "startDate": "String",
                "stateMachineArn": "String",
                "status": "String",
                "stopDate": "String",
            },
        ),
        Action(
            name="aws:invokeLambdaFunction",
            page="automation-action-lamb",
            impact="undetermined",
            inputs={
                "FunctionName": _TEXT_NEEDED,
                "Qualifier": _TEXT,
                "InvocationType": Input(types=("String",), choices=("Event", "RequestResponse", "DryRun")),
                "LogType": Input(types=("String",), choices=("None", "Tail")),
                "ClientContext": _ANY,
                "InputPayload": _ANY,
                # the guide says String; AWS's own published documents also give a mapping
                "Payload": Input(types=("String", "StringMap")),
            },
            outputs={
                "StatusCode": "String",
                "FunctionError": "String",
                "LogResult": "String",
                "Payload": "String",
                "OutputPayload": "String",
            },
            declares_outputs=True,
            default_seconds=LIMITS.lambda_seconds,
            max_seconds=LIMITS.lambda_seconds,
        ),
        Action(
            name="aws:invokeWebhook",
            page="invoke-webhook",
            impact="undetermined",
            executed=False,
            inputs={"IntegrationName": _TEXT_NEEDED, "Body": _TEXT},
            outputs={"Response": "String", "ResponseCode": "String"},
        ),
        Action(
            name="aws:loop",
            page="automation-action-loop",
            impact="undetermined",
            inputs={
                "Iterators": _ANY,
                "IteratorDataType": Input(types=("String",), choices=ITERATOR_TYPES),
                "LoopCondition": _MAP,
                "MaxIterations": _NUMBER,
                "Steps": Input(types=("MapList",), required=True),
            },
            one_of=("Iterators", "LoopCondition"),
            outputs={},
        ),
        Action(
            name="aws:pause",
            page="automation-action-pause",
            impact="non-mutating",
            inputs={},
            inputs_open=True,  # the guide has none; published runbooks that run in AWS say Message
            outputs={},
        ),
        Action(
            name="aws:runCommand",
            page="automation-action-runcommand",
            impact="undetermined",
            inputs={
                "DocumentName": _TEXT_NEEDED,
                "DocumentVersion": _TEXT,
                "InstanceIds": Input(types=("StringList",), max_items=LIMITS.command_instances),
                "Targets": _MAPS,
                "Parameters": _MAP,
                "CloudWatchOutputConfig": _ANY,
                "Comment": _TEXT,
                "DocumentHash": _TEXT,
                "DocumentHashType": Input(types=("String",), choices=("Sha256", "Sha1")),
                "NotificationConfig": _ANY,
                "OutputS3BucketName": _TEXT,
                "OutputS3KeyPrefix": _TEXT,
                "ServiceRoleArn": _TEXT,
                "TimeoutSeconds": _NUMBER,
                "MaxConcurrency": _TEXT,
                "MaxErrors": _TEXT,
            },
            one_of=("InstanceIds", "Targets"),
            outputs={"CommandId": "String", "Status": "String", "ResponseCode": "Integer", "Output": "String"},
        ),
        Action(
            name="aws:runInstances",
            page="automation-action-runinstance",
            impact="mutating",
            inputs={
                "AdditionalInfo": _TEXT,
                "BlockDeviceMappings": _MAPS,
                "ClientToken": _TEXT,
                "DisableApiTermination": _FLAG,
                "EbsOptimized": _FLAG,
                "IamInstanceProfileArn": _TEXT,
                "IamInstanceProfileName": _TEXT,
                "ImageId": _TEXT_NEEDED,
                "InstanceInitiatedShutdownBehavior": _TEXT,
                "InstanceType": _TEXT,
                "KernelId": _TEXT,
                "KeyName": _TEXT,
                # the table says String; documents-syntax-data-elements-parameters says that only an Integer passes
                "MaxInstanceCount": _NUMBER,
                "MinInstanceCount": _NUMBER,
                "MetadataOptions": _MAP,
                "Monitoring": _FLAG,
                "NetworkInterfaces": _MAPS,
                "Placement": _MAP,
                "PrivateIpAddress": _TEXT,
                "RamdiskId": _TEXT,
                "SecurityGroupIds": _TEXTS,
                "SecurityGroups": _TEXTS,
                "SubnetId": _TEXT,
                "TagSpecifications": _MAPS,
                "UserData": _TEXT,
            },
            inputs_open=True,
            outputs={"InstanceIds": "StringList", "InstanceStates": "StringList"},
        ),
        Action(
            name="aws:sleep",
            page="automation-action-sleep",
            impact="non-mutating",
            inputs={"Duration": _TEXT, "Timestamp": _TEXT},
            one_of=("Duration", "Timestamp"),
            outputs={},
        ),
        Action(
            name="aws:updateVariable",
            page="automation-action-update-variable",
            impact="mutating",
            inputs={"Name": _TEXT_NEEDED, "Value": Input(required=True)},
            outputs={},
        ),
        Action(
            name="aws:waitForAwsResourceProperty",
            page="automation-action-waitForAwsResourceProperty",
            impact="non-mutating",
            inputs={
                **_API,
                "PropertySelector": _TEXT_NEEDED,
                "DesiredValues": Input(required=True),
            },
            inputs_open=True,
            outputs={},
            declares_outputs=True,
            default_seconds=LIMITS.wait_default_seconds,
        ),
    )
    return MappingProxyType({action.name: action for action in known})


ACTIONS: Final = _actions()
"""The 23 actions by name, `aws:` included."""

PYTHON_RUNTIMES: Final = tuple(f"python3.{minor}" for minor in range(6, 12))
POWERSHELL_RUNTIMES: Final = ("PowerShell Core 6.0", "PowerShell 7.0", "PowerShell 7.4")
RUNTIMES: Final = (*PYTHON_RUNTIMES, *POWERSHELL_RUNTIMES)
"""Of aws:executeScript; only the Python ones are executed here. UG automation-action-executeScript; python3.9 to
python3.11 by their use in published runbooks."""
