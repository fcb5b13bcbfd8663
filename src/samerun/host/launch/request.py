"""The options of `invoke train`, and their checks."""

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from samerun.core import checkpoint_policy, contract, data_names, placement, user_variables
from samerun.core.errors import UsageError
from samerun.core.placement import DEFAULT_TIMEOUT_S, NodePlacement
from samerun.host.checkout.project import Cuda
from samerun.host.container import docker_args
from samerun.host.container.spec import PIDS_LIMIT
from samerun.host.machine import network
from samerun.host.tracking.tags import check_tag, split_tags

# Measured on 2 cores: a recipe in two processes has 28 tasks, including W&B's service.
LEAST_PIDS = 64
# Options that `summary.again` takes from the record, and those of one start only.
AS_DATA = frozenset(
    {"target", "arguments", "gpus", "procs", "data", "follow_links", "seed", "cuda", "env", "fast"}
    | {"nodes", "node_rank", "rdzv", "name", "resume", "dry"}
)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options of `invoke train`; *given* names those on the command line."""

    given: frozenset[str] = frozenset()
    arguments: tuple[str, ...] = ()
    target: Annotated[
        str,
        "a recipe (see `invoke recipes`) or the path of your own .py script; its flags go after --",
    ] = "digits"
    gpus: Annotated[
        str | None,
        "a number, all, device=0,1 (indices or UUIDs, docs/gpus.md), or 0 for the CPU; default: "
        "all, or the CPU if there is none",
    ] = None
    procs: Annotated[int | None, "processes; default: one per GPU, or one on the CPU"] = None
    data: Annotated[
        tuple[str, ...],
        "folder with data, mounted read-only as /data; NAME=FOLDER as /data/NAME; may be repeated",
    ] = ()
    follow_links: Annotated[
        bool, "also mount what links in the data lead to, if it is outside of its folder"
    ] = False
    output: Annotated[str, "parent of the run's folder"] = "runs"
    project: Annotated[str | None, "W&B project"] = None
    entity: Annotated[str | None, "W&B entity (user or team)"] = None
    name: Annotated[
        str | None, "name of the run, also in W&B; default: the target's name and the time"
    ] = None
    tags: Annotated[str | None, "W&B tags, a,b; the image's digest is added"] = None
    seed: Annotated[int, "seed of all random generators"] = contract.DEFAULT_SEED
    shm_size: Annotated[
        str | None,
        "shared memory for loaders and NCCL, e.g. 8g; default: 2 to 4 GB per process, by cores",
    ] = None
    api_key_file: Annotated[
        str | None, "file with the W&B key; default: WANDB_API_KEY, then ~/.netrc"
    ] = None
    with_: Annotated[
        tuple[str, ...],
        "a Python package to add to the image, as in --with timm or --with 'timm>=1'; may be "
        "repeated (docs/projects.md)",
    ] = ()
    project_dir: Annotated[
        str | None,
        "the project's folder, which goes into the image; default: the nearest above the script "
        "with samerun.toml, pyproject.toml, requirements.txt or .git",
    ] = None
    mount_code: Annotated[bool, "mount the project's folder instead of adding it to the image"] = (
        False
    )
    image: Annotated[
        str | None, "run in exactly this image; NAME@sha256:… is pulled if it is not local"
    ] = None
    cuda: Annotated[Cuda, "CUDA release of the image: 13, 12 or none"] = "13"
    network: Annotated[
        str | None,
        "Docker network of the container; default: none if nothing needs one, else one with "
        "outgoing access only (docs/security.md)",
    ] = None
    no_network: Annotated[bool, "no network at all; W&B records offline"] = False
    memory: Annotated[
        str | None, "limit, e.g. 8g, or 0 for none; default: 90 % of this machine's memory"
    ] = None
    pids_limit: Annotated[int, "maximum number of processes and threads"] = PIDS_LIMIT
    env: Annotated[
        tuple[str, ...],
        "a plain setting for the training, NAME=VALUE; may be repeated; recorded, so no secrets "
        "(docs/contract.md)",
    ] = ()
    docker_arg: Annotated[
        tuple[str, ...],
        "an allowed flag of `docker run`, as in --docker-arg=--cpus=2; may be repeated "
        "(docs/security.md)",
    ] = ()
    nodes: Annotated[
        str,
        "machines that train together; run this on each. MIN:MAX: continue while at least MIN "
        "nodes remain",
    ] = "1"
    node_rank: Annotated[
        int, "rank of this machine, from 0; node 0 has the W&B run and the results"
    ] = 0
    rdzv: Annotated[str | None, "HOST:PORT of node 0, the same on every node"] = None
    rdzv_timeout: Annotated[int, "seconds to wait for the other nodes"] = DEFAULT_TIMEOUT_S
    fast: Annotated[bool, "turn off the expensive determinism settings; the record says so"] = False
    stop_on_nan: Annotated[
        bool, "end the training with exit code 111 if the loss is not finite"
    ] = False
    checkpoints: Annotated[str, "when to write checkpoints and how many to keep, or off"] = (
        contract.DEFAULT_CHECKPOINTS
    )
    resume: Annotated[str | None, "resume this run (name or folder) from its last checkpoint"] = (
        None
    )
    restarts: Annotated[
        int, "restart automatically after an interruption, at most this many times"
    ] = 0
    dry: Annotated[bool, "print the command without running it"] = False

    @cached_property
    def place(self) -> NodePlacement:
        """
        The placement of this machine among the nodes.

        Raises:
            UsageError: ``--nodes`` is neither a number nor MIN:MAX.
        """
        least, count = placement.parse(self.nodes)
        return NodePlacement(
            count=count,
            least=least,
            rank=self.node_rank,
            endpoint=self.rdzv or "",
            timeout_s=self.rdzv_timeout,
        )

    def gpus_or_cpu(self) -> str | None:
        """Return the value of --gpus; the default is ``0`` for the CPU-only image."""
        return "0" if self.gpus is None and self.cuda == "none" else self.gpus

    @property
    def is_script(self) -> bool:
        """Whether the target is a script, not a recipe."""
        return self.target.endswith(".py")

    def command(self) -> tuple[str, ...]:
        """Return the target and its arguments."""
        return (self.target, *self.arguments)

    def other_options(self) -> tuple[str, ...]:
        """Return the given options, as typed, that the record does not hold as data."""
        words: list[str] = []
        for name in sorted(self.given - AS_DATA):
            flag, value = "--" + name.rstrip("_").replace("_", "-"), getattr(self, name)
            if value is True:
                words.append(flag)
            elif value is not False and value is not None:
                values = value if isinstance(value, tuple) else (value,)
                # As one word, because a value may begin with a dash.
                words += [f"{flag}={one}" for one in values]
        return tuple(words)

    def wandb_settings(self) -> dict[str, str]:
        """Return W&B's variables: from the host, overridden by the options."""
        settings = {n: os.environ[n] for n in contract.FORWARDED if os.environ.get(n, "").strip()}
        explicit = {
            "WANDB_PROJECT": self.project,
            "WANDB_ENTITY": self.entity,
            "WANDB_NAME": self.name,
            # Without a network, W&B would retry for minutes. A disabled run stays disabled.
            "WANDB_MODE": self._offline_mode(),
        }
        return settings | {name: value for name, value in explicit.items() if value}

    def variables(self) -> dict[str, str]:
        """Return the user's variables: the host's settings of NCCL and CUDA, then --env's."""
        given = user_variables.parse(self.env)
        return user_variables.forwarded(os.environ) | user_variables.listed(given)

    def proxies(self) -> dict[str, str]:
        """Return the host's proxies without those that contain a login, which is a secret."""
        return network.proxies()

    def _offline_mode(self) -> str | None:
        if not self.no_network or os.environ.get("WANDB_MODE") == "disabled":
            return None
        return "offline"


def _check_data(request: Request) -> None:
    data_names.parse(request.data)
    if request.follow_links and not request.data and request.resume is None:
        raise UsageError("--follow-links was given without --data.", "Omit it, or give --data.")


def check_request(request: Request) -> None:
    """
    Refuse what is invalid without contacting an engine.

    Raises:
        UsageError, TagError: A value is invalid; the message holds the value and the rule.
    """
    for tag in split_tags(request.tags):
        check_tag(tag)
    if request.procs is not None and request.procs < 1:
        raise UsageError(f"Invalid value for --procs: {request.procs}.", "Use 1 or more.")
    if not 0 <= request.seed < 2**32:
        raise UsageError(f"--seed {request.seed} is out of range.", "Use 0 to 4294967295.")
    if request.shm_size is not None and not re.fullmatch(r"[0-9]+[bkmgBKMG]?", request.shm_size):
        raise UsageError(
            f"Invalid size for --shm-size: {request.shm_size!r}.", "Use e.g. 512m or 2g."
        )
    placement.check_placement(request.place)
    if request.place.count > 1 and request.no_network:
        raise UsageError(
            "--no-network and --nodes exclude each other.",
            "Omit --no-network: nodes need a network to train together.",
        )
    _check_limits(request)
    _check_data(request)
    checkpoint_policy.Policy.read(request.checkpoints)
    if request.restarts < 0:
        raise UsageError(f"--restarts {request.restarts} is negative.", "Use 0 or more.")
    docker_args.parse(request.docker_arg)
    user_variables.parse(request.env)
    if request.name is not None and not NAME.fullmatch(request.name):
        raise UsageError(
            f"Invalid value for --name: {request.name!r}.",
            "Use up to 100 letters, digits, - _ and dots, starting with a letter or digit.",
        )


def _check_limits(request: Request) -> None:
    if request.pids_limit < LEAST_PIDS:
        raise UsageError(
            f"--pids-limit {request.pids_limit} is too small.",
            f"Use at least {LEAST_PIDS}, which Python, torch and W&B need; threads count too.",
        )
    if request.memory is not None and not re.fullmatch(r"[0-9]+[bkmgBKMG]?", request.memory):
        raise UsageError(
            f"Invalid size for --memory: {request.memory!r}.", "Use e.g. 8g, or 0 for no limit."
        )
    if request.no_network and request.network:
        raise UsageError("--network and --no-network exclude each other.", "Give only one.")
    if request.network is not None and not NAME.fullmatch(request.network):
        raise UsageError(
            f"Invalid value for --network: {request.network!r}.",
            "Use a name from `docker network ls`, or none.",
        )


def all_tags(request: Request, digest: str) -> tuple[str, ...]:
    """Return the user's tags (options, else WANDB_TAGS), then the image's digest."""
    names = split_tags(request.tags or os.environ.get("WANDB_TAGS") or None)
    for name in names:
        check_tag(name)
    return (*(name for name in names if name != digest), digest)


def script_path(request: Request) -> Path:
    """Return the path of the user's script."""
    return Path(request.target).expanduser()
