import dataclasses
import signal
from pathlib import Path

import pytest

from samerun.core import record

# A shell's background job ignores SIGINT, and all that the tests start would as well.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def project():
    """This checkout."""
    from samerun.host.checkout.project import Project  # The image has no host side.

    return Project(root=Path(__file__).resolve().parents[1])


@pytest.fixture
def image():
    """An image's identity, as containerd's store gives it."""
    return record.Image(
        reference="samerun@sha256:" + "a" * 64,
        digest="a" * 64,
        digest_kind="manifest",
        manifest_digest="sha256:" + "a" * 64,
        layers_digest="sha256:" + "b" * 64,
        store="containerd",
        platform="linux/amd64",
        base=record.Base(reference="base@sha256:" + "c" * 64, origin="bootstrapped"),
        packages={"torch": "2.15.0"},
    )


@pytest.fixture
def run(image):
    """A record as it is before the container starts."""
    return record.Run(
        name="digits-1",
        image=image,
        code=record.Code(kind="recipe", target="digits", where="image"),
        command=("digits", "--epochs", "1"),
        arguments=("docker", "run"),
        seed=1,
        topology=record.Topology(gpus="0", procs=2, shm_size="1g", threads=1),
        data=(
            record.Data(source="/d", target="/data", fingerprint="sha256:1", files=1, size_bytes=2),
        ),
        secrets=("WANDB_API_KEY",),
        hardware=record.Hardware(
            cpu="cpu", cores=2, memory_bytes=3, kernel="6", engine="Docker 26"
        ),
        outcome=record.Outcome(created="2026-01-01T00:00:00.000+00:00"),
    )


@pytest.fixture
def running(run):
    """The same record once the container runs."""
    return dataclasses.replace(run, outcome=dataclasses.replace(run.outcome, state="running"))
