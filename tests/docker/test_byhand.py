"""Containers that the kit did not start: what they record, and what can be done with it here."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from driving import fingerprint, invoke

from samerun.core import record
from samerun.host.machine import user

HARDENED = ("--read-only", "--cap-drop=ALL", "--tmpfs=/tmp", "--shm-size=512m")
USER = user.of_container()
NETWORK = f"samerun-test-byhand-{os.getpid()}"
PORT = 29400
EPOCHS = ("--epochs", "1")
# So many that there is time to stop it.
LONG = ("--epochs", "12")


@pytest.fixture
def output(tmp_path):
    """A run's folder, as whoever may write it would find it after a copy from a cluster."""
    return make(tmp_path / "runs" / "hand")


def make(folder):
    folder.mkdir(parents=True)
    user.give(folder, user.of_container())
    return folder


@pytest.fixture
def photos(tmp_path):
    """Some data; no recipe looks at them."""
    return fill(tmp_path / "photos")


def fill(folder):
    folder.mkdir()
    (folder / "a.csv").write_text("a")
    (folder / "b.csv").write_text("bb")
    return folder


@pytest.fixture(scope="module")
def network():
    """A network on which containers find each other by name, and nothing else."""
    command = ["docker", "network", "create", "--internal", NETWORK]
    subprocess.run(command, check=True, capture_output=True)
    yield NETWORK
    subprocess.run(["docker", "network", "rm", NETWORK], check=False, capture_output=True)


def by_hand(image, *arguments, output, mounts=(), flags=("--network=none",), **variables):
    told = {"SAMERUN_IMAGE": image["reference"], **variables}
    options = ["--rm", f"--user={USER[0]}:{USER[1]}", *HARDENED, *flags]
    options += [f"--mount=type=bind,source={output},target=/output"]
    options += [f"--mount=type=bind,source={at},target=/data,readonly" for at in mounts]
    # Other tests need the cores meanwhile.
    told = {"OMP_WAIT_POLICY": "PASSIVE", **told}
    options += [f"--env={name}={value}" for name, value in told.items()]
    command = ["docker", "run", *options, image["reference"], *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def machines(image, network, folders, *arguments, variables, mounts=((), ())):
    """Two containers of one job, the first of which is found by its name."""

    def start(rank):
        flags = [f"--network={network}", f"--name={network}-{rank}", "--cpuset-cpus=0"]
        told = variables(rank)
        return by_hand(
            image, *arguments, output=folders[rank], mounts=mounts[rank], flags=flags, **told
        )

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(start, (0, 1)))


def ours(rank):
    """The variables of the kit's own files for clouds."""
    place = {"SAMERUN_NODES": "2", "SAMERUN_NODE_RANK": str(rank)}
    return {**place, "SAMERUN_RDZV": f"{NETWORK}-0:{PORT}", "SAMERUN_RUN": "job"}


def trainer(rank):
    """Those of Kubeflow's trainer."""
    place = {"PET_NNODES": "2", "PET_NODE_RANK": str(rank), "PET_NPROC_PER_NODE": "1"}
    address = {"PET_MASTER_ADDR": f"{NETWORK}-0", "PET_MASTER_PORT": str(PORT)}
    return {**place, **address, "SAMERUN_RUN": "job"}


@pytest.fixture(scope="module")
def whole(image, tmp_path_factory):
    """A run by hand with data, undisturbed: what the container said, the run's folder, the data."""
    place = tmp_path_factory.mktemp("whole")
    photos = fill(place / "photos")
    output = make(place / "runs" / "hand")
    done = by_hand(image, "tabular", *LONG, output=output, mounts=[photos])
    assert done.returncode == 0, done.stderr
    return done, output, photos


def test_a_run_by_hand_is_made_again_from_its_folder(image, whole, tmp_path):
    """Data known by the host's own fingerprint, base and lock from the image; the same bits."""
    done, output, photos = whole
    made = record.read(output)
    here = ["--output", tmp_path]
    missing = invoke("reproduce", output, "--check")
    again = invoke("reproduce", output, "--data", photos, "--name", "again", *here)
    compared = invoke("compare", output, tmp_path / "again")

    assert made.data[0].fingerprint == fingerprint(photos)
    assert "to compute its fingerprint: 2 files" in done.stderr
    assert made.image.base.reference == image["base"]["reference"]
    assert made.image.lock == image["lock"]
    assert made.checkpoints["count"] > 0
    assert missing.returncode == 95
    assert made.data[0].fingerprint in missing.stderr
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Verdict: identical" in again.stdout
    assert " unknown " not in again.stdout
    assert "image layers" in compared.stdout.partition("The same:")[2]


def test_data_that_nobody_read_are_not_taken_for_none(image, output, photos):
    """The record says that there were some; making it again needs a word for that."""
    switched = {"SAMERUN_FINGERPRINT": "0", "SAMERUN_DATA_SOURCE": "s3://photos"}
    done = by_hand(image, "tabular", *EPOCHS, output=output, mounts=[photos], **switched)
    made = record.read(output)
    options = ["reproduce", "hand", "--check", "--output", output.parent]
    refused = invoke(*options)
    named = invoke(*options, "--data", photos)
    passed = invoke(*options, "--data", photos, "--anyway")

    assert done.returncode == 0, done.stderr
    assert (made.data[0].fingerprint, made.data[0].source) == (None, "s3://photos")
    assert any("turned off with SAMERUN_FINGERPRINT=0" in sentence for sentence in made.unknown)
    assert [found.returncode for found in (refused, named, passed)] == [95, 95, 0]
    assert "s3://photos" in refused.stderr
    assert "no fingerprint was recorded" in named.stderr


def test_an_image_that_nobody_named_is_said_to_be_unknown(image, output):
    """No other is taken in its place; listing, showing and comparing work all the same."""
    done = by_hand(image, "tabular", *EPOCHS, output=output, SAMERUN_IMAGE="")
    shutil.copytree(output, output.parent / "other", symlinks=True)
    here = ["--output", output.parent]
    told = [
        invoke("reproduce", "hand", "--check", *here),
        invoke("compare", "hand", "other", *here),
    ]
    shown, listed = invoke("show", "hand", *here), invoke("runs", *here)

    assert done.returncode == 0, done.stderr
    assert told[0].returncode == 95
    assert "names no image" in told[0].stderr
    assert "SAMERUN_IMAGE=NAME@sha256" in told[0].stderr
    assert [found.returncode for found in (told[1], shown, listed)] == [0, 0, 0]
    assert "unknown" in told[1].stdout
    assert "the image is unknown" in shown.stdout


def test_memory_that_ran_out_is_told(image, output):
    """By the kernel's own count: the engine, who knows it too, is not to be asked."""
    (output / "eat.py").write_text("x = b'1' * (4 << 30)")
    limits = ("--network=none", "--memory=1g", "--memory-swap=1g")

    done = by_hand(image, "/output/eat.py", output=output, flags=limits)
    made = record.read(output)

    assert done.returncode == 137
    assert (made.outcome.state, made.outcome.reason) == ("killed", "out of memory")
    assert made.code.where == "mounted"
    assert any("it is not in the image" in sentence for sentence in made.unknown)


def test_a_run_that_goes_on_elsewhere_is_left_alone(whole, tmp_path):
    """A copy of its folder says `running`; nobody here may say that it is over."""
    output = tmp_path / "runs" / "hand"
    shutil.copytree(whole[1], output, symlinks=True)
    ran = record.read(output)
    record.write(output, ran.with_outcome(state="running", exit_code=None, ended=None))
    here = ["--output", output.parent]

    stopped = invoke("stop", "hand", *here)
    listed = invoke("runs", *here)

    assert "not from this machine" in stopped.stdout
    assert " running " in listed.stdout
    assert record.read(output).outcome.state == "running"


def test_a_preempted_run_goes_on_where_the_kit_is(image, whole, output):
    """Its folder, copied from a cluster, holds checkpoint, variables and image."""
    name = f"samerun-byhand-{os.getpid()}"
    with ThreadPoolExecutor(1) as pool:
        flags = ("--network=none", f"--name={name}")
        running = pool.submit(by_hand, image, "tabular", *LONG, output=output, flags=flags)
        until_checkpoint(output, running)
        subprocess.run(["docker", "kill", "--signal=TERM", name], check=True, capture_output=True)
        stopped = running.result()
    before = record.read(output)
    refused = elsewhere_owned(output)

    again = invoke("train", "--resume", output, "--no-network")
    made = record.read(output)

    assert (stopped.returncode, before.outcome.state) == (75, "preempted"), stopped.stderr
    assert refused.returncode == 73
    assert "chown -R" in refused.stderr
    assert again.returncode == 0, again.stderr
    assert (made.written_by, made.outcome.restarts) == ("host", 1)
    assert made.starts[-1]["resumed"]
    assert made.result["weights_sha256"] == record.read(whole[1]).result["weights_sha256"]


def elsewhere_owned(output):
    """Try to go on in a folder that was copied by somebody else."""
    parts = output / ".samerun"
    os.chown(parts, 12345, 12345)
    done = invoke("train", "--resume", output, "--no-network")
    os.chown(parts, *USER)
    return done


def until_checkpoint(output, running):
    """Wait for a checkpoint of the run in *output*."""
    while not list(output.glob("checkpoints/000-000*.json")):
        assert not running.done(), running.result().stderr
        subprocess.run(["sleep", "0.05"], check=True)


@pytest.fixture(scope="module")
def shared(image, network, tmp_path_factory):
    """Jobs of two machines that share a folder, one per way to say which is which."""
    jobs = {}
    for variables in (ours, trainer):
        place = tmp_path_factory.mktemp(variables.__name__)
        photos, output = fill(place / "photos"), make(place / "runs" / "hand")
        mounts = ([photos], [photos])
        where = {"variables": variables, "mounts": mounts}
        jobs[variables] = (
            machines(image, network, (output, output), "tabular", *EPOCHS, **where),
            output,
            photos,
        )
    return jobs


@pytest.mark.parametrize("variables", [ours, trainer])
def test_machines_that_share_a_folder_leave_one_record(image, shared, variables):
    """It names both with their data and image; what the other one wrote is hidden below it."""
    done, output, _ = shared[variables]
    made = record.read(output)
    other = record.read(output / ".samerun" / "node-1")

    assert [found.returncode for found in done] == [0, 0], done[0].stderr + done[1].stderr
    assert made.name == "job"
    assert (made.topology.nodes, made.outcome.state, len(made.wandb)) == (2, "finished", 1)
    assert [node["must"]["data"] for node in made.nodes] == [made.data[0].fingerprint] * 2
    assert [node["must"]["image"] for node in made.nodes] == [image["digest"]] * 2
    assert [node["hardware"]["cores"] for node in made.nodes] == [made.hardware.cores] * 2
    assert (other.name, other.outcome.state, other.wandb) == ("job-node1", "finished", ())
    assert [path.parent.name for path in output.rglob("run.json")] == ["hand", "node-1"]
    listed = invoke("runs", "--output", output.parent).stdout
    assert listed.count("job") == 1


def test_a_job_of_machines_is_made_again_from_its_record(shared):
    """The records of the two ways lead to the same containers and bits, so one of them tells."""
    _, output, photos = shared[trainer]
    by_trainer, by_ours = (record.read(shared[how][1]) for how in (trainer, ours))
    again = invoke(
        *("reproduce", "hand", "--data", photos, "--output", output.parent, "--name", "again")
    )

    assert "Verdict: identical" in again.stdout, again.stdout + again.stderr
    assert by_trainer.topology == by_ours.topology
    assert by_trainer.command == by_ours.command
    for name in ("weights_sha256", "metric_history_sha256"):
        assert by_trainer.result[name] == by_ours.result[name]


def test_machines_with_other_data_do_not_train(image, network, tmp_path, photos):
    """Each reads its own and keeps its own folder; both say who differs in what."""
    folders = (make(tmp_path / "job"), make(tmp_path / "job.node-1"))
    others = tmp_path / "others"
    shutil.copytree(photos, others)
    (others / "a.csv").write_text("b")

    done = machines(
        image,
        network,
        folders,
        "tabular",
        *EPOCHS,
        variables=ours,
        mounts=([photos], [others]),
    )

    assert [found.returncode for found in done] == [98, 98], done[0].stderr + done[1].stderr
    for found in done:
        assert f"has data {fingerprint(others)}" in found.stderr
    assert [path.name for path in folders[1].iterdir()] == [".samerun"]


def test_machines_with_another_image_do_not_train(image, network, output):
    """Each compares its own digest, not the one that the first wrote into the shared folder."""
    other = {"SAMERUN_IMAGE": f"host/x@sha256:{'e' * 64}"}

    done = machines(
        image,
        network,
        (output, output),
        "tabular",
        *EPOCHS,
        variables=lambda rank: ours(rank) | (other if rank else {}),
    )

    assert [found.returncode for found in done] == [98, 98], done[0].stderr + done[1].stderr
    assert all("e" * 64 in found.stderr for found in done)
