"""Let a word where a number belongs be an error in one line; Invoke (3.0) shows a traceback."""

from typing import Any

from invoke.exceptions import Exit
from invoke.parser.argument import Argument

from samerun.core.errors import UsageError


def install() -> None:
    """Extend Invoke's parser; once per process."""
    original = Argument.set_value

    def set_value(self: Argument, value: Any, cast: bool = True) -> None:
        try:
            original(self, value, cast)
        except ValueError as error:
            option = f"--{self.name}".replace("_", "-")
            problem = UsageError(f"{option} {value!r} is no whole number.", "Write e.g. 2.")
            raise Exit(f"{type(problem).__name__}: {problem}", problem.exit_code) from error

    Argument.set_value = set_value  # type: ignore[method-assign]
