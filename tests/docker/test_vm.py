"""
A bare VM, from nothing to a run in its bucket, by the user data of `invoke cloud vm` alone.

The machine is Debian in namespaces (see ``machine``). Its own systemd boots it, and its own
cloud-init takes the user data from a seed, installs, writes and starts what that says. Each
test goes on where the one before it left the machine.
"""

import os
import re
import shutil
import subprocess

import buckets as services
import machine as machines
import pytest
import registry as registries
from driving import ROOT, fingerprint, invoke

from samerun.core import record
from samerun.host.cloud import buckets as cloud_buckets
from samerun.host.cloud import vm
from samerun.host.cloud.request import CloudRequest, Gpus, Location

EPOCHS = 8
PATIENCE_S = 600
DATA = {"cat.txt": b"cat\n", "old dogs/dog 1.txt": b"dog\n"}
# As docs/cloud.md has it for an S3 that is not Amazon's. What fails, fails at once.
ACCESS = """\
RCLONE_S3_PROVIDER=Other
RCLONE_S3_ENDPOINT=http://{host}:{port}
AWS_ACCESS_KEY_ID=someone
AWS_SECRET_ACCESS_KEY=not-a-secret
RCLONE_RETRIES=1
RCLONE_LOW_LEVEL_RETRIES=1
"""
# Else each test would take its two minutes.
OFTEN = "[Timer]\nOnActiveSec=2\nOnUnitInactiveSec=1\n"
S3, GS = Location(kind="s3", name="photos", path="train"), Location(kind="gs", name="photos")
VARIANTS = [
    {},
    {"gpus": Gpus(name="A100", number=8), "procs": 8, "data": (S3,), "output": S3},
    {"data": (GS,), "output": GS, "offline": True},
    {"data": (Location(kind="path", name="/srv/photos"),), "login_command": "a | b"},
]


@pytest.fixture(scope="module")
def registry(program, tmp_path_factory):
    """A registry that asks for a login, as private ones of clouds do."""
    folder = tmp_path_factory.mktemp("registry")
    with registries.running(program, folder, login=True) as running:
        yield running


@pytest.fixture(scope="module")
def pushed(image, registry, tmp_path_factory):
    """This checkout's image in that registry."""
    # The login, and the note of where it was pushed, go with the registry.
    home = {"DOCKER_CONFIG": str(tmp_path_factory.mktemp("docker"))}
    home["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    login = ["docker", "login", "-u", registries.USER, "-p", registries.PASSWORD, registry.name]
    subprocess.run(login, env=os.environ | home, check=True, capture_output=True)
    done = invoke("push", image["reference"], "--registry", f"{registry.name}/vm", **home)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


@pytest.fixture(scope="module")
def buckets(tmp_path_factory):
    """A service with a bucket of data, and one for runs."""
    with services.running(tmp_path_factory.mktemp("buckets")) as running:
        for bucket in ("photos", "runs"):
            running.make(bucket)
        for name, content in DATA.items():
            running.put("photos", f"train/{name}", content)
        yield running


@pytest.fixture(scope="module")
def off(registry, buckets, tmp_path_factory):
    """A bare machine without power; what its owner laid out there is the access to buckets."""
    with machines.made(tmp_path_factory.mktemp("vm"), registry.port) as made:
        clone = ["git", "clone", "--quiet", "--bare", ROOT, made.root / "srv" / "kit.git"]
        if subprocess.run(clone, check=False).returncode:
            pytest.skip("the checkout is no git repository, and so can't be cloned")
        let_in(made, buckets.port)
        often = made.root / "etc" / "systemd" / "system" / f"{cloud_buckets.TIMER}.d" / "often.conf"
        often.parent.mkdir(parents=True)
        often.write_text(OFTEN)
        yield made


@pytest.fixture(scope="module")
def machine(off, pushed):
    """The machine from its first boot on."""
    off.give(user_data(off, pushed, "vm-first"), "vm-first")
    off.power_on()
    return off


def let_in(machine, port):
    path = machine.root / cloud_buckets.ACCESS.lstrip("/")
    path.parent.mkdir(exist_ok=True)
    path.write_text(ACCESS.format(host=machines.HOST, port=port))


def user_data(machine, pushed, name):
    """Return the user data of a run with data and outputs in buckets, as a user would write it."""
    host = pushed.partition("/")[0]
    login = (
        f"echo {registries.PASSWORD} | docker login -u {registries.USER} --password-stdin {host}"
    )
    file = machine.root.parent / f"{name}.yaml"
    options = ["--image", pushed, "--no-check", "--offline", "--name", name]
    options += ["--source", "/srv/kit.git", "--shm-size", "512m", "--file", file]
    options += ["--data", "s3://photos/train", "--output", "s3://runs/my runs"]
    options += ["--login-command", f"echo {registries.PASSWORD} | {login}"]
    # Other tests need the cores meanwhile.
    options += ["--env", "OMP_WAIT_POLICY=PASSIVE"]
    recipe = ["--epochs", str(EPOCHS), "--size-px", "16", "--batch-size", "128"]
    done = invoke("cloud", "vm", *options, "--", *recipe)
    assert done.returncode == 0, done.stderr
    return file.read_text()


def run_of(machine, name):
    return record.read(machine.root / vm.RUNS.lstrip("/") / name)


def kept(buckets, name):
    """Return the names of the run's files in the bucket."""
    prefix = f"my runs/{name}/"
    return [key.removeprefix(prefix) for key in buckets.keys("runs", prefix)]


def kept_checkpoints(buckets):
    return [key for key in kept(buckets, "vm-spot") if key.startswith("checkpoints/")]


def record_in(buckets, name):
    return record.from_json(buckets.get("runs", f"my runs/{name}/run.json").decode())


def property_of(machine, unit, name):
    shown = machine.run("systemctl", "show", "--value", "--property", name, unit, check=True)
    return shown.stdout.strip()


def state_of(machine, unit):
    return property_of(machine, unit, "ActiveState")


def wait(ready, what):
    machines.wait_for(ready, PATIENCE_S, what)


def journal(machine, unit=vm.UNIT):
    return machine.run("journalctl", "--no-pager", "--unit", unit).stdout


def said_now(machine):
    """Return what the run has said since its last start."""
    start = property_of(machine, vm.UNIT, "InvocationID")
    return machine.run("journalctl", "--no-pager", f"_SYSTEMD_INVOCATION_ID={start}").stdout


def has_trained(machine, name, epochs):
    """Whether the run has come so far, by its log."""
    log = machine.root / vm.RUNS.lstrip("/") / name / "log.txt"
    return log.is_file() and re.search(rf"^{epochs} ", log.read_text(), re.MULTILINE)


@pytest.mark.parametrize("changes", VARIANTS)
def test_the_machine_s_cloud_init_takes_the_user_data(machine, changes):
    """Its own schema, which has a word for every key."""
    asked = {"image": "h/n@sha256:" + "a" * 64, "target": "digits", "name": "x", "source": "s"}
    (machine.root / "srv" / "user-data").write_text(
        vm.render(CloudRequest(engine="vm", **asked, **changes))
    )

    done = machine.run("cloud-init", "schema", "--config-file", "/srv/user-data")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Valid" in done.stdout + done.stderr


def test_the_schema_would_see_a_wrong_value(machine):
    """Else the test above would prove nothing."""
    (machine.root / "srv" / "user-data").write_text("#cloud-config\nwrite_files: no list\n")

    done = machine.run("cloud-init", "schema", "--config-file", "/srv/user-data")

    assert done.returncode != 0


def test_cloud_init_brings_a_bare_machine_to_the_image(machine, pushed):
    """Packages, files and commands by itself, from a private registry, without an error."""
    done = machine.run("cloud-init", "status", "--wait", "--long")
    listed = machine.run("docker", "images", "--digests").stdout

    said = (machine.root / "var/log/cloud-init-output.log").read_text()
    assert "status: done" in done.stdout, done.stdout + said
    assert pushed.partition("@")[2] in listed
    assert machine.run("systemctl", "is-enabled", vm.UNIT, "docker").returncode == 0


def test_an_upload_that_fails_ends_no_training(machine, buckets):
    """With the service gone from the first epoch on; what was missed is brought as it is back."""
    wait(lambda: has_trained(machine, "vm-first", 0), "the first epoch")
    let_in(machine, port=9)
    wait(lambda: state_of(machine, cloud_buckets.SERVICE) == "failed", "an upload that fails")
    assert state_of(machine, vm.UNIT) == "active"
    wait(lambda: state_of(machine, vm.UNIT) not in ("active", "deactivating"), "the run's end")
    outcome = property_of(machine, vm.UNIT, "Result"), run_of(machine, "vm-first").outcome.state
    assert outcome == ("success", "finished"), journal(machine)

    let_in(machine, buckets.port)
    wait(lambda: state_of(machine, cloud_buckets.TIMER) == "inactive", "the last upload")

    assert record_in(buckets, "vm-first") == run_of(machine, "vm-first")


def test_the_whole_folder_is_in_the_bucket_in_the_end(machine, buckets):
    """Every file of the run, and no checkpoint that the run has dropped."""
    folder = machine.root / vm.RUNS.lstrip("/") / "vm-first"
    files = [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]

    assert set(kept(buckets, "vm-first")) == {str(p.relative_to(folder)) for p in files}


def test_the_record_has_the_digest_that_was_pushed(machine, pushed):
    """Trained on the machine, in the very image."""
    made = run_of(machine, "vm-first")

    assert made.image.digest == pushed.partition("sha256:")[2]
    assert made.result["weights_sha256"]
    assert len(made.result["epochs"]) == EPOCHS


def test_data_of_a_bucket_is_data_of_the_run(machine, tmp_path):
    """Read-only, with the fingerprint that it has anywhere."""
    tmp_path.chmod(0o755)  # Else it is refused: the run, which is not root, could not read it.
    for name, content in DATA.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    made = run_of(machine, "vm-first")
    mount = next(one for one in made.launch.mounts if one.target == "/data")

    assert made.data[0].fingerprint == fingerprint(tmp_path)
    assert made.data[0].files == len(DATA)
    assert mount.read_only


def test_a_machine_that_starts_again_leaves_a_finished_run_alone(machine):
    """Nothing is trained, and nothing fails."""
    before = run_of(machine, "vm-first")

    done = machine.run("systemctl", "start", vm.UNIT)
    wait(lambda: state_of(machine, vm.UNIT) == "inactive", "the unit's end")

    assert done.returncode == 0, done.stderr
    assert property_of(machine, vm.UNIT, "Result") == "success"
    assert run_of(machine, "vm-first") == before


def test_checkpoints_reach_the_bucket_while_the_run_goes_on(machine, pushed, buckets):
    """To cloud-init another user data with another identity is a machine that is new."""
    machine.shut_down()
    machine.give(user_data(machine, pushed, "vm-spot"), "vm-spot")
    machine.power_on()

    wait(lambda: kept_checkpoints(buckets), "a checkpoint")

    assert state_of(machine, vm.UNIT) == "active"
    assert record_in(buckets, "vm-spot").outcome.state == "running"


def test_systemd_starts_the_run_again_after_75(machine):
    """On SIGTERM it leaves a checkpoint and exits with 75; the upload comes in between."""
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=TERM", vm.UNIT, check=True)
    wait(lambda: property_of(machine, vm.UNIT, "NRestarts") == "1", "systemd's restart")
    wait(lambda: run_of(machine, "vm-spot").outcome.state == "running", "the run")

    assert run_of(machine, "vm-spot").outcome.restarts == 1
    assert "status=75" in journal(machine)


def test_a_machine_that_is_new_goes_on_with_what_the_bucket_has(machine, buckets):
    """Power cut without a word, and the disk with the run gone."""
    third = "checkpoints/000-00003"
    wait(lambda: any(key >= third for key in kept_checkpoints(buckets)), "the third epoch's")
    machine.cut_power()
    shutil.rmtree(machine.root / vm.RUNS.lstrip("/"))
    shutil.rmtree(machine.root / "root" / ".cache")
    shutil.rmtree(machine.root / vm.DATA.lstrip("/"))

    machine.power_on()
    wait(lambda: run_of(machine, "vm-spot").outcome.restarts == 2, "the run")
    wait(lambda: "resuming from checkpoint" in said_now(machine), "the checkpoint")

    assert run_of(machine, "vm-spot").outcome.state == "running"


def test_a_machine_that_is_taken_back_leaves_a_checkpoint_in_the_bucket(machine, buckets):
    """Between the notice and the end, as a spot machine's, there is time for an upload."""
    machine.shut_down()

    at_last = run_of(machine, "vm-spot")
    assert (at_last.outcome.state, at_last.outcome.exit_code) == ("preempted", 75)
    assert record_in(buckets, "vm-spot") == at_last
    here = {p.name for p in (machine.root / vm.RUNS[1:] / "vm-spot" / "checkpoints").iterdir()}
    assert {key.split("/")[1] for key in kept_checkpoints(buckets)} == here


def test_with_its_disk_the_machine_goes_on_to_the_same_weights(machine, buckets):
    """After 75, a lost machine and one that was taken back: the bits of an undisturbed run."""
    machine.power_on()
    wait(lambda: run_of(machine, "vm-spot").outcome.state == "finished", "the run's end")
    undisturbed, made = record_in(buckets, "vm-first"), run_of(machine, "vm-spot")

    assert made.outcome.restarts == 3
    assert made.result["weights_sha256"] == undisturbed.result["weights_sha256"]
    assert made.result["metric_history_sha256"] == undisturbed.result["metric_history_sha256"]
