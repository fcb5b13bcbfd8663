"""Checks before writing a file: image can be pulled, GPU is known, the user has access."""

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
# Used if SkyPilot's catalog is not on this machine: the GPUs that clouds commonly offer.
COMMON = (
    *("A10", "A100", "A100-80GB", "A10G", "A6000", "B200", "B300", "GB200", "GH200", "H100"),
    *("H100-80GB", "H200", "L4", "L40", "L40S", "P100", "RTX4090", "RTX6000", "T4", "V100"),
    "V100-32GB",
)
INSTALL = {
    "sky": "Run `pip install 'skypilot[aws]'` (or [gcp], [azure], …), then `sky check`.",
    "kubectl": "Install it from https://kubernetes.io/docs/tasks/tools/, then run "
    "`kubectl get nodes`.",
}
# Commands that show whether this user may start a job.
ACCESS = {
    "sky": ("sky", "check"),
    "kubectl": ("kubectl", "auth", "can-i", "create", "jobs.batch", "--request-timeout=15s"),
}

PUSH = "Push it with `invoke push --registry HOST/NAME`, and pass the printed name as --image."
# kubectl's log lines.
KLOG = re.compile(r"^[EWI]\d{4} .*\n?", re.MULTILINE)
# Both commands exit with 0 even if access is denied. The patterns match SkyPilot's output
# (current, and before 0.8) and kubectl's.
REFUSED = re.compile(
    r"no infra to check/enabled|no cloud is enabled|^no\b", re.IGNORECASE | re.MULTILINE
)


def reference(image: str) -> None:
    """
    Refuse an *image* that no registry can serve, without contacting one.

    Raises:
        UsageError: It has no digest, or contains capital letters.
        NotPullable: It is only on this machine.
    """
    name, _ = registry.split(image)
    path = name.partition("/")[2]
    if not path:
        raise NotPullable(f"{image} has no registry: it is only on this machine.", PUSH)
    if path != path.lower():
        raise UsageError(
            f"Invalid image name: {name!r}. Names in a registry are in lower case.",
            f"Use the name that was pushed, {name.partition('/')[0]}/{path.lower()}@sha256:….",
        )


def pullable(client: "DockerClient", image: str) -> None:
    """
    Check that the registry serves *image* to other machines.

    Raises:
        UsageError: The reference has no digest.
        NotPullable: Other machines can't pull it.
    """
    name, _ = registry.split(image)
    host = name.split("/")[0]
    if not references.has_host(image):
        raise NotPullable(f"{image} has no registry: it is only on this machine.", PUSH)
    if LOOPBACK.fullmatch(host):
        raise NotPullable(f"The registry {host} is this machine; others can't reach it.", PUSH)
    served = registry.ask(client, image)
    if served is False:
        raise NotPullable(
            f"The registry {host} does not serve {image}.",
            f"Push it with `invoke push --registry {name}`.",
        )
    if served is None:
        raise NotPullable(
            f"It is unknown whether the registry {host} serves {image}: it did not respond, "
            "or requires a login.",
            f"Log in (`docker login {host}`) and push it (`invoke push --registry {name}`), or "
            "pass --no-check.",
        )


def known_accelerators(engine: str, catalog: Path = CATALOG) -> Collection[str]:
    """Return the GPU names of *engine*; for SkyPilot, its catalog if present, else `COMMON`."""
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
    Return a GPU's *name* as spelled in *known*, ignoring case.

    Raises:
        UnknownAccelerator: There is none; the message lists the nearest names.
    """
    by_lower = {k.lower(): k for k in known}
    if not name or name.lower() in by_lower:
        return by_lower.get(name.lower(), "")
    near = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.4)
    hint = f"Nearest: {', '.join(by_lower[n] for n in near)}. " if near else ""
    common = " SkyPilot's full list is not on this machine; download it with `sky gpus list`."
    raise UnknownAccelerator(
        f"Unknown accelerator: {name!r}.",
        f"{hint}All: {', '.join(sorted(known))}.{common if known is COMMON else ''}",
    )


def engine(program: str) -> None:
    """
    Check that *program* is installed and has access to a cloud or cluster.

    Raises:
        CloudEngineMissing: It is not installed.
        NoCredentials: It has no access; the message holds its output.
    """
    if shutil.which(program) is None:
        raise CloudEngineMissing(f"`{program}` is not installed.", INSTALL[program])
    refusal = _run(ACCESS[program])
    if refusal is not None:
        raise NoCredentials(
            f"`{' '.join(ACCESS[program])}` reports no access:\n{refusal}",
            "Log in with your cloud's command-line tool, then run that command again.",
        )


def _run(command: Sequence[str]) -> str | None:
    """Return the last lines of *command*'s output if it fails or reports no access, else None."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    output = KLOG.sub("", f"{done.stdout}\n{done.stderr}").strip()
    if done.returncode == 0 and not REFUSED.search(output):
        return None
    return "\n".join(output.splitlines()[-12:])
