"""Runs that are interrupted go on, by themselves or when told to; those that fail do not."""

import hashlib
import signal
import subprocess
import threading
import time

import pytest
from driving import HERE, command, containers, environment, invoke

from samerun.core import record

SCRIPT = HERE / "script" / "steps.py"
LONG = ("--", "--steps", "40", "--pause", "0.5")


def expected(steps):
    """Return what the script comes to without any interruption."""
    value = ""
    for step in range(steps):
        value = hashlib.sha256(f"{value}{step}".encode()).hexdigest()
    return value


@pytest.fixture
def begin(image, tmp_path):
    """Start a run in the background; return its process once it has made some steps."""
    begun = []

    def start(name, *options, script=LONG, until="STEP 2"):
        arguments = ["--gpus", "0", "--output", tmp_path, "--name", name, *options, *script]
        process = subprocess.Popen(
            command("train", SCRIPT, *arguments),
            cwd=HERE.parents[1],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        begun.append((process, name))
        for line in process.stdout:
            if until in line:
                return process
        pytest.fail(f"{name} ended before it printed {until!r}")

    yield start
    for process, name in begun:
        process.kill()
        process.wait()
        ids = ["docker", "ps", "-aq", "--filter", f"label=io.samerun.run={name}"]
        for container in subprocess.check_output(ids, text=True).split():
            remove = ["docker", "rm", "--force", container]
            subprocess.run(remove, check=False, capture_output=True)


def test_killed_run_starts_again_and_ends_the_same(train, tmp_path):
    """SIGKILL in the container, `--restarts 2`: two starts, one folder, the same result."""
    options = ("--gpus", "0", "--restarts", "2")
    done, run = train(SCRIPT, *options, "--", "--die-at", "3", name="hands-dies")

    folder = tmp_path / "runs" / "hands-dies"
    assert done.returncode == 0, done.stdout + done.stderr
    assert (run.outcome.state, run.outcome.restarts) == ("finished", 1)
    assert (folder / "result").read_text() == expected(6)
    assert (folder / "log.txt").read_text().count("STEP 3") == 2
    assert "START at 3" in (folder / "log.txt").read_text()
    assert "2 starts" in done.stdout


def test_killed_recipe_ends_with_the_same_bits(train, client, tmp_path):
    """SIGKILL to the container in the midst of an epoch, `--restarts`: weights and history."""
    options = ("--gpus", "0", "--checkpoints", "epochs=1,batches=3")
    epochs = ("--", "--epochs", "20")
    _, whole = train("tabular", *options, *epochs, name="hands-whole")
    folder = tmp_path / "runs" / "hands-shot"
    killer = threading.Thread(target=kill_later, args=(client, folder), daemon=True)
    killer.start()
    done, shot = train("tabular", *options, "--restarts", "3", *epochs, name="hands-shot")

    assert done.returncode == 0, done.stdout + done.stderr
    assert shot.outcome.restarts == 1
    assert shot.starts[-1]["resumed"]["checkpoint"] > "000-00003"
    assert len({entry.id for entry in shot.wandb}) == 1
    for name in ("weights_sha256", "metric_history_sha256"):
        assert shot.result[name] == whole.result[name]


def kill_later(client, folder):
    """Kill the run in *folder* once it has some checkpoints."""
    while not list((folder / "checkpoints").glob("000-00004-*.json")):
        time.sleep(0.02)
    containers(client, folder.name)[0].kill()


def test_own_failure_is_not_started_again(train):
    """An exception is the script's own: exit code 1 after one start, whatever --restarts says."""
    options = ("--gpus", "0", "--restarts", "3")
    done, run = train(SCRIPT, *options, "--", "--fail-at", "2", name="hands-fails")

    assert done.returncode == 1
    assert (run.outcome.state, run.outcome.restarts) == ("failed", 0)
    assert done.stderr.count("ValueError: 2") == 1


def test_run_that_gets_nowhere_is_given_up(train):
    """Killed before every checkpoint: three starts in vain are enough, of nine allowed."""
    done, run = train(SCRIPT, "--gpus", "0", "--restarts", "9", "--", "--stuck", name="hands-stuck")

    assert done.returncode == 137
    assert (run.outcome.state, run.outcome.restarts) == ("killed", 2)
    assert "wrote no new checkpoint" in done.stdout


def test_termination_then_resume_ends_the_same(begin, client, tmp_path):
    """SIGTERM: exit code 75 and how to go on; `--resume` ends as if nothing had been."""
    process = begin("hands-term", script=("--", "--steps", "12", "--pause", "0.3"))
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=60)[0]
    run = record.read(tmp_path / "hands-term")

    assert process.returncode == run.outcome.exit_code == 75, told
    assert (run.outcome.state, run.outcome.reason) == ("preempted", "SIGTERM")
    assert f"invoke train --resume {tmp_path / 'hands-term'}" in told

    changed = invoke("train", "--resume", tmp_path / "hands-term", "--seed", "7")
    assert changed.returncode == 64
    assert "--seed" in changed.stderr
    done = invoke("train", "--resume", tmp_path / "hands-term")
    again = record.read(tmp_path / "hands-term")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (again.outcome.state, again.outcome.restarts) == ("finished", 1)
    assert again.image.digest == run.image.digest
    assert (again.command, again.seed) == (run.command, run.seed)
    assert (tmp_path / "hands-term" / "result").read_text() == expected(12)
    assert containers(client, "hands-term") == []

    finished = invoke("train", "--resume", tmp_path / "hands-term")
    assert finished.returncode == 64
    assert "finished" in finished.stderr


def test_kill_from_outside_starts_the_run_again(begin, client, tmp_path):
    """As an engine that goes down does it: SIGKILL to the container, `--restarts 1`."""
    script = ("--", "--steps", "10", "--pause", "0.3")
    process = begin("hands-engine", "--restarts", "1", script=script)
    containers(client, "hands-engine")[0].kill()
    told = process.communicate(timeout=60)[0]
    run = record.read(tmp_path / "hands-engine")

    assert process.returncode == 0, told
    assert (run.outcome.state, run.outcome.restarts) == ("finished", 1)
    assert (tmp_path / "hands-engine" / "result").read_text() == expected(10)


def test_orphan_is_found_and_its_record_completed(begin, client, tmp_path):
    """SIGKILL to the command: the run goes on, can't be doubled, and is completed at its end."""
    process = begin("hands-orphan", script=("--", "--steps", "30", "--pause", "0.3"))
    process.kill()
    process.wait()

    listed = invoke("runs", "--output", tmp_path)
    busy = invoke("train", "--resume", tmp_path / "hands-orphan")
    assert "running" in listed.stdout
    assert (busy.returncode, "still in progress" in busy.stderr) == (96, True)

    printed = invoke("logs", tmp_path / "hands-orphan", "-f")
    shown = invoke("show", tmp_path / "hands-orphan")
    run = record.read(tmp_path / "hands-orphan")
    assert "STEP 29" in printed.stdout
    assert "finished" in shown.stdout
    assert (run.outcome.state, run.outcome.exit_code) == ("finished", 0)
    log = (tmp_path / "hands-orphan" / "log.txt").read_text()
    assert [log.count(f"STEP {n}\n") for n in range(30)] == [1] * 30
    assert containers(client, "hands-orphan") == []


def test_stop_lets_the_run_write_its_checkpoint(begin, tmp_path):
    """`invoke stop`: 75, told to both commands, and --restarts does not start it again."""
    process = begin("hands-stop", "--restarts", "5")
    done = invoke("stop", tmp_path / "hands-stop")
    process.communicate(timeout=60)
    run = record.read(tmp_path / "hands-stop")

    assert done.returncode == 0, done.stderr
    assert "preempted (invoke stop)" in done.stdout
    assert process.returncode == 75
    assert (run.outcome.reason, run.outcome.restarts) == ("invoke stop", 0)


@pytest.mark.alone
def test_two_runs_at_once_do_not_disturb_each_other(begin, tmp_path):
    """Each has its own container and folder; a name that is taken is refused."""
    script = ("--", "--steps", "24", "--pause", "0.4")
    processes = [begin(f"hands-two-{n}", script=script) for n in range(2)]
    taken = invoke("train", SCRIPT, "--gpus", "0", "--output", tmp_path, "--name", "hands-two-0")
    held = invoke("clean", "--output", tmp_path, "--run", "hands-two-0", "--yes")
    codes = [(process.communicate(timeout=90), process.returncode)[1] for process in processes]

    assert codes == [0, 0]
    assert taken.returncode == 73
    assert "still in progress" in held.stdout
    for n in range(2):
        assert (tmp_path / f"hands-two-{n}" / "result").read_text() == expected(24)
