"""A user's script: says what it sees, tries what it must not, starts a W&B run, exits."""

import argparse
import json
import os
import sys
from pathlib import Path

from lib import helper


def attempt(action):
    """Return the error that *action* meets, or "allowed"."""
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "allowed"


def see():
    """Return what the container looks like from inside."""
    return {
        "argv": sys.argv,
        "helper": helper.VALUE,
        "uid": os.getuid(),
        "write_code": attempt(lambda: Path("/code/x").write_text("x")),
        "environment": dict(os.environ),
    }


def log(tags):
    """Start a W&B run as scripts do, with tags of its own."""
    import wandb

    with wandb.init(project="own", tags=tags) as run:
        run.log({"x": 1})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--text", default="")
    parser.add_argument("--wandb", nargs="*")
    parser.add_argument("--exit", type=int, default=0)
    parser.add_argument("--only-rank", type=int, default=None)
    options = parser.parse_args()
    print("SEEN " + json.dumps(see()), flush=True)
    if options.wandb is not None:
        log(options.wandb)
    if options.only_rank in (None, int(os.environ.get("RANK", "0"))):
        sys.exit(options.exit)
