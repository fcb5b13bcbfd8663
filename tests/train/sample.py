"""The record that the host has written before a run's container starts."""

from samerun.core import record


def sample():
    """Return the record of a run of the digits."""
    image = record.Image(
        reference="samerun@sha256:" + "a" * 64,
        digest="a" * 64,
        digest_kind="manifest",
        layers_digest="sha256:b",
        store="containerd",
        platform="linux/amd64",
        base=record.Base(reference="base@sha256:c", origin="pulled"),
    )
    return record.Run(
        name="r",
        image=image,
        code=record.Code(kind="recipe", target="digits", where="image"),
        command=("digits",),
        arguments=(),
        seed=1,
        topology=record.Topology(gpus="0", procs=1, shm_size="1g"),
        hardware=record.Hardware(cpu="c", cores=1, memory_bytes=1, kernel="k", engine="e"),
        outcome=record.Outcome(created="2026-01-01T00:00:00+00:00"),
    )
