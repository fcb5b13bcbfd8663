"""The options of `invoke reproduce`."""

import math
from dataclasses import dataclass
from typing import Annotated

from samerun.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """The options of `invoke reproduce`; *given* names those on the command line."""

    given: frozenset[str] = frozenset()
    arguments: tuple[str, ...] = ()
    data: Annotated[
        tuple[str, ...],
        "folder of the data, if it is not where the record says; NAME=FOLDER for data with a "
        "name; may be repeated",
    ] = ()
    follow_links: Annotated[bool, "follow links out of the folders given with --data"] = False
    check: Annotated[bool, "only list what is needed and whether it is available; do not train"] = (
        False
    )
    anyway: Annotated[
        bool,
        "continue with different data, with the current mounted code, or without a result",
    ] = False
    tolerance: Annotated[
        str, "largest relative difference of a metric or loss for exit code 93 instead of 94"
    ] = "1e-6"
    output: Annotated[str, "folder of the runs"] = "runs"
    name: Annotated[
        str | None, "name of the new run; default: the original's with -again and the time"
    ] = None
    api_key_file: Annotated[
        str | None, "file with the W&B key; default: WANDB_API_KEY, then ~/.netrc"
    ] = None
    network: Annotated[str | None, "Docker network of the container, as for `invoke train`"] = None
    no_network: Annotated[bool, "no network at all; W&B records offline"] = False

    def largest_difference(self) -> float:
        """
        Return the tolerance as a number.

        Raises:
            UsageError: It is not a number of 0 or more.
        """
        try:
            value = float(self.tolerance)
        except ValueError:
            value = math.nan
        if not value >= 0:
            raise UsageError(
                f"Invalid value for --tolerance: {self.tolerance!r}.", "Use 0 or more, e.g. 1e-6."
            )
        return value
