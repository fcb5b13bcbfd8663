"""What a user asked `invoke cloud` for, checked; everything that the files are made of."""

import re
from dataclasses import dataclass, field
from typing import Literal

from samerun.core import contract
from samerun.core.errors import NodeLost, UsageError
from samerun.core.variables import Facts, environment, present

Engine = Literal["sky", "k8s", "vm"]
ENGINES: tuple[Engine, ...] = ("sky", "k8s", "vm")
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html and
# https://cloud.google.com/storage/docs/buckets#naming
BUCKETS = {
    "s3": re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
    "gs": re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"),
}
# SkyPilot counts memory in whole gigabytes.
MEMORY = re.compile(r"[1-9]\d*g")
SHM = re.compile(r"[1-9]\d*[kmg]")
# Kubernetes' rule for names, the strictest of all; room is left for what is appended.
NAME = re.compile(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?")
PLACE = re.compile(r"(?P<kind>s3|gs|pvc)://(?P<name>[A-Za-z0-9][\w.-]*)(/(?P<path>.*))?")
GPUS = re.compile(r"((?P<name>[A-Za-z][\w.-]*):)?(?P<number>\d+)|(?P<alone>[A-Za-z][\w.-]*)")


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """GPUs of each machine; *name* as the engine calls them, empty: whatever there is."""

    name: str = ""
    number: int = 0


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where data or outputs lie: a bucket (s3, gs), a cluster's volume (pvc), or a path."""

    kind: Literal["s3", "gs", "pvc", "path"]
    name: str
    path: str = ""

    @property
    def is_somewhere(self) -> bool:
        """Whether it means the same wherever it is read."""
        return self.kind != "path" or self.name.startswith("/")

    @property
    def url(self) -> str:
        """The place as it was given."""
        if self.kind == "path":
            return self.name
        return f"{self.kind}://{self.name}" + (f"/{self.path}" if self.path else "")


@dataclass(frozen=True, kw_only=True)
class CloudRequest:
    """One run elsewhere; *image* is ``NAME@sha256:…`` and *settings* W&B's, without the key."""

    engine: Engine
    image: str
    target: str
    arguments: tuple[str, ...] = ()
    gpus: Gpus = Gpus()
    # Of each machine: at least so many, and so much (``32g``); None: as the engine likes.
    cpus: int | None = None
    memory: str | None = None
    nodes: int = 1
    procs: int = 1
    spot: bool = False
    data: Location | None = None
    output: Location | None = None
    name: str
    seed: int = contract.DEFAULT_SEED
    shm_size: str = "16g"
    tags: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    offline: bool = False
    commit: str | None = None
    dirty: bool = False
    fingerprint: bool = True
    # Kubernetes alone: an account of the cluster's own, and a Secret with a registry's login.
    account: str | None = None
    pull_secret: str | None = None
    # A VM alone: where the kit is cloned from, what logs Docker in, what prints the key there.
    source: str | None = None
    login_command: str | None = None
    key_command: str | None = None

    @property
    def digest(self) -> str:
        """The image's 64 hexadecimal digits."""
        return self.image.rpartition("sha256:")[2]

    @property
    def again(self) -> tuple[int, ...]:
        """Exit codes after which the training goes on when it is started again."""
        lost = (NodeLost.exit_code,) if self.nodes > 1 else ()
        return (contract.EXIT_PREEMPTED, *lost)

    def entry(self) -> list[str]:
        """Return the arguments of the image's entry."""
        options = ["--procs", str(self.procs), "--seed", str(self.seed)]
        return [*options, self.target, *self.arguments]

    def environment(self) -> dict[str, str]:
        """Return the container's variables, as far as they are the same on every machine."""
        offline = {"WANDB_MODE": "offline"} if self.offline else {}
        facts = Facts(
            image=self.image,
            tags=(*self.tags, self.digest),
            forwarded={**self.settings, "WANDB_NAME": self.name, **offline},
            online=not self.offline,
            has_data=self.data is not None,
            checkpoints=contract.DEFAULT_CHECKPOINTS,
        )
        values = environment(facts) | {
            contract.ENV_IMAGE: self.image,
            contract.ENV_RUN: self.name,
            contract.ENV_COMMIT: (self.commit or "") + ("-dirty" if self.dirty else ""),
            contract.ENV_SOURCE: self.data.url if self.data else "",
            contract.ENV_FINGERPRINT: "" if self.fingerprint else "0",
        }
        if self.nodes > 1:
            # Every interface but these two: NCCL else may choose a bridge that leads nowhere.
            values["NCCL_SOCKET_IFNAME"] = "^lo,docker"
        return present(values)


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
    if found["name"] and not number:
        raise UsageError(f"--gpus {text!r}: that is none.", "Use 0, or nothing, for the CPU.")
    return Gpus(name=found["name"] or "", number=number)


def parse_place(option: str, text: str | None) -> Location | None:
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
        return Location(kind=kind, name=found["name"], path=(found["path"] or "").strip("/"))
    if re.match(r"\w+:/", text):
        raise UsageError(
            f"{option} {text!r} is no place that can be mounted.",
            "Use s3://BUCKET/PATH, gs://BUCKET/PATH, pvc://CLAIM/PATH (Kubernetes) or a path.",
        )
    return Location(kind="path", name=text)


def check_cloud_request(asked: CloudRequest) -> None:
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
        raise UsageError(
            f"--nodes {asked.nodes}, --procs {asked.procs}: both are 1 or more.",
            "Leave them out for one machine, and one process per GPU.",
        )
    if asked.engine != "k8s" and (asked.account or asked.pull_secret):
        raise UsageError(
            "--service-account and --pull-secret: only Kubernetes has them.",
            "docs/cloud.md says how the other engines log in to a registry.",
        )
    _check_machine(asked)
    _check_pod_names(asked)
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
    if asked.engine == "vm" and not asked.fingerprint:
        raise UsageError(
            "--no-fingerprint: a VM runs `invoke train`, which always takes one.",
            "Leave it out.",
        )
    _check_places(asked)


def _check_machine(asked: CloudRequest) -> None:
    if asked.cpus is not None and asked.cpus < 1:
        raise UsageError(f"--cpus {asked.cpus}: no machine has so few.", "Use 1 or more.")
    if asked.memory is not None and not MEMORY.fullmatch(asked.memory):
        raise UsageError(f"--memory {asked.memory!r} is no size.", "Use gigabytes, as in 32g.")
    if not SHM.fullmatch(asked.shm_size):
        raise UsageError(f"--shm-size {asked.shm_size!r} is no size.", "Use e.g. 512m or 2g.")
    if asked.engine == "vm" and (asked.cpus or asked.memory):
        raise UsageError(
            "--cpus and --memory: a VM is made by its provider, and has what its type has.",
            "Give the machine's type to the provider's command.",
        )


def _check_pod_names(asked: CloudRequest) -> None:
    """JobSet makes NAME-node-0-RANK-abcde of it, and makes no pod where that is too long."""
    longest = 63 - len(f"-node-0-{asked.nodes - 1}-abcde")
    if asked.engine == "k8s" and asked.nodes > 1 and len(asked.name) > longest:
        raise UsageError(
            f"--name {asked.name!r} is too long for the pods of {asked.nodes} machines.",
            f"Use up to {longest} characters; it has {len(asked.name)}.",
        )


def _check_places(asked: CloudRequest) -> None:
    for option, place in (("--data", asked.data), ("--output", asked.output)):
        rule = BUCKETS.get(place.kind) if place else None
        if place and rule and not rule.fullmatch(place.name):
            raise UsageError(
                f"{option} {place.url}: no bucket can be called {place.name!r}.",
                "Names have 3 to 63 small letters, digits, dots and dashes.",
            )
        if place and place.kind == "pvc" and asked.engine != "k8s":
            raise UsageError(
                f"{option} {place.url}: only Kubernetes has such volumes.",
                "Use a bucket, s3://… or gs://….",
            )
    if asked.engine == "sky" and (asked.output is None or asked.output.kind == "path"):
        given = asked.output.url if asked.output else "is missing"
        raise UsageError(
            f"--output {given}: the machine goes away after the job, and its disk with it.",
            "Give --output s3://BUCKET/PATH or gs://BUCKET/PATH.",
        )
    if asked.engine == "k8s" and asked.output and asked.output.kind in ("s3", "path"):
        raise UsageError(
            f"--output {asked.output.url}: records and checkpoints are renamed into place, "
            "which this can't do or does on one machine only.",
            "Use pvc://CLAIM (or nothing: the file makes a claim) or gs://BUCKET.",
        )
    if asked.engine == "k8s" and asked.data and not asked.data.is_somewhere:
        raise UsageError(
            f"--data {asked.data.url}: a path of the cluster's machines begins with /.",
            "Use pvc://CLAIM, s3://BUCKET or gs://BUCKET for data that every machine reaches.",
        )
    if asked.engine == "vm" and not asked.source:
        raise UsageError(
            "The VM clones the kit, and this checkout has no remote to clone from.",
            "Give --source https://HOST/NAME.git.",
        )
