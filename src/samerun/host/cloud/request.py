"""What a user asked `invoke cloud` for, checked; everything that the files are made of."""

import re
from dataclasses import dataclass, field
from typing import Literal

from samerun import contract
from samerun.errors import UsageError

Engine = Literal["sky", "k8s", "vm"]
ENGINES: tuple[Engine, ...] = ("sky", "k8s", "vm")
# Kubernetes' rule for names, the strictest of all; room is left for what is appended.
NAME = re.compile(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?")
PLACE = re.compile(r"(?P<kind>s3|gs|pvc)://(?P<name>[A-Za-z0-9][\w.-]*)(/(?P<path>.*))?")
GPUS = re.compile(r"((?P<name>[A-Za-z][\w.-]*):)?(?P<number>\d+)|(?P<alone>[A-Za-z][\w.-]*)")
# Started again after 75, a run goes on from the last of these.
CHECKPOINTS = "epochs=1,batches=0,minutes=10,keep=2"
RENDEZVOUS_PORT = 29400


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """GPUs of each machine; *name* as the engine calls them, empty: whatever there is."""

    name: str = ""
    number: int = 0


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where data or outputs lie: a bucket (s3, gs), a cluster's volume (pvc), or a path."""

    kind: Literal["s3", "gs", "pvc", "path"]
    name: str
    path: str = ""

    @property
    def url(self) -> str:
        """The place as it was given."""
        if self.kind == "path":
            return self.name
        return f"{self.kind}://{self.name}" + (f"/{self.path}" if self.path else "")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One run elsewhere; *image* is ``NAME@sha256:…`` and *settings* W&B's, without the key."""

    engine: Engine
    image: str
    target: str
    arguments: tuple[str, ...] = ()
    gpus: Gpus = Gpus()
    nodes: int = 1
    procs: int = 1
    spot: bool = False
    data: Place | None = None
    output: Place | None = None
    name: str
    seed: int = contract.DEFAULT_SEED
    shm_size: str = "16g"
    tags: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    offline: bool = False
    commit: str | None = None
    # A VM alone: where the kit is cloned from, what logs Docker in, what prints the key there.
    source: str | None = None
    login_command: str | None = None
    key_command: str | None = None

    @property
    def digest(self) -> str:
        """The image's 64 hexadecimal digits."""
        return self.image.rpartition("sha256:")[2]

    def entry(self) -> list[str]:
        """Return the arguments of the image's entry."""
        options = ["--procs", str(self.procs), "--seed", str(self.seed)]
        return [*options, self.target, *self.arguments]

    def environment(self) -> dict[str, str]:
        """Return the container's variables, as far as they are the same on every machine."""
        values = {
            **self.settings,
            "WANDB_NAME": self.name,
            "WANDB_DOCKER": self.image,
            "WANDB_TAGS": ",".join((*self.tags, self.digest)),
            contract.ENV_IMAGE: self.image,
            contract.ENV_RUN: self.name,
            contract.ENV_COMMIT: self.commit or "",
            contract.ENV_CHECKPOINTS: CHECKPOINTS,
            contract.ENV_DATA: contract.DATA if self.data else "",
        }
        if self.offline:
            values |= {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
        if self.nodes > 1:
            # Every interface but these two: NCCL else may choose a bridge that leads nowhere.
            values["NCCL_SOCKET_IFNAME"] = "^lo,docker"
        return {name: value for name, value in values.items() if value}


def parse_gpus(text: str | None) -> Gpus:
    """
    Read ``A100:8``, ``A100`` or ``8``; None is no GPU.

    Raises:
        UsageError: It is none of these.
    """
    found = GPUS.fullmatch(text or "0")
    if not found:
        raise UsageError(f"--gpus {text!r} names no GPUs.", "Use e.g. A100:8, L4 or 1; 0: the CPU.")
    if found["alone"]:
        return Gpus(name=found["alone"], number=1)
    number = int(found["number"])
    return Gpus(name=(found["name"] or "") if number else "", number=number)


def parse_place(option: str, text: str | None) -> Place | None:
    """
    Read ``s3://bucket/path``, ``gs://…``, ``pvc://claim/path`` or a path.

    Raises:
        UsageError: It looks like an address and is none of these.
    """
    if not text:
        return None
    found = PLACE.fullmatch(text)
    if found:
        kind: Literal["s3", "gs", "pvc"] = found["kind"]  # type: ignore[assignment]
        return Place(kind=kind, name=found["name"], path=(found["path"] or "").strip("/"))
    if "://" in text:
        raise UsageError(
            f"{option} {text!r} is no place that can be mounted.",
            "Use s3://BUCKET/PATH, gs://BUCKET/PATH, pvc://CLAIM/PATH (Kubernetes) or a path.",
        )
    return Place(kind="path", name=text)


def check(asked: Asked) -> None:
    """
    Refuse what can be seen to be wrong without asking anybody.

    Raises:
        UsageError: With the value and the rule.
    """
    if not NAME.fullmatch(asked.name):
        raise UsageError(
            f"--name {asked.name!r} can't name a job.",
            "Use up to 50 small letters, digits and dashes, a letter first.",
        )
    if asked.nodes < 1 or asked.procs < 1:
        raise UsageError("--nodes and --procs are 1 or more.", "")
    if asked.nodes > 1 and asked.engine == "vm":
        raise UsageError(
            f"A file for a VM starts one machine, not {asked.nodes}.",
            "`invoke cloud sky` or `invoke cloud k8s` bring several together.",
        )
    if asked.target.endswith(".py") and not asked.target.startswith(f"{contract.CODE}/"):
        raise UsageError(
            f"{asked.target} is a file here; elsewhere there is only what the image holds.",
            f"Train it here once (its folder becomes a layer under {contract.CODE}), push that "
            f"run's image with `invoke push runs/NAME`, and give --image and --recipe "
            f"{contract.CODE}/{asked.target.rpartition('/')[2]}.",
        )
    _check_places(asked)


def _check_places(asked: Asked) -> None:
    for option, place in (("--data", asked.data), ("--output", asked.output)):
        if place and place.kind == "pvc" and asked.engine != "k8s":
            raise UsageError(
                f"{option} {place.url}: only Kubernetes has such volumes.",
                "Use a bucket, s3://… or gs://….",
            )
    if asked.engine == "sky" and (asked.output is None or asked.output.kind == "path"):
        raise UsageError(
            "The machine goes away after the job, and its disk with it.",
            "Give --output s3://BUCKET/PATH or gs://BUCKET/PATH.",
        )
    if asked.engine == "k8s" and asked.output and asked.output.kind in ("s3", "path"):
        raise UsageError(
            f"--output {asked.output.url}: records and checkpoints are renamed into place, "
            "which this can't do or does on one machine only.",
            "Use pvc://CLAIM (or nothing: the file makes a claim) or gs://BUCKET.",
        )
    if asked.engine == "vm" and not asked.source:
        raise UsageError(
            "The VM clones the kit, and this checkout has no remote to clone from.",
            "Give --source https://HOST/NAME.git.",
        )
