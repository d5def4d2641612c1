"""The Python of an aws:executeScript step in, what it does with AWS out; nothing is run.

An abstract interpreter over the syntax tree: it follows clients, their methods, paginators, waiters and answers through
variables, attributes, functions and containers, without regard to order. What it does not understand it calls unknown,
and of unknown things it claims nothing.
"""

import ast
import builtins
import functools
import sys
from dataclasses import dataclass, field
from typing import Any, Final

from botocore import xform_name
from botocore.model import ListShape, MapShape, Shape, StructureShape

from pipeline.runbook.lint import aws

RUNTIME_PACKAGES: Final = frozenset({"boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six", "urllib3"})
"""Beside the standard library; by their use in published runbooks, and as boto3's own dependencies."""
_CLIENT_OWN: Final = frozenset(
    {"meta", "exceptions", "close", "can_paginate", "generate_presigned_url", "generate_presigned_post", "waiter_names"}
    | {"upload_file", "download_file", "upload_fileobj", "download_fileobj", "copy", "get_paginator", "get_waiter"}
)
_PASSES_ON: Final = frozenset({"sorted", "list", "tuple", "reversed", "set", "iter"})
_ROUNDS: Final = 5
"""Of following values: each carries them one call further."""


@dataclass(frozen=True)
class Value:
    """What an expression may be. `kind` says which fields count."""

    kind: str
    service: str = ""
    name: str = ""
    shape: Shape | None = field(default=None, compare=False)
    keys: frozenset[str] = frozenset()
    types: frozenset[tuple[str, str]] = frozenset()
    inner: "frozenset[Value]" = frozenset()


Values = frozenset[Value]
UNKNOWN: Final = Value("unknown")
_UNKNOWN: Final[Values] = frozenset({UNKNOWN})


def _one(kind: str, **fields: Any) -> Values:
    return frozenset({Value(kind, **fields)})


def _shape(shape: Shape | None, service: str) -> Values:
    if shape is None or aws.is_open(shape):
        return _UNKNOWN
    return _one("answer", service=service, name=shape.name, shape=shape)


@dataclass(frozen=True)
class Call:
    """A call of an operation; `arguments` is None where they cannot be known."""

    service: str
    operation: str
    line: int
    column: int
    arguments: "tuple[tuple[str, ast.expr], ...] | None"
    complete: bool
    node: ast.AST = field(compare=False, hash=False, repr=False, default_factory=ast.Pass)


@dataclass(frozen=True)
class Problem:
    """Something that is wrong in the script, at a line from 1 and a column from 0."""

    rule: str
    line: int
    column: int
    length: int
    message: str


@dataclass
class Script:
    """What is known of a script after it was looked through."""

    tree: ast.Module
    handler: ast.FunctionDef | None = None
    calls: dict[tuple[int, int, str], Call] = field(default_factory=dict)
    problems: dict[tuple[str, int, int], Problem] = field(default_factory=dict)
    event_keys: dict[str, tuple[int, int, bool]] = field(default_factory=dict)
    event_escapes: bool = False
    returned: Values = frozenset()
    unresolved: dict[int, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)


@functools.lru_cache(maxsize=512)
def look_through(text: str, handler: str) -> Script:
    """Follow a script. Raises SyntaxError (or ValueError) when it does not parse."""
    tree = ast.parse(text)
    return _Follower(tree, handler).run()


class _Follower(ast.NodeVisitor):
    def __init__(self, tree: ast.Module, handler: str) -> None:
        self.script = Script(tree)
        self.functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        top = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        self.script.handler = top.get(handler.rsplit(".", 1)[-1])
        self.names: dict[tuple[str, str], Values] = {}
        self.attributes: dict[str, Values] = {}
        self.returns: dict[str, Values] = {}
        # what the round before found out: this one sees it whole, and collects anew
        self.before: tuple[dict[tuple[str, str], Values], dict[str, Values], dict[str, Values]] = ({}, {}, {})
        self.local: dict[str, Values] = {}
        self.scope = ""
        self.final = False

    def run(self) -> Script:
        handler = self.script.handler
        for round_number in range(_ROUNDS):
            self.final = round_number == _ROUNDS - 1
            self.before = (self.names, self.attributes, self.returns)
            self.names, self.attributes, self.returns = {}, {}, {}
            self.script.event_keys.clear()
            self.script.event_escapes = False
            if handler is not None and handler.args.args:
                self._bind(handler.name, handler.args.args[0].arg, _one("event"))
            self.scope, self.local = "", {}
            self._body(self.script.tree.body)
        if handler is not None:
            self.script.returned = self.returns.get(handler.name, frozenset())
        self._imports()
        self._undefined()
        return self.script

    # --- names ---

    def _bind(self, scope: str, name: str, values: Values) -> None:
        key = (scope, name)
        self.names[key] = self.names.get(key, frozenset()) | values

    def _look_up(self, name: str) -> Values:
        """A name's values: here and now in the function that is looked at, all that it ever has anywhere else."""
        if name in self.local:
            return self.local[name]
        if name in self.functions:
            return _one("function", name=name)
        return self._known(("", name)) or self._known((self.scope, name)) or self._enclosing(name)

    def _known(self, key: tuple[str, str]) -> Values:
        return self.before[0].get(key) or self.names.get(key) or frozenset()

    def _enclosing(self, name: str) -> Values:
        """The values of a name in the functions around this one."""
        found = [values for (_, known), values in (*self.before[0].items(), *self.names.items()) if known == name]
        return frozenset().union(*found) or _UNKNOWN

    def _assign(self, target: ast.expr, values: Values) -> None:
        if isinstance(target, ast.Name):
            self.local[target.id] = values
            self._bind(self.scope, target.id, values)
        elif isinstance(target, ast.Attribute):
            known = self.attributes.get(target.attr, frozenset())
            self.attributes[target.attr] = known | values
        elif isinstance(target, ast.Tuple | ast.List):
            for element in target.elts:
                self._assign(element, _UNKNOWN)
        elif isinstance(target, ast.Subscript):
            base, key = self.value(target.value), _constant(target.slice)
            grown = [
                Value("dict", keys=one.keys | {key}, types=one.types | {(key, "")}) if key else UNKNOWN
                for one in base
                if one.kind == "dict"
            ]
            if grown and isinstance(target.value, ast.Name):
                # what another path left there may still be there, and what is there now has grown
                rest = frozenset(one for one in base if one.kind != "dict")
                self.local[target.value.id] = frozenset(grown) | rest
                self._bind(self.scope, target.value.id, frozenset(grown))

    # --- statements ---

    def _body(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            self.visit(statement)

    def _either(self, *bodies: list[ast.stmt], skippable: bool = False) -> None:
        """Bodies of which one is run, or none: afterwards a name may have the values of each."""
        before = dict(self.local)
        ends = [before] if skippable else []
        for body in bodies:
            self.local = dict(before)
            self._body(body)
            if not _leaves(body):
                ends.append(self.local)
        merged: dict[str, Values] = {}
        for end in ends:
            for name, values in end.items():
                merged[name] = merged.get(name, frozenset()) | values
        self.local = merged

    def visit_If(self, node: ast.If) -> None:
        self.value(node.test)
        self._either(node.body, node.orelse)

    def visit_While(self, node: ast.While) -> None:
        for _ in range(2):  # what the first round leaves, the second begins with
            self.value(node.test)
            self._either(node.body, skippable=True)
        self._body(node.orelse)

    def visit_Try(self, node: ast.Try) -> None:
        before = dict(self.local)
        self._body(node.body)
        self._body(node.orelse)
        after = self.local
        for name, values in before.items():
            after[name] = after.get(name, frozenset()) | values if name in after else values
        ends = [] if _leaves(node.body) else [after]
        for handler in node.handlers:
            self.local = dict(after)
            self.visit(handler)
            if not _leaves(handler.body):
                ends.append(self.local)
        merged: dict[str, Values] = {}
        for end in ends:
            for name, values in end.items():
                merged[name] = merged.get(name, frozenset()) | values
        self.local = merged or after
        self._body(node.finalbody)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer, outer_local, self.scope = self.scope, self.local, node.name
        arguments = [*node.args.args, *node.args.kwonlyargs]
        for argument, default in zip(reversed(node.args.args), reversed(node.args.defaults), strict=False):
            self._bind(node.name, argument.arg, self.value(default))
        for argument in arguments:
            if not self._known((node.name, argument.arg)) and self.final:
                self._bind(node.name, argument.arg, _UNKNOWN)
        self.local = {}
        for argument in arguments:
            self.local[argument.arg] = self._known((node.name, argument.arg)) or _UNKNOWN
        for rest in (node.args.vararg, node.args.kwarg):
            if rest is not None:
                self.local[rest.arg] = _UNKNOWN
        self._body(node.body)
        self.scope, self.local = outer, outer_local

    def visit_Return(self, node: ast.Return) -> None:
        values = self.value(node.value) if node.value is not None else _one("none")
        self.returns[self.scope] = self.returns.get(self.scope, frozenset()) | values

    def visit_Assign(self, node: ast.Assign) -> None:
        values = self.value(node.value)
        for target in node.targets:
            if (
                isinstance(target, ast.Tuple)
                and isinstance(node.value, ast.Tuple)
                and len(target.elts) == len(node.value.elts)
            ):
                for element, value in zip(target.elts, node.value.elts, strict=True):
                    self._assign(element, self.value(value))
            else:
                self._assign(target, values)
            if isinstance(target, ast.Name) and not self.scope and (text := _constant(node.value)):
                self.script.constants[target.id] = text

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._assign(node.target, self.value(node.value))

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.value(node.value)
        self._assign(node.target, _UNKNOWN)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._assign(node.target, self.value(node.value))

    def visit_For(self, node: ast.For) -> None:
        for _ in range(2):  # what the first round leaves, the second begins with
            self._each(node.target, node.iter)
            self._either(node.body, skippable=True)
        self._body(node.orelse)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            values = self.value(item.context_expr)
            if item.optional_vars is not None:
                self._assign(item.optional_vars, values)
        self._body(node.body)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type is not None:
            self.value(node.type)
        if node.name:
            self.local[node.name] = _UNKNOWN
        self._body(node.body)

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.expr):
            self.value(node)
        else:
            super().generic_visit(node)

    def _each(self, target: ast.expr, iterable: ast.expr) -> None:
        values = self.value(iterable)
        pairs = [one for one in values if one.kind == "pairs"]
        if pairs and isinstance(target, ast.Tuple) and len(target.elts) == 2:
            self._assign(target.elts[0], _UNKNOWN)
            self._assign(target.elts[1], frozenset().union(*(one.inner for one in pairs)))
            return
        items: Values = frozenset()
        for one in values:
            if one.kind == "answer" and isinstance(one.shape, ListShape):
                items |= _shape(one.shape.member, one.service)
            elif one.kind in ("pages", "listing"):
                items |= one.inner
            else:
                items |= _UNKNOWN
        self._assign(target, items)

    # --- expressions ---

    def value(self, node: ast.expr | None, called: bool = False) -> Values:
        """What an expression may be."""
        if node is None:
            return _UNKNOWN
        if isinstance(node, ast.Call):
            return self._call_value(node)
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    self.value(child)
            return _one("typed", name="Boolean") if isinstance(node, ast.Compare) else _UNKNOWN
        if isinstance(node, ast.Attribute):
            return self._attribute(node, called)
        return method(node)  # type: ignore[no-any-return]

    def _constant(self, node: ast.Constant) -> Values:
        if isinstance(node.value, str):
            return _one("text", name=node.value)
        names = {bool: "Boolean", int: "Integer"}
        if type(node.value) in names:
            return _one("typed", name=names[type(node.value)])
        return _one("none") if node.value is None else _UNKNOWN

    def _joinedstr(self, node: ast.JoinedStr) -> Values:
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                self.value(part.value)
        return _one("typed", name="String")

    def _name(self, node: ast.Name) -> Values:
        if node.id in ("boto3", "json") and node.id not in self.local:
            return _one("module", name=node.id)
        return self._look_up(node.id)

    def _dict(self, node: ast.Dict) -> Values:
        keys: set[str] = set()
        types: set[tuple[str, str]] = set()
        closed = True
        for key, item in zip(node.keys, node.values, strict=True):
            values = self.value(item)
            name = _constant(key) if key is not None else ""
            if key is None:
                spread = [one for one in values if one.kind == "dict"]
                closed = closed and len(spread) == len(values)
                for one in spread:
                    keys |= one.keys
                    types |= one.types
            elif name:
                keys.add(name)
                types.add((name, _type_name(values)))
            else:
                closed = False
        made = Value("dict", keys=frozenset(keys), types=frozenset(types))
        return frozenset({made}) if closed else frozenset({made, UNKNOWN})

    def _list(self, node: ast.List) -> Values:
        inner: Values = frozenset()
        for element in node.elts:
            inner |= self.value(element)
        return _one("listing", inner=inner)

    _tuple = _list
    _set = _list

    def _ifexp(self, node: ast.IfExp) -> Values:
        self.value(node.test)
        return self.value(node.body) | self.value(node.orelse)

    def _boolop(self, node: ast.BoolOp) -> Values:
        made: Values = frozenset()
        for one in node.values:
            made |= self.value(one)
        return made

    def _binop(self, node: ast.BinOp) -> Values:
        left, right = self.value(node.left), self.value(node.right)
        if isinstance(node.op, ast.BitOr) and all(one.kind == "dict" for one in left | right):
            keys = frozenset().union(*(one.keys for one in left | right))
            return _one("dict", keys=keys, types=frozenset().union(*(one.types for one in left | right)))
        return _UNKNOWN

    def _namedexpr(self, node: ast.NamedExpr) -> Values:
        values = self.value(node.value)
        self._assign(node.target, values)
        return values

    def _await(self, node: ast.Await) -> Values:
        return self.value(node.value)

    def _starred(self, node: ast.Starred) -> Values:
        self.value(node.value)
        return _UNKNOWN

    def _lambda(self, node: ast.Lambda) -> Values:
        self.value(node.body)
        return _UNKNOWN

    def _comprehension(self, node: Any, *results: ast.expr) -> Values:
        for generator in node.generators:
            self._each(generator.target, generator.iter)
            for condition in generator.ifs:
                self.value(condition)
        made: Values = frozenset()
        for result in results:
            made = self.value(result)
        return _one("listing", inner=made)

    def _listcomp(self, node: ast.ListComp) -> Values:
        return self._comprehension(node, node.elt)

    def _setcomp(self, node: ast.SetComp) -> Values:
        return self._comprehension(node, node.elt)

    def _generatorexp(self, node: ast.GeneratorExp) -> Values:
        return self._comprehension(node, node.elt)

    def _dictcomp(self, node: ast.DictComp) -> Values:
        self._comprehension(node, node.key, node.value)
        return frozenset({UNKNOWN})

    def _subscript(self, node: ast.Subscript) -> Values:
        base, key = self.value(node.value), _constant(node.slice)
        if not isinstance(node.slice, ast.Slice):
            self.value(node.slice)
        return self._item(base, key, node, sliced=isinstance(node.slice, ast.Slice), needed=True)

    def _item(self, base: Values, key: str, node: ast.expr, *, sliced: bool, needed: bool, sure: bool = True) -> Values:
        made: Values = frozenset()
        sure = sure and len(base) == 1
        for one in base:
            if one.kind == "event":
                if key:
                    self._event_key(key, node, needed)
                else:
                    self.script.event_escapes = True
                made |= _UNKNOWN
            elif one.kind == "answer":
                made |= self._answer_item(one, key, node, sliced, sure)
            elif one.kind == "listing":
                made |= frozenset({one}) if sliced else one.inner or _UNKNOWN
            else:
                made |= _UNKNOWN
        return made

    def _answer_item(self, one: Value, key: str, node: ast.expr, sliced: bool, sure: bool) -> Values:
        shape = one.shape
        if isinstance(shape, ListShape):
            return frozenset({one}) if sliced else _shape(shape.member, one.service)
        if isinstance(shape, MapShape):
            return _shape(shape.value, one.service)
        if isinstance(shape, StructureShape) and key and key != "ResponseMetadata":
            member = shape.members.get(key)
            if member is None:
                if sure:
                    message = f"{shape.name} of {one.service} has no {key}{aws.near(key, shape.members)}"
                    self._problem("script-answer-key", node, message)
                return _UNKNOWN
            return _shape(member, one.service)
        return _UNKNOWN

    def _event_key(self, key: str, node: ast.expr, needed: bool) -> None:
        known = self.script.event_keys.get(key)
        if known is None or (needed and not known[2]):
            self.script.event_keys[key] = (node.lineno, node.col_offset, needed)

    def _attribute(self, node: ast.Attribute, called: bool = False) -> Values:
        if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls") and node.attr in self.functions:
            return _one("function", name=node.attr)
        base = self.value(node.value)
        made: Values = frozenset()
        for one in base:
            made |= self._member(one, node, called, sure=len(base) == 1)
        if made and made != _UNKNOWN:
            return made
        return self.before[1].get(node.attr) or self.attributes.get(node.attr) or _UNKNOWN

    def _member(self, one: Value, node: ast.Attribute, called: bool, sure: bool) -> Values:
        name = node.attr
        if one.kind == "module" and one.name == "boto3":
            if name in ("client", "resource"):
                return _one("maker", name=name)
            if name in ("Session", "session"):
                return _one("session-maker")
        elif one.kind == "session-maker":
            return _one("session-maker")
        elif one.kind == "session" and name in ("client", "resource"):
            return _one("maker", name=name)
        elif one.kind == "client":
            if name in aws.methods(one.service):
                operation = aws.methods(one.service)[name]
                if not called:
                    self._call(one.service, operation, node, None)
                return _one("method", service=one.service, name=operation)
            if name == "exceptions":
                return _one("exceptions", service=one.service)
            if name in ("get_paginator", "get_waiter"):
                return _one(name, service=one.service)
            if name not in _CLIENT_OWN and sure:
                message = f"the client of {one.service} has no {name}{aws.near(name, aws.methods(one.service))}"
                self._problem("script-operation", node, message)
        elif one.kind == "exceptions":
            model = aws.service(one.service)
            known = {shape.name for shape in model.error_shapes} | {"ClientError"} if model is not None else set()
            if model is not None and name not in known and name != "from_code":
                message = f"{one.service} has no exception {name}{aws.near(name, known)}"
                self._problem("script-operation", node, message)
        elif one.kind in ("paginator", "waiter", "answer", "event", "dict"):
            return frozenset({Value("bound", service=one.service, name=name, shape=one.shape, inner=frozenset({one}))})
        return _UNKNOWN

    # --- calls ---

    def _call_value(self, node: ast.Call) -> Values:
        """A call: of boto3, a client's method, a function of the script, or something unknown."""
        base = self.value(node.func, called=True)
        given = [self.value(argument) for argument in node.args]
        words = {word.arg: self.value(word.value) for word in node.keywords}
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name == "getattr" and len(node.args) > 1 and (attribute := _constant(node.args[1])):
            fake = ast.Attribute(value=node.args[0], attr=attribute, ctx=ast.Load())
            return self._attribute(ast.copy_location(fake, node))
        if name in _PASSES_ON and given and name not in self.functions:
            return given[0]
        if name in ("len", "int", "str", "bool") and name not in self.functions:
            return _one("typed", name={"len": "Integer", "int": "Integer", "str": "String", "bool": "Boolean"}[name])
        made: Values = frozenset()
        escapes = True
        for one in base:
            if one.kind == "maker":
                made |= self._client(one, given, words, node)
            elif one.kind == "session-maker":
                made |= _one("session")
            elif one.kind == "method":
                self._call(one.service, one.name, node, node if len(base) == 1 else None)
                operation = aws.operation(one.service, one.name)
                made |= _shape(operation.output_shape if operation is not None else None, one.service)
            elif one.kind in ("get_paginator", "get_waiter"):
                made |= self._helper(one, given, words, node)
            elif one.kind == "bound":
                escapes = False
                made |= self._bound(one, node, given, len(base) == 1)
            elif one.kind == "function":
                escapes = False
                made |= self._function(self.functions[one.name], given, words)
            else:
                made |= _UNKNOWN
        if escapes and any(one.kind == "event" for values in [*given, *words.values()] for one in values):
            self.script.event_escapes = True
        return made or _UNKNOWN

    def _client(self, one: Value, given: list[Values], words: dict[str | None, Values], node: ast.Call) -> Values:
        named = given[0] if given else words.get("service_name", _UNKNOWN)
        made: Values = frozenset()
        for value in named:
            if value.kind != "text":
                made |= _UNKNOWN
                if self.final:
                    self.script.unresolved[node.lineno] = "a client of a service that is not written here"
                continue
            if aws.service(value.name) is None:
                self._problem(
                    "script-operation",
                    node,
                    f"boto3 knows no service {value.name}{aws.near(value.name, aws.services())}",
                )
                made |= _UNKNOWN
            elif one.name == "client":
                made |= _one("client", service=value.name)
            else:
                if self.final:
                    self.script.unresolved[node.lineno] = f"boto3.resource({value.name!r}): its calls are not followed"
                made |= _UNKNOWN
        return made

    def _helper(self, one: Value, given: list[Values], words: dict[str | None, Values], node: ast.Call) -> Values:
        named = given[0] if given else words.get("operation_name", words.get("waiter_name", _UNKNOWN))
        made: Values = frozenset()
        for value in named:
            if value.kind != "text":
                made |= _UNKNOWN
            elif one.kind == "get_paginator":
                operation = aws.methods(one.service).get(value.name, "")
                if operation and operation in aws.paginators(one.service):
                    made |= _one("paginator", service=one.service, name=operation)
                else:
                    known = [xform_name(name) for name in aws.paginators(one.service)]
                    message = f"{one.service} has no paginator {value.name}{aws.near(value.name, known)}"
                    self._problem("script-operation", node, message)
                    made |= _UNKNOWN
            else:
                known_waiters = {xform_name(name): fields for name, fields in aws.waiters(one.service).items()}
                if value.name in known_waiters:
                    operation = known_waiters[value.name]["operation"]
                    made |= _one("waiter", service=one.service, name=operation)
                else:
                    message = f"{one.service} has no waiter {value.name}{aws.near(value.name, known_waiters)}"
                    self._problem("script-operation", node, message)
                    made |= _UNKNOWN
        return made

    def _bound(self, one: Value, node: ast.Call, given: list[Values], sure: bool) -> Values:
        (base,) = one.inner
        if base.kind == "paginator" and one.name == "paginate":
            self._call(base.service, base.name, node, node if sure else None)
            operation = aws.operation(base.service, base.name)
            page = _shape(operation.output_shape if operation is not None else None, base.service)
            return _one("pages", inner=page)
        if base.kind == "waiter" and one.name == "wait":
            self._call(base.service, base.name, node, None)
            return _one("none")
        if one.name in ("get", "pop", "setdefault") and base.kind in ("event", "answer", "dict"):
            key = _constant(node.args[0]) if node.args else ""
            found = self._item(
                frozenset({base}), key, node.args[0] if node.args else node, sliced=False, needed=False, sure=sure
            )
            # a default that is empty says nothing of what is in it
            rest = [
                values
                for values in given[1:]
                if any(item.kind not in ("listing", "dict", "none", "text") for item in values)
            ]
            return found | frozenset().union(*rest)
        if one.name == "items" and isinstance(base.shape, MapShape):
            return _one("pairs", inner=_shape(base.shape.value, base.service))
        if one.name == "values" and isinstance(base.shape, MapShape):
            return _one("listing", inner=_shape(base.shape.value, base.service))
        if base.kind == "event":
            self.script.event_escapes = True
        return _UNKNOWN

    def _function(self, function: ast.FunctionDef, given: list[Values], words: dict[str | None, Values]) -> Values:
        names = [argument.arg for argument in function.args.args]
        if names[:1] in (["self"], ["cls"]):
            names = names[1:]
        for argument, values in zip(names, given, strict=False):
            self._bind(function.name, argument, values)
        for word, values in words.items():
            if word is not None:
                self._bind(function.name, word, values)
        return self.before[2].get(function.name) or self.returns.get(function.name) or _UNKNOWN

    def _problem(self, rule: str, node: ast.AST, message: str) -> None:
        if self.final:
            line, column = getattr(node, "end_lineno", 1), getattr(node, "end_col_offset", 1)
            length = 1
            if isinstance(node, ast.Attribute):
                length = len(node.attr)
            elif isinstance(node, ast.Constant | ast.Subscript | ast.keyword):
                line, column = node.lineno, node.end_col_offset or node.col_offset + 1
                length = max(1, column - node.col_offset) if node.end_lineno == node.lineno else 1
            self.script.problems.setdefault(
                (rule, line, column), Problem(rule, line, max(column - length, 0), length, message)
            )

    def _call(self, service: str, operation: str, node: ast.AST, call: ast.Call | None) -> None:
        if not self.final:
            return
        arguments: tuple[tuple[str, ast.expr], ...] | None = None
        complete = False
        if call is not None:
            arguments = tuple((word.arg, word.value) for word in call.keywords if word.arg)
            complete = all(word.arg for word in call.keywords) and not call.args
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        key = (line, column, operation)
        if key not in self.script.calls or arguments is not None:
            self.script.calls[key] = Call(service, operation, line, column, arguments, complete, node)

    def _imports(self) -> None:
        """Imports that have to work: not those for a type checker, nor those whose failure is caught."""
        spared: set[int] = set()
        for node in ast.walk(self.script.tree):
            if isinstance(node, ast.Try) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
                spared |= {id(inner) for statement in node.body for inner in ast.walk(statement)}
        for node in ast.walk(self.script.tree):
            if id(node) in spared:
                continue
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                top = name.split(".")[0]
                if top not in sys.stdlib_module_names and top not in RUNTIME_PACKAGES:
                    message = f"the runtime has no module {top}: bring it as an attachment"
                    self._problem("script-import", node, message)

    def _undefined(self) -> None:
        bound = set(dir(builtins)) | {"__file__", "__name__", "__doc__"}
        for node in ast.walk(self.script.tree):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                bound.add(node.id)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                bound.add(node.name)
            elif isinstance(node, ast.arg):
                bound.add(node.arg)
            elif isinstance(node, ast.alias):
                if node.name == "*":
                    return
                bound.add((node.asname or node.name).split(".")[0])
            elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
                bound.add(node.name)
        for node in ast.walk(self.script.tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in bound:
                problem = Problem(
                    "script-undefined", node.lineno, node.col_offset, len(node.id), f"nothing here is called {node.id}"
                )
                self.script.problems.setdefault((problem.rule, problem.line, problem.column), problem)


def _leaves(body: list[ast.stmt]) -> bool:
    """Whether a body always ends in return, raise, continue or break."""
    return bool(body) and isinstance(body[-1], ast.Return | ast.Raise | ast.Continue | ast.Break)


def _constant(node: ast.AST | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _type_name(values: Values) -> str:
    """The output type of a value when it is certain, else empty."""
    names = {
        {"text": "String", "dict": "StringMap", "listing": "List", "typed": one.name}.get(one.kind, "")
        for one in values
    }
    return names.pop() if len(names) == 1 else ""
