"""Which containers a later command may end."""

from types import SimpleNamespace

from samerun.core import contract
from samerun.host.container import foreground
from samerun.host.container.spec import ContainerSpec


def container(*argv):
    labels = dict(word.removeprefix("--label=").split("=", 1) for word in argv if "--label" in word)
    return SimpleNamespace(labels=labels, attrs={"HostConfig": {"AutoRemove": "--rm" in argv}})


def spec():
    fields = {"image": "i", "user": "1:1", "target": "t", "arguments": (), "procs": 1, "seed": 1}
    return ContainerSpec(run="r", shm_size="1g", mounts=(), detach=False, **fields)


def test_container_that_somebody_else_started_is_not_ours_to_end():
    """SkyPilot's script and people use --rm as well."""
    assert foreground.is_foreground(container(*foreground._marked(spec())))
    assert not foreground.is_foreground(container(*spec().argv()))
    assert contract.LABEL_RUN in container(*spec().argv()).labels
