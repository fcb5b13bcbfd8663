"""Ask before writing: is the image there for others, does the engine know the GPU, may we."""

import csv
import difflib
import re
import shutil
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from samerun.core import references
from samerun.core.errors import (
    CloudEngineMissing,
    NoCredentials,
    NotPullable,
    UnknownAccelerator,
    UsageError,
)
from samerun.host.cloud.labels import GPU_LABELS
from samerun.host.image import registry

if TYPE_CHECKING:
    from docker import DockerClient

CATALOG = Path("~/.sky/catalogs")
LOOPBACK = re.compile(r"(localhost|127\.[\d.]+|\[::1\])(:\d+)?")
# Where SkyPilot's catalog is not on this machine: the ones that clouds let most.
COMMON = (
    *("A10", "A100", "A100-80GB", "A10G", "A6000", "B200", "B300", "GB200", "GH200", "H100"),
    *("H100-80GB", "H200", "L4", "L40", "L40S", "P100", "RTX4090", "RTX6000", "T4", "V100"),
    "V100-32GB",
)
INSTALL = {
    "sky": "pip install 'skypilot[aws]' (or [gcp], [azure], …), then `sky check`.",
    "kubectl": "See https://kubernetes.io/docs/tasks/tools/, then `kubectl get nodes`.",
}
# What tells whether this user may start anything at all.
ACCESS = {
    "sky": ("sky", "check"),
    "kubectl": ("kubectl", "auth", "can-i", "create", "jobs.batch", "--request-timeout=15s"),
}

PUSH = "Push it: `invoke push --registry HOST/NAME`, and give what that prints as --image."
# kubectl's own diary.
KLOG = re.compile(r"^[EWI]\d{4} .*\n?", re.MULTILINE)
# Both end with 0 where nothing may be started: SkyPilot's words (of today, and before 0.8),
# and kubectl's.
REFUSED = re.compile(
    r"no infra to check/enabled|no cloud is enabled|^no\b", re.IGNORECASE | re.MULTILINE
)


def reference(image: str) -> None:
    """
    Refuse an *image* that no registry can serve, asking none.

    Raises:
        UsageError: It names no digest, or has capitals.
        NotPullable: It is on this machine alone; with how to push.
    """
    name, _ = registry.split(image)
    path = name.partition("/")[2]
    if not path:
        raise NotPullable(f"{image} names no registry: it is only on this machine.", PUSH)
    if path != path.lower():
        raise UsageError(
            f"No registry has an image {name}: names are in small letters.",
            f"Give it as it was pushed, {name.partition('/')[0]}/{path.lower()}@sha256:….",
        )


def pullable(client: "DockerClient", image: str) -> None:
    """
    Ask the registry for *image*, as a machine elsewhere will.

    Raises:
        UsageError: The reference names no digest.
        NotPullable: Nobody else can get it there, with the registry and how to push.
    """
    name, _ = registry.split(image)
    host = name.split("/")[0]
    if not references.has_host(image):
        raise NotPullable(f"{image} names no registry: it is only on this machine.", PUSH)
    if LOOPBACK.fullmatch(host):
        raise NotPullable(f"The registry {host} is this machine; others can't reach it.", PUSH)
    served = registry.ask(client, image)
    if served is False:
        raise NotPullable(
            f"The registry {host} does not serve {image}.",
            f"Push it: `invoke push --registry {name}`.",
        )
    if served is None:
        raise NotPullable(
            f"The registry {host} did not say whether it serves {image}: it can't be reached "
            "from here, or wants a login.",
            f"Log in (`docker login {host}`) and push it (`invoke push --registry {name}`), or "
            "pass --no-check.",
        )


def known_accelerators(engine: str, catalog: Path = CATALOG) -> Collection[str]:
    """Return what *engine* calls GPUs: SkyPilot's own catalog where it is, else the common."""
    if engine == "k8s":
        return GPU_LABELS
    tables = list(catalog.expanduser().glob("v*/common/accelerators.csv"))
    if not tables:
        return COMMON
    newest = max(tables, key=lambda path: int(re.sub(r"\D", "", path.parts[-3]) or 0))
    with newest.open(encoding="utf-8", newline="") as file:
        return {row["AcceleratorName"] for row in csv.DictReader(file)}


def accelerator(name: str, known: Collection[str]) -> str:
    """
    Return a GPU's *name* as it stands among *known*, however it was capitalized.

    Raises:
        UnknownAccelerator: With the nearest names.
    """
    by_small = {k.lower(): k for k in known}
    if not name or name.lower() in by_small:
        return by_small.get(name.lower(), "")
    near = difflib.get_close_matches(name.lower(), by_small, n=3, cutoff=0.4)
    hint = f"Nearest: {', '.join(by_small[n] for n in near)}. " if near else ""
    common = " SkyPilot's own list is not on this machine; `sky gpus list` fetches it."
    raise UnknownAccelerator(
        f"No accelerator is called {name!r}.",
        f"{hint}All: {', '.join(sorted(known))}.{common if known is COMMON else ''}",
    )


def engine(program: str) -> None:
    """
    Refuse to launch without *program*, or without access to what it drives.

    Raises:
        CloudEngineMissing: It is not installed.
        NoCredentials: It has no access; with what it says itself.
    """
    if shutil.which(program) is None:
        raise CloudEngineMissing(f"`{program}` is not installed.", INSTALL[program])
    said = _run(ACCESS[program])
    if said is not None:
        raise NoCredentials(
            f"`{' '.join(ACCESS[program])}` finds no access:\n{said}",
            "Log in to the cloud with its own command, then run that line again.",
        )


def _run(command: Sequence[str]) -> str | None:
    """Return the last lines of what *command* says if it fails or grants nothing, else None."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = KLOG.sub("", f"{done.stdout}\n{done.stderr}").strip()
    refused = REFUSED.search(said)
    if done.returncode == 0 and not refused:
        return None
    return "\n".join(said.splitlines()[-12:])
