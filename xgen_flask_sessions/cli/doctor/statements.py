"""The statements and expressions of one call, on one path."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from xgen_flask_sessions.cli.doctor import known
from xgen_flask_sessions.cli.doctor.known import UNKNOWN, Raised, TooMuch, is_known

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class Returned(Exception):
    """The path ends with a value."""

    def __init__(self, value: Any, statement: ast.Return) -> None:
        self.value = value
        self.statement = statement


class _Break(Exception):
    """``break``."""


class _Continue(Exception):
    """``continue``."""


@dataclass(frozen=True, slots=True, eq=False)
class Local:
    """A function that another one defines, with the names around it."""

    tree: ast.FunctionDef | ast.AsyncFunctionDef
    names: dict[str, Any]
    module: dict[str, Any]

    def call(self, values: Values, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
        """Follow one path through the function, and return its value."""
        positional = [each.arg for each in (*self.tree.args.posonlyargs, *self.tree.args.args)]
        parameters = [*positional, *(each.arg for each in self.tree.args.kwonlyargs)]
        given = dict(zip(positional, arguments, strict=False)) | dict(keywords)
        own = {name: given.get(name, UNKNOWN) for name in parameters}
        return Frame(values, {**self.names, **own}, self.module).run(self.tree)


class Values(Protocol):
    """What is known of the values: ``following.Reader``."""

    g: dict[str, Any]
    ended_at: ast.Return | None

    def meet(self, value: Any) -> Any: ...
    def attribute(self, owner: Any, name: str) -> Any: ...
    def called(self, function: Any, arguments: list[Any], keywords: dict[str, Any]) -> Any: ...
    def truth(self, value: Any) -> bool: ...


class Frame:
    """One call of a function.

    :param values: What is known of the values.
    :param names: The parameters, and the names of the functions around it.
    :param module: The names of the function's module.
    """

    def __init__(self, values: Values, names: dict[str, Any], module: dict[str, Any]) -> None:
        self._values = values
        self._names = names
        self._module = module

    def run(self, function: Function) -> Any:
        """Follow the function to its end, and return its value.

        :raises Raised: It ends with an exception.
        """
        if isinstance(function, ast.Lambda):
            return self._value(function.body)
        try:
            self._block(function.body)
        except Returned as end:
            self._values.ended_at = end.statement
            return end.value
        return None

    def _block(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            follow = getattr(self, f"_{type(statement).__name__.lower()}", None)
            if follow is not None:
                follow(statement)

    def _return(self, statement: ast.Return) -> None:
        value = None if statement.value is None else self._value(statement.value)
        raise Returned(value, statement)

    def _raise(self, statement: ast.Raise) -> None:
        value = None if statement.exc is None else self._exception(statement.exc)
        raise Raised(value if isinstance(value, type) else None)

    def _exception(self, node: ast.expr) -> Any:
        return self._value(node.func if isinstance(node, ast.Call) else node)

    def _if(self, statement: ast.If) -> None:
        is_true = self._values.truth(self._value(statement.test))
        self._block(statement.body if is_true else statement.orelse)

    def _expr(self, statement: ast.Expr) -> None:
        self._value(statement.value)

    def _assert(self, statement: ast.Assert) -> None:
        if not self._values.truth(self._value(statement.test)):
            raise Raised(AssertionError)

    def _assign(self, statement: ast.Assign) -> None:
        value = self._value(statement.value)
        for target in statement.targets:
            self._bind(target, value)

    def _annassign(self, statement: ast.AnnAssign) -> None:
        if statement.value is not None:
            self._bind(statement.target, self._value(statement.value))

    def _augassign(self, statement: ast.AugAssign) -> None:
        self._value(statement.value)
        self._bind(statement.target, UNKNOWN)

    def _bind(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self._names[target.id] = value
        elif isinstance(target, ast.Attribute):
            if self._value(target.value) is known.G:
                self._values.g[target.attr] = value
        elif isinstance(target, ast.Tuple | ast.List):
            is_like = isinstance(value, tuple | list) and len(value) == len(target.elts)
            parts = value if is_like else [UNKNOWN] * len(target.elts)
            for each, part in zip(target.elts, parts, strict=True):
                self._bind(each, part)

    def _with(self, statement: ast.With | ast.AsyncWith) -> None:
        for item in statement.items:
            value = self._value(item.context_expr)
            if item.optional_vars is not None:
                self._bind(item.optional_vars, value)
        self._block(statement.body)

    _asyncwith = _with

    def _try(self, statement: ast.Try) -> None:
        try:
            if statement.handlers and not self._values.truth(UNKNOWN):
                raise Raised(None)  # by a call of which no more is known
            self._block(statement.body)
            self._block(statement.orelse)
        except Raised as raised:
            handler = self._handler(statement.handlers, raised)
            if handler is None:
                raise
            self._block(handler.body)
        finally:
            self._block(statement.finalbody)

    def _handler(
        self, handlers: Iterable[ast.ExceptHandler], raised: Raised
    ) -> ast.ExceptHandler | None:
        """Return the handler that catches an exception; decide, if that is not known."""
        for handler in handlers:
            kind = BaseException if handler.type is None else self._value(handler.type)
            kinds = kind if isinstance(kind, tuple) else (kind,)
            if raised.kind is None or not all(isinstance(each, type) for each in kinds):
                if self._values.truth(UNKNOWN):
                    return handler
                continue
            if issubclass(raised.kind, kinds):
                return handler
        return None

    def _for(self, statement: ast.For | ast.AsyncFor) -> None:
        items = self._value(statement.iter)
        if not isinstance(items, tuple | list | set | frozenset | dict | str):
            items = [UNKNOWN] if self._values.truth(UNKNOWN) else []
        for item in items:
            self._bind(statement.target, item)
            try:
                self._block(statement.body)
            except _Continue:
                continue
            except _Break:
                return
        self._block(statement.orelse)

    _asyncfor = _for

    def _while(self, statement: ast.While) -> None:
        if self._values.truth(self._value(statement.test)):
            try:
                self._block(statement.body)
            except (_Break, _Continue):
                return

    def _break(self, _: ast.stmt) -> None:
        raise _Break

    def _continue(self, _: ast.stmt) -> None:
        raise _Continue

    def _match(self, _: ast.stmt) -> None:
        raise TooMuch

    _trystar = _match

    def _functiondef(self, statement: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        function: Any = Local(statement, self._names, self._module)
        for decorator in reversed(statement.decorator_list):
            if not isinstance(decorator, ast.Call):  # such as @wraps(function)
                made = self._values.called(self._value(decorator), [function], {})
                function = function if made is UNKNOWN else made
        self._names[statement.name] = function

    _asyncfunctiondef = _functiondef

    def _classdef(self, statement: ast.ClassDef) -> None:
        self._names[statement.name] = UNKNOWN

    def _import(self, statement: ast.Import) -> None:
        for alias in statement.names:
            name = alias.name if alias.asname else alias.name.partition(".")[0]
            self._names[alias.asname or name] = sys.modules.get(name, UNKNOWN)

    def _importfrom(self, statement: ast.ImportFrom) -> None:
        name = statement.module or ""
        if statement.level:
            package = str(self._module.get("__package__") or "").split(".")
            base = package[: len(package) - statement.level + 1]
            name = ".".join([*base, *([name] if name else [])])
        module = sys.modules.get(name)
        for alias in statement.names:
            value = getattr(module, alias.name, sys.modules.get(f"{name}.{alias.name}", UNKNOWN))
            self._names[alias.asname or alias.name] = self._values.meet(value)

    def _value(self, node: ast.expr | None) -> Any:
        if node is None:
            return None
        evaluate = getattr(self, f"_value_of_{type(node).__name__.lower()}", None)
        return self._parts(node) if evaluate is None else evaluate(node)

    def _parts(self, node: ast.expr) -> Any:
        """Follow the parts of an expression of which no more is known."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr) and not isinstance(node, ast.Lambda):
                self._value(child)
        return UNKNOWN

    def _value_of_constant(self, node: ast.Constant) -> Any:
        return node.value

    def _value_of_name(self, node: ast.Name) -> Any:
        for names in (self._names, self._module, vars(builtins)):
            if node.id in names:
                return self._values.meet(names[node.id])
        return UNKNOWN

    def _value_of_attribute(self, node: ast.Attribute) -> Any:
        return self._values.attribute(self._value(node.value), node.attr)

    def _value_of_namedexpr(self, node: ast.NamedExpr) -> Any:
        value = self._value(node.value)
        self._bind(node.target, value)
        return value

    def _value_of_await(self, node: ast.Await) -> Any:
        return self._value(node.value)

    def _value_of_starred(self, node: ast.Starred) -> Any:
        return self._value(node.value)

    def _value_of_tuple(self, node: ast.Tuple | ast.List) -> Any:
        return tuple(self._value(each) for each in node.elts)

    def _value_of_list(self, node: ast.List) -> Any:
        return [self._value(each) for each in node.elts]

    def _value_of_set(self, node: ast.Set) -> Any:
        values = [self._value(each) for each in node.elts]
        return set(values) if is_known(values) else UNKNOWN

    def _value_of_dict(self, node: ast.Dict) -> Any:
        items = zip(node.keys, node.values, strict=True)
        pairs = [(self._value(key), self._value(value)) for key, value in items]
        return dict(pairs) if is_known([key for key, _ in pairs]) else UNKNOWN

    def _value_of_subscript(self, node: ast.Subscript) -> Any:
        owner, key = self._value(node.value), self._value(node.slice)
        if owner is known.HEADERS and isinstance(key, str):
            if known.SECRET_HEADER.search(key):
                raise Raised(KeyError)
            return UNKNOWN
        if isinstance(owner, dict | list | tuple | str) and is_known(key):
            try:
                return owner[key]
            except Exception as error:  # as the function would
                raise Raised(type(error)) from None
        return UNKNOWN

    def _value_of_boolop(self, node: ast.BoolOp) -> Any:
        is_or = isinstance(node.op, ast.Or)
        value: Any = UNKNOWN
        for each in node.values:
            value = self._value(each)
            is_last = each is node.values[-1]
            if not is_last and self._values.truth(value) == is_or:
                return is_or if isinstance(value, known.Mark) and value is UNKNOWN else value
        return value

    def _value_of_unaryop(self, node: ast.UnaryOp) -> Any:
        value = self._value(node.operand)
        if isinstance(node.op, ast.Not):
            return not self._values.truth(value)
        return UNKNOWN

    def _value_of_ifexp(self, node: ast.IfExp) -> Any:
        is_true = self._values.truth(self._value(node.test))
        return self._value(node.body if is_true else node.orelse)

    def _value_of_compare(self, node: ast.Compare) -> Any:
        left = self._value(node.left)
        result: Any = True
        for operation, other in zip(node.ops, node.comparators, strict=True):
            right = self._value(other)
            result = _compared(operation, left, right)
            if result is UNKNOWN or not result:
                return result
            left = right
        return result

    def _value_of_call(self, node: ast.Call) -> Any:
        function = self._value(node.func)
        arguments = [self._value(each) for each in node.args]
        keywords = {each.arg or "**": self._value(each.value) for each in node.keywords}
        return self._values.called(function, arguments, keywords)

    def _comprehension(self, node: ast.GeneratorExp | ast.ListComp | ast.SetComp) -> Any:
        loop = node.generators[0]
        items = self._value(loop.iter)
        if len(node.generators) > 1 or not isinstance(items, tuple | list | set | frozenset):
            items = [UNKNOWN]
        found = []
        for item in items:
            self._bind(loop.target, item)
            if all(self._values.truth(self._value(each)) for each in loop.ifs):
                found.append(self._value(node.elt))
        return found

    _value_of_generatorexp = _value_of_listcomp = _value_of_setcomp = _comprehension


def _compared(operation: ast.cmpop, left: Any, right: Any) -> Any:
    for one, other in ((left, right), (right, left)):
        is_object = one is not UNKNOWN and not is_known(one)
        if is_object and other is None and isinstance(operation, ast.Is | ast.IsNot):
            return isinstance(operation, ast.IsNot)
    if not is_known(left) or not is_known(right):
        return UNKNOWN
    try:
        return known.OPERATORS[type(operation)](left, right)
    except TypeError:
        raise Raised(TypeError) from None
