"""
The commands of the README on GPUs, as a user types them: `invoke test --gpu`.

Skipped without an NVIDIA GPU. ``SAMERUN_GPU_TESTS=cpu`` runs them on the CPU, with as many
processes, which checks the checks.
"""

import os
import shutil
import subprocess
import time

import pytest
from driving import HERE, command, environment, invoke

from samerun.core import record

ON_CPU = os.environ.get("SAMERUN_GPU_TESTS") == "cpu"
GPU_SCRIPTS = HERE.parent / "gpu"


def number_of_gpus():
    """Return the number of GPUs that nvidia-smi lists."""
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


THERE = number_of_gpus()
pytestmark = pytest.mark.skipif(
    not THERE and not ON_CPU, reason="needs an NVIDIA GPU; nvidia-smi lists none here"
)
two = pytest.mark.skipif(THERE < 2 and not ON_CPU, reason=f"needs 2 GPUs; {THERE} here")


def on(gpus):
    """Return the options of a training on so many GPUs."""
    return ("--gpus", "0", "--procs", gpus) if ON_CPU else ("--gpus", gpus)


def test_doctor_finds_the_gpus():
    done = invoke("doctor")
    assert done.returncode == 0, done.stdout
    assert ON_CPU or f"{THERE} x" in done.stdout or "NVIDIA" in done.stdout


def test_repeated_training_has_the_same_bits_and_says_where_it_computed(train, tmp_path):
    done, one = train("digits", *on(1), "--", "--epochs", "1", name="gpus-a")
    assert done.returncode == 0, done.stderr
    done, other = train("digits", *on(1), "--", "--epochs", "1", name="gpus-b")
    assert done.returncode == 0, done.stderr
    compared = invoke("compare", tmp_path / "runs" / "gpus-a", tmp_path / "runs" / "gpus-b")

    assert one.environment["device"] == ("cpu" if ON_CPU else "cuda")
    assert one.result["weights_sha256"] == other.result["weights_sha256"]
    assert compared.returncode == 0, compared.stdout


@two
def test_two_gpus_talk_over_loopback_without_a_network(train):
    done, run = train("digits", *on(2), "--no-network", "--", "--epochs", "1", name="gpus-c")
    assert done.returncode == 0, done.stderr
    assert run.topology.world_size == 2


def test_stopped_training_resumes_to_the_same_bits(train, tmp_path):
    gpus = 2 if THERE >= 2 or ON_CPU else 1
    whole = ("digits", *on(gpus), "--checkpoints", "batches=5")
    done, undisturbed = train(*whole, "--", "--epochs", "4", name="gpus-d")
    assert done.returncode == 0, done.stderr

    options = ["--output", tmp_path / "runs", "--name", "gpus-e", "--", "--epochs", "4"]
    process = subprocess.Popen(
        command("train", *whole, *options),
        env=environment(),
        cwd=HERE.parents[1],
        stdout=subprocess.DEVNULL,
    )
    folder = tmp_path / "runs" / "gpus-e"
    while not list(folder.glob("checkpoints/*.json")) and process.poll() is None:
        time.sleep(0.2)
    stopped = invoke("stop", folder)
    assert stopped.returncode == 0, stopped.stderr
    assert process.wait(timeout=120) == 75
    resumed = invoke("train", "--resume", folder)

    assert resumed.returncode == 0, resumed.stderr
    assert record.read(folder).result == undisturbed.result


@two
def test_distributed_script_is_reproduced(train, tmp_path):
    done, _ = train(GPU_SCRIPTS / "pair.py", *on(2), name="gpus-f")
    assert done.returncode == 0, done.stderr
    judged = invoke("reproduce", tmp_path / "runs" / "gpus-f")
    assert judged.returncode == 0, judged.stdout


@two
def test_settings_of_nccl_reach_the_run(train):
    settings = ("--env", "NCCL_DEBUG=INFO", "--env", "NCCL_P2P_DISABLE=1")
    done, run = train("digits", *on(2), *settings, "--", "--epochs", "1", name="gpus-g")
    assert done.returncode == 0, done.stderr
    assert ON_CPU or "NCCL INFO" in done.stdout
    assert run.environment["variables"]["NCCL_P2P_DISABLE"] == "1"


@two
@pytest.mark.parametrize(("how", "code"), [("raised", 1), ("killed", 137), ("oom", 112)])
def test_failure_of_one_rank_is_the_cause_of_the_end(train, how, code):
    if ON_CPU and how == "oom":
        pytest.skip("the CPU's memory is no GPU's")
    began = time.monotonic()
    name = f"gpus-{how}"
    done, run = train(GPU_SCRIPTS / "failing.py", *on(2), "--", how, "--rank", "1", name=name)

    assert done.returncode == code, done.stdout
    assert run.outcome.exit_code == code
    assert "rank 1" in str(run.outcome) or how == "killed"
    assert time.monotonic() - began < 180


def test_container_without_the_gpus_that_it_needs_fails(image):
    """On any machine: the container itself proves that it has what was asked for."""
    asked = ["docker", "run", "--rm", "--env=SAMERUN_GPUS=1", "--tmpfs=/output:mode=1777"]
    done = subprocess.run(
        [*asked, image["reference"], "digits"], capture_output=True, text=True, check=False
    )
    assert done.returncode not in (0, 1), done.stderr
    assert "train_loss" not in done.stdout
