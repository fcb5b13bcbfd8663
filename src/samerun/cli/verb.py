"""
A verb: an Invoke task whose options are declared once, where they are used.

An option is a parameter, or a field of a dataclass parameter, of type
``Annotated[TYPE, "help"]``. Invoke documents subclasses of `Task` (``@task(klass=…)``). This one
reads type, help and choices from there. Options that were not given are not passed on, so that
each default is declared only once, in the signature or the dataclass, and "not given" differs
from "given with its default".
"""

import contextlib
import dataclasses
import errno
import functools
import inspect
import io
import os
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.parser.argument import Argument
from invoke.tasks import Task

from samerun.cli.typed import as_typed
from samerun.core.errors import OutputError, SamerunError, UsageError
from samerun.core.terminal import safe_lines

NOT_GIVEN = object()
"""The value of an optional positional argument that was not given."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of the command line; *required* ones are positional."""

    name: str
    kind: type
    help: str
    choices: tuple[str, ...] = ()
    required: bool = False

    @property
    def flag(self) -> str:
        """The option on the command line."""
        return "--" + self.name.rstrip("_").replace("_", "-")


class VerbArgument(Argument):
    """An Invoke argument with its option."""

    option: Option

    def set_value(self, value: Any, cast: bool = True) -> None:
        """
        Set the value from the command line.

        Raises:
            Exit: With 64: it is empty, not a whole number, or not one of the choices.
        """
        if cast and isinstance(value, str):
            with exit_codes():
                _check(self.option, value, is_positional=self.positional)
        super().set_value(value, cast)


def _check(option: Option, value: str, *, is_positional: bool) -> None:
    shown = option.name.upper() if is_positional else option.flag
    if not value.strip():
        raise UsageError(f"{shown} is empty.", "Give a value, or omit it.")
    if option.kind is int and not value.removeprefix("-").isdecimal():
        raise UsageError(f"Invalid value for {shown}: {value!r}.", "Use a whole number, e.g. 2.")
    if option.choices and value not in option.choices:
        raise UsageError(
            f"Invalid value for {shown}: {value!r}.", f"Use one of {', '.join(option.choices)}."
        )


class Verb(Task[Callable[..., None]]):
    """An Invoke task created from a function; see the module's docstring."""

    def __init__(self, function: Callable[..., None], **settings: Any) -> None:
        self.function = function
        self.options = {option.name: option for option in _options(function)}
        settings.setdefault("auto_shortflags", False)
        required = [option.name for option in self.options.values() if option.required]
        positional = (*required, *settings.pop("positional", ()))
        lists = [option.name for option in self.options.values() if option.kind is list]
        super().__init__(self._caller(), positional=positional, iterable=lists, **settings)

    def _caller(self) -> Callable[..., None]:
        @functools.wraps(self.function)
        def call(context: Context, **values: Any) -> None:
            _replace_unprintable()
            with exit_codes():
                self.function(context, **_arguments(self.function, values))

        return call

    def argspec(self, body: Callable[..., None]) -> inspect.Signature:
        """Return a signature with one parameter per option."""
        kind, empty = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.empty
        return inspect.Signature(
            [
                inspect.Parameter(o.name, kind, default=empty if o.required else None)
                for o in self.options.values()
            ]
        )

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Return Invoke's arguments, positional ones first."""
        arguments: list[Argument] = []
        taken = set(self.options)
        for option in self.options.values():
            argument = self._argument(option, taken)
            taken |= set(argument.names)
            arguments.append(argument)
        order = list(self.positional)
        return sorted(arguments, key=lambda a: order.index(str(a.name)) if a.positional else 99)

    def _argument(self, option: Option, taken: set[str]) -> VerbArgument:
        given = self.arg_opts(option.name, None, taken)  # type: ignore[arg-type]
        given |= {"kind": option.kind, "help": option.help}
        argument = VerbArgument(**given)
        argument.option = option
        return argument


def verb(**settings: Any) -> Callable[[Callable[..., None]], Verb]:
    """Create a verb from a function; *settings* are those of Invoke's ``@task``."""

    def make(function: Callable[..., None]) -> Verb:
        return Verb(function, **settings)

    return make


def _options(function: Callable[..., None]) -> Iterator[Option]:
    hints = typing.get_type_hints(function, include_extras=True)
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        hint = hints[parameter.name]
        if dataclasses.is_dataclass(hint):
            yield from _fields(hint)
        else:
            yield _option(parameter.name, hint, required=parameter.default is parameter.empty)


def _fields(cls: Any) -> Iterator[Option]:
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        if typing.get_origin(hints[field.name]) is typing.Annotated:
            required = field.default is dataclasses.MISSING
            yield _option(field.name, hints[field.name], required=required)


def _option(name: str, hint: Any, *, required: bool) -> Option:
    inner, text = typing.get_args(hint)
    members = typing.get_args(inner) if _is_union(inner) else (inner,)
    (only,) = (member for member in members if member is not types.NoneType)
    origin = typing.get_origin(only)
    choices = typing.get_args(only) if origin is Literal else ()
    kind = list if origin is tuple else str if choices else only
    return Option(name=name, kind=kind, help=as_typed(text), choices=choices, required=required)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (types.UnionType, Union)


def _arguments(function: Callable[..., None], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of *function*: only options that were given."""
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if value is not None and value is not NOT_GIVEN and value != []
    }
    for name, hint in typing.get_type_hints(function).items():
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            own = {field.name for field in dataclasses.fields(hint)} & set(given)
            theirs = {key: given.pop(key) for key in own}
            make: Callable[..., Any] = hint
            given[name] = make(**theirs, given=frozenset(own), arguments=after_dashes(sys.argv))
    return given


def after_dashes(argv: Sequence[str]) -> tuple[str, ...]:
    """
    Return the arguments after ``--`` on the command line, unchanged.

    Invoke joins them into one string, and so loses the quoting.
    """
    arguments = list(argv)
    return tuple(arguments[arguments.index("--") + 1 :]) if "--" in arguments else ()


def _replace_unprintable() -> None:
    """Print characters that the terminal does not support escaped, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


# What is wrong with a disk or its permissions, and no bug of ours.
DISK_ERRORS = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EIO)


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """Print our errors as text, and exit with their code."""
    try:
        yield
    except SamerunError as error:
        text = safe_lines(as_typed(f"{type(error).__name__}: {error}"))
        raise Exit(text, error.exit_code) from error
    except KeyboardInterrupt as error:
        raise Exit("Interrupted.", 130) from error
    except Exit:
        raise  # Also of standard output, whose errors are both an Exit and an OSError.
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        # Python names the file where it is opened, not where it is written to.
        what = "A file" if error.filename is None else os.fsdecode(error.filename)
        problem = OutputError(
            f"{what} can't be written: {error.strerror}.",
            "Free space there, mount its disk writable, or change its owner.",
        )
        raise Exit(safe_lines(f"OutputError: {problem}"), problem.exit_code) from error
