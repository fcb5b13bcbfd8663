"""A container that the kit did not start keeps its own record."""

import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from samerun.core import record

DIGEST = "d" * 64
# As the entry does where /output can be written; here the folder is the test's own.
DRIVER = """
import os, sys
from pathlib import Path
from samerun.core.errors import SamerunError
from samerun.core.placement import NodePlacement
from samerun.train.standalone import record

rank = int(os.environ.get("TEST_RANK", "0"))
start = record.Start(
    argv=tuple(sys.argv[1:]), target=sys.argv[1], arguments=tuple(sys.argv[2:]),
    procs=1, seed=42, nodes=NodePlacement(rank=rank),
)
try:
    sys.exit(record.run(start, Path.cwd()))
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
    assert [run.mode for run in made.wandb] == ["offline"]
    assert made.environment["torch"]
    assert any("whether the image is the one" in sentence for sentence in made.unknown)
    assert "samerun: unknown: whether the image is the one in SAMERUN_IMAGE" in done.stderr


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


def test_a_folder_does_not_go_on_with_another_command(tmp_path, output):
    """The record says how its run was started; two runs in one record are none."""
    ends = script(tmp_path, "import sys; sys.exit(75)")
    by_hand(output, ends, "--lr", "1")

    done = by_hand(output, ends, "--lr", "2")

    assert done.returncode == 73
    assert "--lr 1 seed 42" in done.stderr
    assert record.read(output).outcome.restarts == 0


def test_the_record_says_what_the_container_was_given(tmp_path, output):
    """Variables that change the training, but no secret; and that it was fast."""
    given = {"SAMERUN_FAST": "1", "SAMERUN_STOP_ON_NAN": "1", "WANDB_API_KEY": "k" * 40}
    settings = {"SAMERUN_ENV": "STYLE", "STYLE": "a b", "NCCL_ALGO": "Ring", "MKL_CBWR": "AVX2"}
    by_hand(output, script(tmp_path, ""), **given, **settings, OTHER="unlisted")
    made = record.read(output)

    assert made.determinism == "fast"
    assert made.launch.environment["SAMERUN_STOP_ON_NAN"] == "1"
    assert settings.items() <= made.launch.environment.items()
    assert made.environment["variables"]["MKL_CBWR"] == "AVX2"
    assert "OTHER" not in made.launch.environment
    assert made.secrets == ("WANDB_API_KEY",)
    assert "k" * 40 not in (output / "run.json").read_text()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "epochs=1,batches=0,minutes=10,keep=2"),
        ({"SAMERUN_CHECKPOINTS": ""}, ""),
        ({"SAMERUN_CHECKPOINTS": "batches=5"}, "batches=5"),
    ],
)
def test_checkpoints_are_written_as_the_kit_would(tmp_path, output, given, expected):
    """Unless told otherwise; set and empty is never."""
    code = "import os; print('POLICY', os.environ['SAMERUN_CHECKPOINTS'], 'END')"

    done = by_hand(output, script(tmp_path, code), **given)

    assert f"POLICY {expected} END" in done.stdout


def test_a_machine_that_is_not_the_first_leaves_one_hidden_folder(tmp_path, output):
    """Its own record, by which it signs; the folder may be that of the first one as well."""
    code = f"{LOGS}\nraise SystemExit(3)"
    told = {"SAMERUN_IMAGE": f"host/x@sha256:{DIGEST}", "TEST_RANK": "1", "SAMERUN_RUN": "job"}

    done = by_hand(output, script(tmp_path, code), **told)
    made = record.read(output / ".samerun" / "node-1")

    assert f"TAGS ('{DIGEST}',)" in done.stdout
    assert not (output / "run.json").exists()
    assert [path.name for path in (output / ".samerun").iterdir()] == ["node-1"]
    assert (made.name, made.topology.node_rank, made.outcome.exit_code) == ("job-node1", 1, 3)
    assert by_hand(output, script(tmp_path, code), **told).returncode == 3


def test_ctrl_c_reaches_the_training_once_and_the_terminal_is_its_own(tmp_path, output):
    """A second one would end it without a checkpoint; and a debugger has to read."""
    code = (
        "import os, signal, sys, time\n"
        "assert os.tcgetpgrp(0) == os.getpgrp() != os.getpgid(os.getppid())\n"
        "got = []\n"
        "signal.signal(signal.SIGINT, lambda *_: got.append(1))\n"
        "print('READY', flush=True)\n"
        "while not got: time.sleep(0.05)\n"
        "time.sleep(1)\n"
        "print('GOT', len(got), input(), flush=True)\n"
        "sys.exit(75)\n"
    )
    line = command(script(tmp_path, code))
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(output)
        os.execv(line[0], line)
    said = read_until(terminal, b"READY")
    os.write(terminal, b"\x03")
    time.sleep(2)
    os.write(terminal, b"word\n")
    said += read_until(terminal, b"GOT 1 word")
    _, status = os.waitpid(pid, 0)

    assert b"GOT 1 word" in said
    assert os.waitstatus_to_exitcode(status) == 75


def read_until(terminal, word):
    """Return what stands on the terminal up to *word*, for half a minute at most."""
    said, until = b"", time.monotonic() + 30
    while word not in said and time.monotonic() < until:
        if select.select([terminal], [], [], 1)[0]:
            try:
                said += os.read(terminal, 4096)
            except OSError:  # The other side is gone.
                return said
    return said


def test_a_signal_before_the_training_says_start_me_again(tmp_path, output):
    """The data may be read for an hour, and the kernel passes PID 1 only what it asks for."""
    slow = DRIVER.replace(
        "try:", "record.begin = lambda *_: (print('READING', flush=True), time.sleep(60))\ntry:"
    ).replace("import os, sys", "import os, sys, time")
    line = [sys.executable, "-c", slow, str(script(tmp_path, ""))]
    process = subprocess.Popen(line, cwd=output, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "READING\n"
    process.send_signal(signal.SIGTERM)

    assert process.wait(10) == 75
    assert list(output.iterdir()) == []
