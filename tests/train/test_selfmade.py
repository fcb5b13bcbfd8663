"""A container that the kit did not start keeps its own record."""

import os
import signal
import subprocess
import sys
import time

import pytest

from samerun import record

DIGEST = "d" * 64
# As the entry does where /output can be written; here the folder is the test's own.
DRIVER = """
import sys
from pathlib import Path
from samerun.errors import SamerunError
from samerun.train import selfmade
from samerun.train.nodes import Nodes

start = selfmade.Start(
    argv=tuple(sys.argv[1:]), target=sys.argv[1], arguments=tuple(sys.argv[2:]),
    procs=1, seed=42, nodes=Nodes(),
)
try:
    sys.exit(selfmade.run(start, Path.cwd()))
except SamerunError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""

# The image loads the hook by itself.
LOGS = """
import samerun.train.hook, wandb
run = wandb.init(project="p")
print("TAGS", run.tags)
run.finish()
"""


def command(*arguments):
    return [sys.executable, "-c", DRIVER, *map(str, arguments)]


def by_hand(folder, *arguments, **variables):
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def output(tmp_path):
    path = tmp_path / "output"
    path.mkdir()
    return path


def script(tmp_path, text):
    path = tmp_path / "train.py"
    path.write_text(text)
    return path


def test_a_run_by_hand_has_a_record_that_says_what_it_lacks(tmp_path, output):
    """W&B run, environment and outcome are there; the digest is told, not confirmed."""
    done = by_hand(output, script(tmp_path, LOGS), SAMERUN_IMAGE=f"host/x@sha256:{DIGEST}")
    made = record.read(output)

    assert done.returncode == 0, done.stderr
    assert f"TAGS ('{DIGEST}',)" in done.stdout
    assert (made.written_by, made.outcome.state) == ("container", "finished")
    assert made.image.digest == DIGEST
    assert [run["mode"] for run in made.wandb] == ["offline"]
    assert made.environment["torch"]
    assert any("whether the image is the one" in sentence for sentence in made.unknown)
    assert "samerun: not known: whether the image is the one in SAMERUN_IMAGE" in done.stderr


def test_without_a_digest_the_run_is_still_recorded(tmp_path, output):
    """The W&B run gets no tag, for an empty one would end it."""
    done = by_hand(output, script(tmp_path, LOGS))

    assert done.returncode == 0, done.stderr
    assert "TAGS ()" in done.stdout
    assert record.read(output).image.digest == ""
    assert "SAMERUN_IMAGE=NAME@sha256" in done.stderr


@pytest.mark.parametrize(("code", "state"), [(75, "preempted"), (3, "failed")])
def test_the_exit_code_is_the_training_s(tmp_path, output, code, state):
    """75 goes on to whoever restarts; the record has it too."""
    done = by_hand(output, script(tmp_path, f"import sys; sys.exit({code})"))
    outcome = record.read(output).outcome

    assert (done.returncode, outcome.exit_code, outcome.state) == (code, code, state)


def test_sigterm_reaches_the_training(tmp_path, output):
    """What the training makes of it decides: here it ends with 75."""
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        "open('ready', 'w').close()\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen(command(script(tmp_path, code)), cwd=output)
    for _ in range(300):
        if (output / "ready").exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)

    assert process.wait(30) == 75
    assert record.read(output).outcome.state == "preempted"


def test_a_second_start_counts_as_a_restart(tmp_path, output):
    """A pod that comes again on the same volume goes on with the same record."""
    ends = script(tmp_path, "import os, sys; sys.exit(0 if os.path.exists('again') else 75)")

    by_hand(output, ends, SAMERUN_RUN="mine")
    (output / "again").touch()
    done = by_hand(output, ends, SAMERUN_RUN="other")
    made = record.read(output)

    assert done.returncode == 0
    assert (made.name, made.outcome.restarts, len(made.starts)) == ("mine", 1, 2)


def test_an_ended_run_is_not_written_over(tmp_path, output):
    """Its record would be lost."""
    ends = script(tmp_path, "")
    by_hand(output, ends)

    done = by_hand(output, ends)

    assert done.returncode == 73
    assert "has finished" in done.stderr


def test_a_run_does_not_go_on_in_another_image(tmp_path, output):
    """One run, one digest."""
    ends = script(tmp_path, "import sys; sys.exit(75)")
    by_hand(output, ends, SAMERUN_IMAGE=f"host/x@sha256:{DIGEST}")

    done = by_hand(output, ends, SAMERUN_IMAGE=f"host/x@sha256:{'e' * 64}")

    assert done.returncode == 104
    assert DIGEST in done.stderr
