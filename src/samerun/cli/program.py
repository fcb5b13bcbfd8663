"""
Let a task's positional argument be left out: `invoke train` means `invoke train digits`.

Invoke (3.0) takes only arguments without a default as positional, and then insists on
them. Here an argument whose default is None is filled with its stated value just before
Invoke would complain.
"""

from invoke.parser.argument import Argument
from invoke.parser.parser import ParseMachine

_stated: dict[tuple[str, str], str] = {}


def optional(task: str, argument: str, value: str) -> None:
    """State what *argument* of *task* is where it is left out."""
    _stated[task, argument] = value


def _fill(machine: ParseMachine) -> None:
    context = machine.context
    for argument in context.missing_positional_args if context else ():
        value = _stated.get((str(context.name), _name(argument)))
        if value is not None:
            argument.value = value


def _name(argument: Argument) -> str:
    return str(argument.attr_name or argument.name)


def install() -> None:
    """Extend Invoke's parser; once per process."""
    original = ParseMachine.complete_context

    def complete_context(self: ParseMachine) -> None:
        _fill(self)
        original(self)

    ParseMachine.complete_context = complete_context  # type: ignore[method-assign]
