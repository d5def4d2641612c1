"""The policy that is shipped for a document's role, held against what the document needs.

Source: `pipeline/runbook/permissions.py`.
"""

from collections.abc import Iterator

from pipeline.runbook.lint import aws
from pipeline.runbook.lint.finding import Found
from pipeline.runbook.lint.node import Node
from pipeline.runbook.lint.view import Document


def policies(document: Document) -> Iterator[Found]:
    """What is missing in the policy, what is too much, and what is wider than it has to be."""
    if document.policy is None:
        return
    from pipeline.runbook import permissions  # IAM's data takes 0.2 s to load

    needs = permissions.needs(document)
    plain = document.policy.plain()
    statements = permissions.statements(plain)
    for need in needs:
        if need.sure and not permissions.grants(statements, need):
            resources = ", ".join(need.resources)
            message = f"{need.because} needs {need.action} on {resources}, and the role's policy has it not"
            yield Found("policy-missing", need.span, message)
    for _, span, why in permissions.unresolved(document):
        yield Found("policy-unsure", span, why)
    listed = document.policy.get("Statement")
    for node in listed.values if listed is not None else ():
        if node.text("Effect") == "Allow":
            yield from _statement(node, needs)


def _statement(node: Node, needs: "tuple[object, ...]") -> Iterator[Found]:
    from pipeline.runbook import permissions

    (statement,) = permissions.statements({"Statement": [node.plain()]}) or (None,)
    action_node = node.get("Action")
    if statement is None or action_node is None:
        return
    rights = [need for need in needs if isinstance(need, permissions.Need)]
    for one in action_node.values or [action_node]:
        action = one.string
        if not permissions.known_action(action):
            yield Found("policy-unknown-action", one.span, f"IAM has no action {action}", "policy")
            continue
        used = [need for need in rights if permissions.matches(action, need.action)]
        if not used:
            yield Found("policy-surplus", one.span, f"nothing in the document needs {action}", "policy")
            continue
        if "*" in action:
            told = ", ".join(sorted({need.action for need in used}))
            yield Found("policy-wide", one.span, f"{action} is more than the document needs: {told}", "policy")
            continue
        resource = node.get("Resource")
        narrower = any(need.resources != ("*",) for need in used)
        changes = aws.impact(action.partition(":")[2]) != "reads"
        if resource is not None and narrower and changes and statement.resources == ("*",) and not statement.conditions:
            wanted = ", ".join(used[0].resources)
            message = f"{action} is allowed on everything; it can be held to {wanted}"
            yield Found("policy-wide", resource.span, message, "policy")
