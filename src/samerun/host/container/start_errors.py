"""What the engine says when it can't start a container, as an error with its remedy."""

import re

from samerun.core.errors import (
    DataError,
    EngineMissing,
    ImageNotFound,
    NoGpu,
    OutputError,
    SamerunError,
    UsageError,
)

TOOLKIT = (
    "Run `invoke setup`, which installs the NVIDIA Container Toolkit; restart the engine if it "
    "is installed. Or train with --gpus 0."
)
CDI = (
    "The CDI specification of the GPUs is missing or out of date. Renew it with `sudo systemctl "
    "restart nvidia-cdi-refresh`, or with `sudo nvidia-ctk cdi generate "
    "--output=/var/run/cdi/nvidia.yaml` after removing older ones from /etc/cdi."
)
CGROUPS = (
    "The toolkit may not change this engine's cgroups, as in a rootless one, which samerun does "
    "not support. Use an engine that runs as root, or --gpus 0."
)
LIST = "`nvidia-smi -L` lists the GPUs that the driver has now; choose one of them."
DRIVER = "Run `nvidia-smi`; after an update of the driver, restart the machine."

# GPUs first, in the words of engines before and from 29 on, then of the toolkit's hooks.
PATTERNS: tuple[tuple[str, type[SamerunError], str], ...] = (
    ("could not select device driver|failed to discover GPU vendor", NoGpu, TOOLKIT),
    ("(?i)CDI device|CDI registry|CDI host device|CDI spec", NoGpu, CDI),
    ("bpf_prog_query|failed to add device rules", NoGpu, CGROUPS),
    ("unknown device|device error", NoGpu, LIST),
    ("nvidia-container|nvidia-cdi-hook|nvidia-ctk|libnvidia", NoGpu, DRIVER),
    ("running (prestart |createRuntime |createContainer )?hook", NoGpu, DRIVER),
    ("No such image", ImageNotFound, "Build it with `invoke build`."),
    (
        "bind source path does not exist",
        DataError,
        "Check that the folder still exists, then try again.",
    ),
    ("network .* not found", UsageError, "List them with `docker network ls`."),
    ("is already in use by container", UsageError, "Choose another --name."),
    ("no space left on device", OutputError, "Free space on the engine's disk."),
    (
        r"(?i)unknown flag|invalid|conflicting options|minimum memory|range of CPUs|runtime name",
        UsageError,
        "Check --memory, --shm-size, --network and --docker-arg.",
    ),
)


def explain(text: str) -> SamerunError:
    """Return the error for *text*, in which a hook's own message is not on the first line."""
    lines = text.strip().splitlines() or ["no message"]
    for pattern, error, remedy in PATTERNS:
        line = next((line for line in lines if re.search(pattern, line)), None)
        if line is not None:
            return error(f"The container can't start: {line.strip()}", remedy)
    return EngineMissing(
        f"The container can't start: {lines[0]}", "Run `invoke doctor` to check the engine."
    )
