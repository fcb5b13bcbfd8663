"""
What a hostile script can do: nothing that docs/security.md does not say.

One container makes all attempts and reports them; the tests read its report. Each thing
to be reached is really there, and can be reached by who may.
"""

import json
import os
import shutil
import socket
import subprocess
import threading

import pytest
from driving import HERE, invoke

from samerun.core import record
from samerun.host.machine import network, user

KEY = "b4eac0" * 7
SECRET = '{"secret": "c0ffee"}'
PIDS = 160
CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="packet filter rules need root")


@pytest.fixture(scope="module")
def listener():
    """A service of this host, on all its addresses and as an abstract socket; its port, name."""
    name = f"samerun-test-{os.getpid()}"
    with socket.create_server(("0.0.0.0", 0)) as server, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"\0{name}")
        unix.listen()
        thread = threading.Thread(target=_accept, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1], name


def _accept(server):
    try:
        while True:
            server.accept()[0].close()
    except OSError:
        return


@pytest.fixture(scope="module")
def neighbor(client, image):
    """Another run's container, with a service on port 8000; its address."""
    network.ensure(client)
    command = ["docker", "run", "--rm", "--detach", f"--network={network.NAME}", "--init"]
    command += ["--entrypoint=python", image["reference"], "-m", "http.server", "8000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    container = client.containers.get(done.stdout.strip())
    yield container.attrs["NetworkSettings"]["Networks"][network.NAME]["IPAddress"]
    container.kill()


@pytest.fixture(scope="module")
def gateway(client, neighbor):
    """This host's address on the network of runs."""
    return client.networks.get(network.NAME).attrs["IPAM"]["Config"][0]["Gateway"]


@pytest.fixture(scope="module")
def caged(image, listener, neighbor, gateway, tmp_path_factory):
    """The hostile script's run: process, record, report and the folder above it."""
    place = tmp_path_factory.mktemp("caged")
    shutil.copytree(HERE / "hostile", place / "code", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "code" / ".env").write_text(f"WANDB_API_KEY={KEY}\n")
    (place / "data").mkdir()
    (place / "data" / "x.csv").write_text("1")
    (place / "secret").write_text(SECRET)
    (place / "victim").write_text("untouched")
    (place / "runs" / "other").mkdir(parents=True)
    given = {
        "secret": str(place / "secret"),
        "victim": str(place / "victim"),
        "neighbor": str(place / "runs" / "other"),
        "host_pid": os.getpid(),
        "abstract": listener[1],
        "addresses": {
            "another run": (neighbor, 8000),
            "a service of the host": (gateway, listener[0]),
            "the metadata service": ("169.254.169.254", 80),
            "the engine by TCP": (gateway, 2375),
        },
    }
    options = ["--gpus", "0", "--output", place / "runs", "--name", "caged"]
    options += ["--pids-limit", PIDS, "--data", place / "data"]
    script = place / "code" / "breakout.py"
    done = invoke("train", script, *options, "--", json.dumps(given), WANDB_API_KEY=KEY)
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert lines, done.stdout + done.stderr
    found = json.loads(lines[0].removeprefix("FOUND "))
    return done, record.read(place / "runs" / "caged"), found, place


def test_every_attempt_to_break_out_fails(caged):
    """Files, root, capabilities, kernel, engine, other runs: none is reached."""
    attempts = caged[2]["attempts"]
    by_filter = ("a service of the host", "the metadata service")

    reached = {name: got for name, got in attempts.items() if got.startswith("allowed")}
    assert {name for name in reached if name not in by_filter} == set()
    assert len(attempts) > 50
    # Any other error would come from the kernel behind the filter.
    calls = {got for name, got in attempts.items() if name.startswith("syscall ")}
    assert calls <= {"PermissionError", "OSError 38"}


@needs_root
def test_host_and_metadata_service_are_out_of_reach(caged, listener, gateway, image):
    """Refused at once from the network of runs; from Docker's own bridge the host answers."""
    attempts = caged[2]["attempts"]
    script = f"import socket; socket.create_connection(('{gateway}', {listener[0]}), 3)"
    flags = ["--rm", "--network=bridge", "--entrypoint=python", image["reference"]]
    control = subprocess.run(["docker", "run", *flags, "-c", script], check=False)

    assert attempts["a service of the host"] == "ConnectionRefusedError"
    assert attempts["the metadata service"] == "ConnectionRefusedError"
    assert control.returncode == 0


def test_abstract_socket_of_the_host_is_in_another_namespace(caged, listener):
    """It answers here, and is not there for the run."""
    with socket.socket(socket.AF_UNIX) as unix:
        unix.connect(f"\0{listener[1]}")

    assert caged[2]["attempts"]["abstract socket of the host"] == "ConnectionRefusedError"


def test_another_run_is_reached_by_the_host_only(caged, neighbor):
    """Its service answers here; a run beside it on the same network waits in vain."""
    socket.create_connection((neighbor, 8000), timeout=5).close()

    assert caged[2]["attempts"]["another run"] == "TimeoutError"


def test_the_cage_is_in_force(caged):
    """As the kernel says: no capability, no new privileges, seccomp, nobody's uid, no disk."""
    _, run, found, _ = caged
    facts = found["facts"]

    assert {"0" * 16} == {facts[name] for name in CAPABILITIES}
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    assert facts["uid"] == user.of_container()[0] != 0
    assert facts["groups"] in ([], [user.of_container()[1]])
    assert facts["block devices"] == []
    assert facts["processes"][0] == 1
    assert len(facts["processes"]) == 2, "init and the script"
    assert facts["init"] in ("docker-init", "tini")
    assert (facts["data"], run.data[0].files) == (["x.csv"], 1)
    assert {p for p in facts["writable"] if not p.startswith(("/proc", "/sys", "/dev"))} == {
        "/output",
        "/tmp",
    }
    assert "--network=samerun" in run.arguments


def test_key_is_in_no_other_place(caged):
    """Not in any process's environment or arguments, /output, /code or /tmp; nor in the log."""
    done, run, found, _ = caged

    assert found["facts"]["key length"] == len(KEY)
    assert found["facts"]["key is found"] == []
    assert KEY not in done.stdout + done.stderr + record.to_json(run)


def test_fork_bomb_meets_the_limit(caged):
    """The kernel refuses one process more; the run goes on and ends by itself."""
    done, run, found, _ = caged

    assert found["bomb"]["fork bomb"] == "BlockingIOError"
    assert PIDS - 20 < found["bomb"]["forked"] < PIDS
    assert (done.returncode, run.outcome.state) == (0, "finished")


def test_traps_in_the_output_do_not_lead_the_host_astray(caged):
    """Links, pipes and endless JSON where the host writes and reads: the victim is untouched."""
    _, run, _, place = caged

    assert (place / "victim").read_text() == "untouched"
    assert "c0ffee" not in record.to_json(run)
    assert (run.config, run.result, run.environment, run.wandb) == ({}, {}, {}, ())
    assert not (place / "runs" / "caged" / "run.json").is_symlink()


def test_no_set_uid_file_is_left_behind(caged):
    """On the host it would lend the caller's identity to every other user."""
    path = caged[3] / "runs" / "caged" / "rootsh"

    assert path.stat().st_mode & 0o6000 == 0
    assert path.stat().st_mode & 0o777 == 0o755


def test_memory_hog_is_stopped_and_told(train):
    """137, "out of memory" in the record, and what to do about it."""
    hog = HERE / "hostile" / "hog.py"

    done, run = train(hog, "--gpus", "0", "--mount-code", "--memory", "600m", name="hog")

    assert done.returncode == run.outcome.exit_code == 137
    assert (run.outcome.state, run.outcome.reason) == ("killed", "out of memory")
    assert "--memory of 600m" in done.stdout
