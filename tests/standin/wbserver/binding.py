"""From the SDL in ``schema.graphql`` to answers: fields find their resolvers by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from graphql import (
    GraphQLField,
    GraphQLFloat,
    GraphQLResolveInfo,
    GraphQLSchema,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    OperationType,
    Undefined,
    build_schema,
    execute_sync,
    is_interface_type,
    is_object_type,
    parse,
    validate,
)

if TYPE_CHECKING:
    from graphql import DocumentNode

    from .store import Store

SCHEMA = Path(__file__).with_name("schema.graphql")
_RESOLVERS: dict[str, Callable[..., Any]] = {}
Resolver = TypeVar("Resolver", bound=Callable[..., Any])


class Refused(Exception):
    """What a client asks for is not done; the message goes to it."""


class UnknownField(Refused):
    """The schema does not have what a client asks for."""


@dataclass(kw_only=True)
class Call:
    """One request, as resolvers see it: their second argument."""

    store: Store
    shared: bool = False  # Whether it comes from a client in shared mode.
    upserting: bool = False  # Whether it tells of a run, and not only asks.


def resolver(field: str) -> Callable[[Resolver], Resolver]:
    """
    Register what answers *field*, such as ``Run.files``.

    It gets what the field is of, the call, and the arguments in snake case: ``minStep`` as
    ``min_step``. An ``input`` comes as ``values``, with the keys that the client sent.
    """

    def register(function: Resolver) -> Resolver:
        _RESOLVERS[field] = function
        return function

    return register


def constants(values: Mapping[str, Any]) -> None:
    """Register fields whose answer never differs."""
    for field, value in values.items():
        resolver(field)(lambda *_, value=value: value)


def answer(call: Call, query: str, variables: Mapping[str, Any] | None) -> dict[str, Any]:
    """
    Return the data that *query* asks for.

    Raises:
        UnknownField: The schema does not have it.
        Refused: A resolver refuses it.
    """
    document, variables = _valid(query), dict(variables or {})
    result = execute_sync(schema(), document, context_value=call, variable_values=variables)
    for error in result.errors or ():
        if error.original_error and not isinstance(error.original_error, Refused):
            raise error.original_error  # A fault of the stand-in.
        raise Refused(error.message)
    return result.data or {}


@cache
def operation(query: str) -> OperationDefinitionNode | None:
    """Return the first operation of *query*, or None if it can't be parsed."""
    try:
        definitions = parse(query).definitions
    except GraphQLSyntaxError:
        return None
    found = (node for node in definitions if isinstance(node, OperationDefinitionNode))
    return next(found, None)


def is_mutation(query: str) -> bool:
    """Return whether *query* changes something."""
    found = operation(query)
    return found is not None and found.operation is OperationType.MUTATION


@cache
def _valid(query: str) -> DocumentNode:
    """Return *query* as a document that the schema has all of."""
    try:
        document = parse(query)
    except GraphQLSyntaxError as error:
        raise Refused(error.message) from error
    if errors := validate(schema(), document):
        raise UnknownField("; ".join(error.message for error in errors))
    return document


@cache
def schema() -> GraphQLSchema:
    """Return the schema, with the resolvers that are registered."""
    built = build_schema(SCHEMA.read_text(encoding="utf-8"))
    for kind in built.type_map.values():
        if is_object_type(kind) and not kind.name.startswith("__"):
            for name, field in kind.fields.items():
                _bind(field, _RESOLVERS.get(f"{kind.name}.{name}"))
        if is_interface_type(kind):  # Of collections, which all are of one kind.
            kind.resolve_type = lambda *_: "ArtifactSequence"
    built.type_map["Float"] = GraphQLFloat  # Of variables only, so the SDL does not bring it.
    return built


def _bind(field: GraphQLField, function: Callable[..., Any] | None) -> None:
    if function is None:
        field.resolve = _attribute
        return
    for name, argument in field.args.items():
        argument.out_name = "values" if name == "input" else _snake(name)

    def resolve(source: Any, info: GraphQLResolveInfo, **arguments: Any) -> Any:
        if "values" in arguments:
            arguments["values"] = _given(arguments["values"])
        return function(source, info.context, **arguments)

    field.resolve = resolve


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return *values* without the variables that the client left out."""
    return {name: value for name, value in values.items() if value is not Undefined}


def _attribute(source: Any, info: GraphQLResolveInfo) -> Any:
    """Answer a field that has no resolver: what it is of has it by name."""
    if isinstance(source, dict):
        return source.get(info.field_name)
    return getattr(source, _snake(info.field_name))


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
