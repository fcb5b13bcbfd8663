"""What a run needs goes away beneath it: the record stays, and says what it was."""

import os
import subprocess

import pytest
from driving import HERE, command, environment, invoke

from samerun.core import record
from samerun.core.errors import DataError
from samerun.core.record import Mount
from samerun.host.container import process
from samerun.host.container.spec import ContainerSpec


def test_disk_that_fills_up_during_training(image, tmp_path):
    """The training's own exit code; the record is whole, and names the disk."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    options = ["--gpus", "0", "--mount-code", "--output", place, "--name", "full"]
    try:
        done = invoke("train", HERE / "hostile" / "fill.py", *options)
        run = record.read(place / "full")
        left = sorted(path.name for path in (place / "full").iterdir())
    finally:
        subprocess.run(["umount", str(place)], check=True)

    assert done.returncode == run.outcome.exit_code == 1
    assert (run.outcome.state, run.outcome.reason) == ("failed", "the disk of the output is full")
    assert run.outcome.ended
    assert "No space left on device" in done.stderr
    assert "free space there" in done.stdout
    assert left == [".samerun", "log.txt", "model.bin", "run.json"]


def test_data_that_vanishes_during_training(image, tmp_path):
    """The training fails as it must; the record says why."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.csv").write_text("1")
    options = ["--gpus", "0", "--mount-code", "--data", tmp_path / "data"]
    options += ["--output", tmp_path / "runs", "--name", "gone"]
    process = subprocess.Popen(
        command("train", HERE / "hostile" / "reader.py", *options),
        cwd=HERE.parents[1],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    next(line for line in process.stdout if "WAITING" in line)
    (tmp_path / "data" / "x.csv").unlink()
    printed = process.communicate(timeout=60)[0]

    run = record.read(tmp_path / "runs" / "gone")
    assert process.returncode == run.outcome.exit_code == 1
    assert run.outcome.reason == f"the data vanished: {tmp_path / 'data'}"
    assert "is mounted" in printed


def test_data_that_vanishes_before_the_start(client, image, tmp_path):
    """Between the check and the start: our error, and no container stays behind."""
    launch = ContainerSpec(
        run="vanished",
        image=image["reference"],
        user="12345:12345",
        target="tabular",
        arguments=(),
        procs=1,
        seed=1,
        shm_size="1g",
        mounts=(Mount(source=str(tmp_path / "nothing"), target="/data"),),
        network="none",
    )

    with pytest.raises(DataError, match="nothing"):
        process.start(client, launch)
    assert client.containers.list(all=True, filters={"name": "samerun-vanished"}) == []


def test_run_without_a_network_says_so_and_trains(train):
    """W&B is offline though there is a key, which stays here; there is no way out."""
    done, run = train(
        HERE / "script" / "probe.py", "--gpus", "0", "--no-network", "--", "--wandb", "x",
        name="damaged-alone", WANDB_API_KEY="0123456789" * 4,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "No network: W&B records offline" in done.stdout
    assert "--network=none" in run.arguments
    assert run.secrets == ()
    assert run.wandb[0].mode == "offline"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read what the run can't")
def test_data_that_only_root_can_read_is_told_before_the_start(image, tmp_path):
    """The run is not root: exit code 66, and the command that mends it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.csv").write_text("1")
    (tmp_path / "data" / "x.csv").chmod(0o600)
    options = ["--gpus", "0", "--data", tmp_path / "data", "--output", tmp_path]

    done = invoke("train", "tabular", *options)

    assert done.returncode == 66
    assert "chmod -R o+rX" in done.stderr
