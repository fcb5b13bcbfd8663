"""Progress bars, and wandb's lines, as a terminal on the host or a log gets them."""

import os

import pytest
from resuming import FRAMEWORKS

BARS = """
import samerun.train.hook
from fastprogress import progress_bar, master_bar
master = master_bar(range(2))
for _ in master:
    for i in progress_bar(range(30), parent=master):
        master.child.comment = f"{12345.6789:.4f}"
print("end")
"""
OFFLINE = """
import samerun.train.hook
import wandb
run = wandb.init(mode="offline", settings=wandb.Settings(silent=False))
run.log({"a": 1})
"""


def lines(columns):
    """Return what is on a line of the terminal at any time."""
    environment = {**os.environ, "SAMERUN_PROGRESS": columns, "PYTHONIOENCODING": "utf-8"}
    done = FRAMEWORKS.run(BARS, environment)
    assert done.returncode == 0, done.stderr
    return [part for line in done.stdout.splitlines() for part in line.split("\r")]


@pytest.mark.parametrize("columns", [80, 120])
def test_a_bar_fits_the_terminal(columns):
    """Each update would be a new line otherwise."""
    parts = lines(str(columns))

    assert any("[30/30" in part for part in parts)
    assert max(map(len, parts)) < columns


def test_there_are_no_bars_without_a_terminal():
    """Not even the character that tests the terminal."""
    assert [part for part in lines("") if part.strip()] == ["end"]


@pytest.mark.parametrize("end", ["run.finish()", "", "raise ValueError('own')"])
def test_wandb_gives_no_advice_that_the_host_can_not_follow(folder, end):
    """Neither its commands nor the container's paths for them; that it is offline is still said."""
    environment = {**os.environ, "SAMERUN_RECORD": str(folder / "run.json")}
    environment |= {"WANDB_DIR": str(folder), "WANDB_SILENT": "false"}
    done = FRAMEWORKS.run(OFFLINE + end, environment)

    assert done.returncode == ("own" in end), done.stderr
    assert "syncing is set to `offline`" in done.stderr
    for words in ("leet", "wandb online", "wandb sync", "You can sync"):
        assert words not in done.stderr, done.stderr
