"""What commands that were killed left behind: containers with a key, and key files."""

from pathlib import Path
from typing import TYPE_CHECKING

from samerun.host.container import foreground, process
from samerun.host.run import folders, recover
from samerun.host.tracking import keys

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container


def remove(client: "DockerClient") -> None:
    """
    Remove the containers of killed uploads, and the key files that no container uses.

    The container of a training outlives its command, and keeps its key file.
    """
    in_use = set()
    for container in recover.containers(client):
        if foreground.is_foreground(container) and not _is_followed(container):
            process.remove(container)
        else:
            in_use |= {Path(mount.get("Source", "")) for mount in container.attrs["Mounts"]}
    keys.remove_leftovers(in_use)


def _is_followed(container: "Container") -> bool:
    """Whether the command that started *container* lives: it has the run's folder locked."""
    folder = recover.output_of(container)
    try:
        return folder is not None and folders.is_held(folder)
    except FileNotFoundError:
        return False
    except OSError:  # It is another user's.
        return True
