"""The settings of a script's project take the place of options that were not given."""

import dataclasses
import os
from pathlib import Path

from samerun.core import data_names
from samerun.host.checkout import settings, user_code
from samerun.host.launch import request
from samerun.host.launch.request import Request

# Options with a variable of the host, which counts more than a file.
_VARIABLES = {"project": "WANDB_PROJECT", "entity": "WANDB_ENTITY"}
_NAMES = ("project", "entity", "data", "gpus", "checkpoints", "env")


def with_settings(options: Request) -> Request:
    """
    Return *options* with what the script's project sets; packages are read where they are needed.

    What was given on the command line counts alone, and what is set is not taken for given.

    Raises:
        UsageError: The project's settings are invalid.
        CodeError: There is no script.
    """
    if not options.is_script or options.resume is not None:
        return options
    root = user_code.find(request.script_path(options), options.project_dir).root
    own = settings.read(root)
    values = {name: getattr(own, name) for name in _NAMES if getattr(own, name)}
    values = {name: value for name, value in values.items() if not _is_given(name, options)}
    if "data" in values:
        values["data"] = tuple(_in_project(text, root) for text in own.data)
    return dataclasses.replace(options, **values)


def _is_given(name: str, options: Request) -> bool:
    return name in options.given or bool(os.environ.get(_VARIABLES.get(name, ""), "").strip())


def _in_project(text: str, root: Path) -> str:
    """Return a folder of data as an absolute path: in a file it is relative to the project."""
    name, place = data_names.split(text)
    return data_names.shown(name, str(root / Path(place).expanduser()))
