"""
Extensions of Invoke's parser, for which it has no extension points, and the command `samerun`.

Invoke (3.0) supports only required positional arguments, and for an unknown option it prints
"No idea what '--x' is!" and exits with 1, the code of a failed training. So three methods of
its parser are extended here, for our commands only. The plain `invoke` command offers no other
way; a test fails if a new Invoke changes what this relies on.
"""

import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence

from invoke.collection import Collection
from invoke.exceptions import Exit
from invoke.parser.argument import Argument
from invoke.parser.parser import ParseMachine
from invoke.program import Program

from samerun import __version__
from samerun.cli.typed import as_typed
from samerun.cli.verb import NOT_GIVEN, VerbArgument
from samerun.core.errors import UsageError

_EXTENDED = "_samerun"
# Commands that accept flags of a recipe or script after `--`.
WITH_FLAGS = ("train", "cloud")


def extend_invoke() -> None:
    """Extend Invoke's parser; once per process."""
    if hasattr(ParseMachine, _EXTENDED):
        return
    setattr(ParseMachine, _EXTENDED, True)
    for name, extension in (
        ("complete_context", _complete_context),
        ("see_positional_arg", _see_positional_arg),
        ("error", _error),
    ):
        setattr(ParseMachine, name, extension(getattr(ParseMachine, name)))


def _is_ours(machine: ParseMachine) -> bool:
    """Whether the current words belong to one of our commands, or to an unknown command."""
    # A command without options has no argument that tells.
    is_open = machine.context is machine.initial or not machine.context.args
    contexts = machine.contexts.values() if is_open else [machine.context]
    return any(isinstance(a, VerbArgument) for context in contexts for a in context.args.values())


def _complete_context(original: Callable[..., None]) -> Callable[..., None]:
    """Allow optional positional arguments."""

    def complete_context(self: ParseMachine) -> None:
        for argument in self.context.missing_positional_args if self.context else ():
            if isinstance(argument, VerbArgument) and (
                not argument.option.required or _asks_for_help(self)
            ):
                argument.set_value(NOT_GIVEN, cast=False)
        original(self)

    return complete_context


def _asks_for_help(machine: ParseMachine) -> bool:
    known = machine.initial.args if machine.initial else {}
    return "help" in known and known["help"].value == machine.context.name


def _see_positional_arg(original: Callable[..., None]) -> Callable[..., None]:
    """Don't parse a flag as a recipe: `train --help`, `train --epochs 3`."""

    def see_positional_arg(self: ParseMachine, value: str) -> None:
        known = self.initial.flags if self.initial else {}
        # Invoke's `get` does not find aliases such as -h.
        flag = known[value] if value in known else None  # noqa: SIM401
        if flag is not None and flag.name == "help":
            flag.value = self.context.name
        elif _is_ours(self) and value.startswith("-"):
            self.error(f"No idea what {value!r} is!")
        else:
            original(self, value)

    return see_positional_arg


def _error(original: Callable[..., None]) -> Callable[..., None]:
    """Report parse errors in the format of our errors, with their exit code."""

    def error(self: ParseMachine, message: str) -> None:
        if not _is_ours(self):
            original(self, message)
        problem = UsageError(_reworded(message), _remedy(self, _unknown(message)))
        raise Exit(as_typed(f"UsageError: {problem}"), problem.exit_code)

    return error


def _remedy(machine: ParseMachine, unknown: str) -> str:
    name = machine.context.name
    if name is None:
        return f"Use one of {', '.join(sorted(machine.contexts))} (see `invoke --list`)."
    flags = ""
    if name in WITH_FLAGS:
        words = with_dashes(sys.argv, unknown, machine.context.flags)
        line = f": `{words}`" if words else ""
        flags = f"; put flags of the recipe or script after --{line}"
    return f"See `invoke --help {name}` for its options{flags}."


def with_dashes(argv: Sequence[str], unknown: str, known: Mapping[str, Argument]) -> str:
    """
    Return the command line with ``--`` before the flag *unknown*; empty if it is not there.

    Options that the command has itself, *known*, stay before it.
    """
    words = list(argv[1:])
    at = next((i for i, word in enumerate(words) if word.partition("=")[0] == unknown), None)
    after_option = at and words[at - 1].startswith("-") and not unknown.startswith("-")
    if at is None or after_option or "--" in words:
        return ""
    own, others = words[:at], list[str]()
    rest = iter(words[at:])
    for word in rest:
        # Invoke's `get` does not find aliases such as -h.
        option = known[word.partition("=")[0]] if word.partition("=")[0] in known else None  # noqa: SIM401
        (own if option else others).append(word)
        if option and option.takes_value and "=" not in word:
            own.append(next(rest, ""))
    return shlex.join(["invoke", *own, "--", *others])


def _unknown(message: str) -> str:
    """Return the option that Invoke does not know; empty for another message."""
    found = re.fullmatch(r"No idea what '(.*)' is!", message)
    return found[1].partition("=")[0] if found else ""


def _reworded(message: str) -> str:
    unknown = message.removeprefix("No idea what ").removesuffix(" is!")
    return f"Unknown option or argument: {unknown}." if unknown != message else message


def program(namespace: Collection) -> Program:
    """Return the command `samerun`, with the commands of *namespace*."""
    extend_invoke()
    return Program(name="samerun", version=__version__, namespace=namespace)
