"""Let SkyPilot itself wrap a task's script, as it runs it on a machine: `wrap.py FILE OUT`."""

import sys
from pathlib import Path

import yaml


def wrap(path):
    from sky.backends.task_codegen import TaskCodeGen

    return TaskCodeGen.build_task_bash_script(yaml.safe_load(Path(path).read_text())["run"])


if __name__ == "__main__":
    # SkyPilot says things on stdout while it is loaded.
    Path(sys.argv[2]).write_text(wrap(sys.argv[1]))
