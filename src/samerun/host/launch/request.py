"""What a user asked `invoke train` for, checked."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from samerun.core import contract, placement
from samerun.core.errors import UsageError
from samerun.core.placement import ALONE, Place
from samerun.host import checkpoints
from samerun.host.container import docker_args
from samerun.host.container.spec import PIDS_LIMIT
from samerun.host.tracking.tags import check_tag, split_tags

# Measured on 2 cores: a recipe in two processes has 28 tasks, W&B's service among them.
LEAST_PIDS = 64
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options of `invoke train`, as given."""

    target: str = "digits"
    arguments: tuple[str, ...] = ()
    gpus: str | None = None
    procs: int | None = None
    data: str | None = None
    output: str = "runs"
    project: str | None = None
    entity: str | None = None
    name: str | None = None
    tags: tuple[str, ...] = ()
    seed: int = contract.DEFAULT_SEED
    shm_size: str = "2g"
    api_key_file: str | None = None
    mount_code: bool = False
    image: str | None = None
    cuda: str = "13"
    network: str | None = None
    no_network: bool = False
    pids_limit: int = PIDS_LIMIT
    memory: str | None = None
    docker_args: tuple[str, ...] = ()
    place: Place = ALONE
    fast: bool = False
    stop_on_nan: bool = False
    checkpoints: str = checkpoints.DEFAULT
    restarts: int = 0
    resume: str | None = None

    def gpus_or_cpu(self) -> str | None:
        """Return what was asked of GPUs; the CPU-only image asks for none by itself."""
        return "0" if self.gpus is None and self.cuda == "none" else self.gpus

    @property
    def is_script(self) -> bool:
        """Whether the target is a file of the user's, not a recipe."""
        return self.target.endswith(".py")

    def command(self) -> tuple[str, ...]:
        """Return what was typed after `invoke train`: target, then its own arguments."""
        return (self.target, *self.arguments)

    def wandb_settings(self) -> dict[str, str]:
        """Return W&B's variables: the host's, overridden by the options."""
        settings = {n: os.environ[n] for n in contract.FORWARDED if os.environ.get(n, "").strip()}
        given = {
            "WANDB_PROJECT": self.project,
            "WANDB_ENTITY": self.entity,
            "WANDB_NAME": self.name,
            # W&B would try for minutes; a run that shall not be logged at all stays so.
            "WANDB_MODE": self._offline_mode(),
        }
        return settings | {name: value for name, value in given.items() if value}

    def switches(self) -> dict[str, str]:
        """Return the variables of checkpoints and determinism that the container is given."""
        values = {
            contract.ENV_CHECKPOINTS: checkpoints.parse(self.checkpoints),
            contract.ENV_FAST: "1" if self.fast else "",
            contract.ENV_STOP_ON_NAN: "1" if self.stop_on_nan else "",
        }
        return {name: value for name, value in values.items() if value}

    def _offline_mode(self) -> str | None:
        if not self.no_network or os.environ.get("WANDB_MODE") == "disabled":
            return None
        return "offline"


def check(request: Request) -> None:
    """
    Refuse what can be seen to be wrong without an engine.

    Raises:
        UsageError, TagError: With the value and the rule.
    """
    for tag in request.tags:
        check_tag(tag)
    if request.procs is not None and request.procs < 1:
        raise UsageError(f"--procs {request.procs} is not a number of processes.", "Use 1 or more.")
    if request.seed < 0:
        raise UsageError(f"--seed {request.seed} is negative.", "Use 0 or more.")
    if not re.fullmatch(r"\d+[bkmgBKMG]?", request.shm_size):
        raise UsageError(f"--shm-size {request.shm_size!r} is no size.", "Use e.g. 512m or 2g.")
    placement.check(request.place)
    if request.place.count > 1 and request.no_network:
        raise UsageError("--no-network and --nodes exclude each other.", "Nodes have to talk.")
    _check_limits(request)
    checkpoints.parse(request.checkpoints)
    if request.restarts < 0:
        raise UsageError(f"--restarts {request.restarts} is negative.", "Use 0 or more.")
    docker_args.parse(request.docker_args)
    if request.name is not None and not NAME.fullmatch(request.name):
        raise UsageError(
            f"--name {request.name!r} can't name a folder.", "Use letters, digits, - _ and dots."
        )


def _check_limits(request: Request) -> None:
    if request.pids_limit < LEAST_PIDS:
        raise UsageError(
            f"--pids-limit {request.pids_limit} is too small.",
            f"Python, torch and W&B alone need {LEAST_PIDS}; threads count too.",
        )
    if request.memory is not None and not re.fullmatch(r"[0-9]+[bkmgBKMG]?", request.memory):
        raise UsageError(f"--memory {request.memory!r} is no size.", "Use e.g. 8g, or 0: no limit.")
    if request.no_network and request.network:
        raise UsageError("--network and --no-network exclude each other.", "Give one.")
    if request.network is not None and not NAME.fullmatch(request.network):
        raise UsageError(
            f"--network {request.network!r} is no network's name.",
            "Use one of `docker network ls`, or none.",
        )


def all_tags(request: Request, digest: str) -> tuple[str, ...]:
    """Return the user's tags (options, else WANDB_TAGS), then the image's digest."""
    tags = request.tags or split_tags(os.environ.get("WANDB_TAGS") or None)
    for tag in tags:
        check_tag(tag)
    return (*(tag for tag in tags if tag != digest), digest)


def script_path(request: Request) -> Path:
    """Return the path of the user's script."""
    return Path(request.target).expanduser()
