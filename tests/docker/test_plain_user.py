"""
A plain user of the group docker: with a key, from a checkout of that user.

On Debian 12 by its Python 3.11.2, which is the oldest that samerun claims to work with.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import pytest
from driving import HERE, ROOT, environment
from packaging.requirements import Requirement
from test_secrets import KEY, grep, server

from samerun.core import record
from samerun.host.checkout.project import INPUTS

__all__ = ["server"]  # A fixture, used below.

UID = 54321
PYTHONS = (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
SOCKET = Path("/var/run/docker.sock")


@pytest.fixture
def home():
    """A folder of the user, which holds a copy of this checkout; pytest's own are root's."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; as a plain user all tests are this one")
    if not SOCKET.exists() or not SOCKET.stat().st_gid:
        pytest.skip("the engine's socket has no group of its own")
    folder = Path(tempfile.mkdtemp(prefix="samerun-plain-user-"))
    checkout = folder / "checkout"
    for name in (*INPUTS, "tasks.py", "src/samerun/cli", "src/samerun/host"):
        source, target = ROOT / name, checkout / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        copy(source, target, **({"dirs_exist_ok": True} if source.is_dir() else {}))
    for path in installed("samerun"):
        target = folder / "packages" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path.locate(), target)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, UID, UID)
    yield folder
    shutil.rmtree(folder)


def as_user(home, python, *words, **changes):
    """Run a command as the user, who is in the group of the engine's socket."""
    path = os.pathsep.join((str(home / "checkout" / "src"), str(home / "packages")))
    variables = {"HOME": str(home), "PYTHONPATH": path, **changes}
    return subprocess.run(
        [python, *map(str, words)],
        cwd=home / "checkout",
        env=environment(**variables),
        user=UID,
        group=UID,
        extra_groups=[SOCKET.stat().st_gid],
        capture_output=True,
        text=True,
        check=False,
    )


def installed(name, seen=frozenset()):
    """Yield the files of the packages that *name* needs, which may lie where only root reads."""
    for line in metadata.requires(name) or ():
        needed = Requirement(line)
        wanted = needed.marker is None or needed.marker.evaluate({"extra": ""})
        if wanted and needed.name not in seen:
            seen |= {needed.name}
            files = metadata.files(needed.name) or ()
            yield from (path for path in files if ".." not in path.parts)
            yield from installed(needed.name, seen)


def a_python(home):
    """Return a Python that the user can start: root's own may lie in root's home."""
    for python in PYTHONS:
        with contextlib.suppress(OSError):
            if as_user(home, python, "-c", "import docker, invoke").returncode == 0:
                return python
    return pytest.skip(f"other users can start none of {', '.join(PYTHONS)}")


def of_keys():
    """Return the folders of keys in memory."""
    return {path for path in Path("/dev/shm").glob("samerun-*") if path.stat().st_uid == UID}


def test_a_plain_user_trains_with_a_key_and_owns_the_results(image, server, home):
    python = a_python(home)
    script = shutil.copytree(HERE / "script", home / "script") / "probe.py"
    train = ["train", script, "--gpus", "0", "--network", "host", "--name", "plain-user"]
    surroundings = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
    done = as_user(home, python, "-m", "invoke", *train, "--", "--wandb", "t", **surroundings)
    synced = as_user(
        home, python, "-m", "invoke", "sync", "--all", "--network", "host", **surroundings
    )
    listed = as_user(home, python, "-m", "invoke", "runs")

    assert done.returncode == 0, done.stdout + done.stderr
    folder = home / "checkout" / "runs" / "plain-user"
    assert record.read(folder).wandb[0].mode == "online"
    assert {path.lstat().st_uid for path in folder.rglob("*")} == {UID}
    assert synced.returncode == 0, synced.stdout + synced.stderr
    assert "plain-user" in listed.stdout
    assert " finished " in listed.stdout
    assert grep(home) == []
    assert KEY not in done.stdout + done.stderr + synced.stdout + synced.stderr
    assert of_keys() == set()
