"""
A bare VM, from nothing to a run and through a power cut, by the user data of `invoke cloud vm`.

The machine is Debian in namespaces (see ``machine``); what cloud-init would write is
written, and what it would run is run, in its order.
"""

import inspect
import re
import subprocess
import time

import machine as machines
import pytest
import yaml
from driving import ROOT, invoke

from samerun import record
from samerun.host.cloud import vm
from samerun.verbs import training

EPOCHS = 12


@pytest.fixture(scope="module")
def pushed(image, registry, tmp_path_factory):
    """This checkout's image in a registry on loopback."""
    # The note of where it was pushed goes with the registry.
    cache = {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    done = invoke("push", image["reference"], "--registry", f"{registry.name}/vm", **cache)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


@pytest.fixture(scope="module")
def machine(registry, tmp_path_factory):
    """A bare machine with power, that reaches the registry."""
    with machines.running(tmp_path_factory.mktemp("vm"), registry.port) as running:
        source = running.root / "srv" / "kit.git"
        clone = ["git", "clone", "--quiet", "--bare", ROOT, source]
        if subprocess.run(clone, check=False).returncode:
            pytest.skip("the checkout is no git repository, and so can't be cloned")
        yield running


def user_data(machine, pushed, name, *arguments):
    """Write the user data for a run, and its files to where cloud-init would write them."""
    file = machine.root.parent / f"{name}.yaml"
    options = ["--image", pushed, "--no-check", "--offline", "--name", name]
    options += ["--source", "/srv/kit.git", "--shm-size", "512m", "--file", file]
    done = invoke("cloud", "vm", *options, "--", *arguments)
    assert done.returncode == 0, done.stderr
    for entry in yaml.safe_load(file.read_text())["write_files"]:
        path = machine.root / entry["path"].lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(entry["content"])
        path.chmod(int(entry["permissions"], 8))


@pytest.fixture(scope="module")
def prepared(machine, pushed):
    """The machine after cloud-init: engine set up, image pulled by its digest."""
    user_data(machine, pushed, "vm-first", "--epochs", "1")
    done = machine.run(vm.PREPARE)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_of(machine, name):
    return record.read(machine.root / "srv" / "samerun" / "runs" / name)


def test_a_bare_machine_gets_engine_and_image(prepared, pushed):
    """The kit's own verbs, in the order of the user data."""
    assert "Docker Engine" in prepared
    assert pushed in prepared


def test_the_run_is_recorded_with_the_digest_that_was_pushed(machine, prepared, pushed):
    """Trained on the machine, in the very image."""
    user_data(machine, pushed, "vm-first", "--epochs", "1")

    done = machine.run(vm.SCRIPT)
    made = run_of(machine, "vm-first")

    assert done.returncode == 0, done.stdout + done.stderr
    assert made.outcome.state == "finished"
    assert made.image.digest == pushed.partition("sha256:")[2]
    assert made.result["weights_sha256"]


def test_a_machine_that_starts_again_leaves_a_finished_run_alone(machine, prepared, pushed):
    """Nothing is trained, and nothing fails."""
    user_data(machine, pushed, "vm-first", "--epochs", "1")
    before = run_of(machine, "vm-first")

    done = machine.run(vm.SCRIPT)

    assert done.returncode == 0, done.stdout + done.stderr
    assert run_of(machine, "vm-first") == before


def test_a_power_cut_leaves_the_record_and_an_engine_that_starts(machine, prepared, pushed):
    """Everything killed at once, in the third epoch; disk, image and record are there after it."""
    user_data(machine, pushed, "vm-cut", "--epochs", str(EPOCHS))
    process = machine.start(vm.SCRIPT)
    log = machine.root / "srv" / "samerun" / "runs" / "vm-cut" / "log.txt"
    for _ in range(900):
        if log.is_file() and re.search(r"^1 ", log.read_text(), re.MULTILINE):
            break
        time.sleep(0.2)
    machine.cut_power()
    process.wait()
    assert run_of(machine, "vm-cut").outcome.state == "running"

    machine.power_on()
    # systemd would start the engine at boot.
    started = machine.run("sh", "-c", f"cd {vm.KIT} && {vm.VENV}/bin/invoke setup")
    assert started.returncode == 0, started.stdout + started.stderr
    listed = machine.run("docker", "images", "--digests", check=True).stdout
    assert pushed.partition("@")[2] in listed


@pytest.mark.skipif(
    "resume" not in inspect.signature(training.train.body).parameters,
    reason="`invoke train` has no --resume",
)
def test_after_the_power_cut_the_run_goes_on(machine, prepared, pushed):
    """The same script again, as systemd starts it at boot, finishes the run."""
    done = machine.run(vm.SCRIPT)
    made = run_of(machine, "vm-cut")

    assert done.returncode == 0, done.stdout + done.stderr
    assert made.outcome.state == "finished"
    assert made.outcome.restarts >= 1
    assert len(made.result["epochs"]) == EPOCHS
