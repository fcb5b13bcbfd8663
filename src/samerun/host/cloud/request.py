"""A request to `invoke cloud`, checked: everything that the files are written from."""

import dataclasses
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from samerun.core import contract, data_names, user_variables
from samerun.core.errors import NodeLost, UsageError
from samerun.core.variables import Facts, environment, present
from samerun.host.checkout import user_code
from samerun.host.machine import memory

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
# Kubernetes' rule for names, the strictest one; it leaves room for appended suffixes.
NAME = re.compile(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?")
RUNTIME_CLASS = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
PLACE = re.compile(r"(?P<kind>s3|gs|pvc)://(?P<name>[A-Za-z0-9][\w.-]*)(/(?P<path>.*))?")
GPUS = re.compile(r"((?P<name>[A-Za-z][\w.-]*):)?(?P<number>\d+)|(?P<alone>[A-Za-z][\w.-]*)")


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """GPUs of each machine; *name* is the engine's name for them, empty for any GPU."""

    name: str = ""
    number: int = 0


@dataclass(frozen=True, kw_only=True)
class Location:
    """
    Where data or outputs are: a bucket (s3, gs), a cluster's volume (pvc), or a path.

    *label* is the name of data given with ``--data NAME=…``.
    """

    kind: Literal["s3", "gs", "pvc", "path"]
    name: str
    path: str = ""
    label: str = ""

    @property
    def target(self) -> str:
        """The path of this data in the container."""
        return data_names.target(self.label)

    @property
    def is_somewhere(self) -> bool:
        """Whether it means the same on every machine."""
        return self.kind != "path" or self.name.startswith("/")

    @property
    def url(self) -> str:
        """The location as given on the command line."""
        if self.kind == "path":
            return self.name
        return f"{self.kind}://{self.name}" + (f"/{self.path}" if self.path else "")


@dataclass(frozen=True, kw_only=True)
class CloudRequest:
    """One run elsewhere; *image* is ``NAME@sha256:…``, *settings* are W&B's without the key."""

    engine: Engine
    image: str
    target: str
    arguments: tuple[str, ...] = ()
    gpus: Gpus = Gpus()
    # Minimum for each machine (memory as in ``32g``); None: the engine decides.
    cpus: int | None = None
    memory: str | None = None
    nodes: int = 1
    procs: int = 1
    spot: bool = False
    data: tuple[Location, ...] = ()
    output: Location | None = None
    name: str
    seed: int = contract.DEFAULT_SEED
    # As asked for; see `shared_memory`.
    shm_size: str | None = None
    tags: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    # Given with --env.
    variables: dict[str, str] = field(default_factory=dict)
    offline: bool = False
    commit: str | None = None
    dirty: bool = False
    fingerprint: bool = True
    # Kubernetes only: an existing service account, a Secret with a registry's login, and the
    # class of the pods' runtime.
    account: str | None = None
    pull_secret: str | None = None
    runtime_class: str | None = None
    # VM only: samerun's repository, the command for `docker login`, the one printing the key.
    source: str | None = None
    login_command: str | None = None
    key_command: str | None = None

    @property
    def digest(self) -> str:
        """The image's 64 hexadecimal digits."""
        return self.image.rpartition("sha256:")[2]

    @property
    def again(self) -> tuple[int, ...]:
        """Exit codes after which a restarted training resumes."""
        lost = (NodeLost.exit_code,) if self.nodes > 1 else ()
        return (contract.EXIT_PREEMPTED, *lost)

    @property
    def shared_memory(self) -> str:
        """The size of shared memory, for machines whose number of cores is unknown."""
        return self.shm_size or memory.shared_memory(self.procs)

    def entry(self) -> list[str]:
        """Return the arguments of the image's entrypoint."""
        options = ["--procs", str(self.procs), "--seed", str(self.seed)]
        return [*options, self.target, *self.arguments]

    def environment(self) -> dict[str, str]:
        """Return the container's variables that are the same on every machine."""
        offline = {"WANDB_MODE": "offline"} if self.offline else {}
        facts = Facts(
            image=self.image,
            tags=(*self.tags, self.digest),
            forwarded={**self.settings, "WANDB_NAME": self.name, **offline},
            online=not self.offline,
            gpus=self.gpus.number,
            has_data=bool(self.data),
            checkpoints=contract.DEFAULT_CHECKPOINTS,
        )
        values = environment(facts) | {
            contract.ENV_IMAGE: self.image,
            contract.ENV_RUN: self.name,
            contract.ENV_COMMIT: (self.commit or "") + ("-dirty" if self.dirty else ""),
            contract.ENV_SOURCE: self._sources(),
            contract.ENV_FINGERPRINT: "" if self.fingerprint else "0",
        }
        return user_variables.listed(self.variables) | present(values)

    def _sources(self) -> str:
        """Return where the data is, as a standalone container reads it."""
        if any(place.label for place in self.data):
            return shlex.join(f"{place.label}={place.url}" for place in self.data)
        return "".join(place.url for place in self.data)

    def volumes(self) -> list[tuple[str, Location]]:
        """Return the data with a name for each that every engine allows."""
        if any(place.label for place in self.data):
            return [(f"data-{number}", place) for number, place in enumerate(self.data)]
        return [("data", place) for place in self.data]


def parse_data(texts: Sequence[str]) -> tuple[Location, ...]:
    """
    Parse each ``--data``: a place, or NAME=PLACE.

    Raises:
        UsageError: Two would be mounted in the same place, or one is invalid.
    """
    pairs = data_names.parse(texts)
    found = [(name, parse_place("--data", place)) for name, place in pairs]
    return tuple(dataclasses.replace(place, label=name) for name, place in found if place)


def parse_gpus(text: str | None) -> Gpus:
    """
    Parse ``A100:8``, ``A100`` or ``8``; None means no GPU.

    Raises:
        UsageError: It has another form, or a name with the number 0.
    """
    match = GPUS.fullmatch(text or "0")
    if not match:
        raise UsageError(
            f"Invalid value for --gpus: {text!r}.", "Use e.g. A100:8, L4 or 1, or 0 for the CPU."
        )
    if match["alone"]:
        return Gpus(name=match["alone"], number=1)
    number = int(match["number"])
    if match["name"] and not number:
        raise UsageError(
            f"Invalid value for --gpus: {text!r} is zero GPUs.", "Use 0 or omit it for the CPU."
        )
    return Gpus(name=match["name"] or "", number=number)


def parse_place(option: str, text: str | None) -> Location | None:
    """
    Parse ``s3://bucket/path``, ``gs://…``, ``pvc://claim/path`` or a path.

    Raises:
        UsageError: It is an address of another kind.
    """
    if not text:
        return None
    match = PLACE.fullmatch(text)
    if match:
        kind: Literal["s3", "gs", "pvc"] = match["kind"]  # type: ignore[assignment]
        return Location(kind=kind, name=match["name"], path=(match["path"] or "").strip("/"))
    if re.match(r"\w+:/", text):
        raise UsageError(
            f"Invalid value for {option}: {text!r} can't be mounted.",
            "Use s3://BUCKET/PATH, gs://BUCKET/PATH, pvc://CLAIM/PATH (Kubernetes) or a path.",
        )
    if text.startswith("-") or re.match(r"~[^/]", text):
        raise UsageError(
            f"Invalid value for {option}: {text!r} is read differently by different programs.",
            "Give the path from /, or with ./ or ~/ before it.",
        )
    return Location(kind="path", name=text)


def check_cloud_request(request: CloudRequest) -> None:
    """
    Refuse what is invalid without contacting a registry or an engine.

    Raises:
        UsageError: A value is invalid; the message holds the value and the rule.
    """
    if not NAME.fullmatch(request.name):
        raise UsageError(
            f"Invalid value for --name: {request.name!r}.",
            "Use up to 50 lower-case letters, digits and dashes, starting with a letter.",
        )
    if request.nodes < 1 or request.procs < 1:
        raise UsageError(
            f"--nodes {request.nodes}, --procs {request.procs}: both must be 1 or more.",
            "Omit them for one machine and one process per GPU.",
        )
    _check_cluster_options(request)
    _check_texts(request)
    _check_machine(request)
    _check_pod_names(request)
    if request.nodes > 1 and request.engine == "vm":
        raise UsageError(
            f"--nodes {request.nodes}: a file for a VM starts one machine.",
            "Use `invoke cloud sky` or `invoke cloud k8s` for several machines.",
        )
    if request.target.endswith(".py") and not request.target.startswith(f"{contract.CODE}/"):
        raise UsageError(
            f"{request.target} is a file on this machine; other machines have only the image.",
            f"Train it here once (its project becomes a layer under {contract.CODE}), push that "
            f"run's image with `invoke push runs/NAME`, and pass --image and --recipe "
            f"{_place_in_image(request.target)}.",
        )
    if request.engine == "vm" and not request.fingerprint:
        raise UsageError(
            "--no-fingerprint: a VM runs `invoke train`, which always computes a fingerprint.",
            "Omit it.",
        )
    _check_places(request)


def _place_in_image(target: str) -> str:
    """Return where the script would be in an image."""
    path = Path(target).expanduser()
    return user_code.find(path).target if path.is_file() else f"{contract.CODE}/{path.name}"


def _check_texts(request: CloudRequest) -> None:
    """Refuse text that is not UTF-8, because YAML can't hold it."""
    places = [place.url for place in (*request.data, request.output) if place]
    settings = [f"{name}={value}" for name, value in request.settings.items()]
    others = (request.source, request.login_command, request.key_command)
    for text in (request.target, *request.arguments, *settings, *places, *filter(None, others)):
        if not text.isprintable() and any("\ud800" <= c <= "\udfff" for c in text):
            raise UsageError(f"{text!r} is not UTF-8.", "Give text in UTF-8.")


def _check_cluster_options(request: CloudRequest) -> None:
    if request.engine != "k8s" and (request.account or request.pull_secret):
        raise UsageError(
            "--service-account and --pull-secret are for Kubernetes only.",
            "Omit them; docs/cloud.md describes how the other engines log in to a registry.",
        )
    if request.runtime_class is None:
        return
    if request.engine != "k8s":
        raise UsageError(
            "--runtime-class is for Kubernetes only.",
            "Omit it; `invoke train --docker-arg=--runtime=NAME` chooses one of Docker's.",
        )
    if not RUNTIME_CLASS.fullmatch(request.runtime_class):
        raise UsageError(
            f"Invalid value for --runtime-class: {request.runtime_class!r}.",
            "Use a name from `kubectl get runtimeclasses`, e.g. nvidia.",
        )


def _check_machine(request: CloudRequest) -> None:
    if request.cpus is not None and request.cpus < 1:
        raise UsageError(f"Invalid value for --cpus: {request.cpus}.", "Use 1 or more.")
    if request.memory is not None and not MEMORY.fullmatch(request.memory):
        raise UsageError(
            f"Invalid size for --memory: {request.memory!r}.", "Use whole gigabytes, as in 32g."
        )
    if request.shm_size is not None and not SHM.fullmatch(request.shm_size):
        raise UsageError(
            f"Invalid size for --shm-size: {request.shm_size!r}.", "Use e.g. 512m or 2g."
        )
    if request.engine == "vm" and (request.cpus or request.memory):
        raise UsageError(
            "--cpus and --memory: the machine type of a VM sets both.",
            "Omit them, and pass the machine type to your provider's command.",
        )


def _check_pod_names(request: CloudRequest) -> None:
    """Check the length: JobSet names a pod NAME-node-0-RANK-abcde, with 63 characters at most."""
    longest = 63 - len(f"-node-0-{request.nodes - 1}-abcde")
    if request.engine == "k8s" and request.nodes > 1 and len(request.name) > longest:
        raise UsageError(
            f"--name {request.name!r} is too long for the pods of {request.nodes} machines: "
            f"it has {len(request.name)} characters.",
            f"Use up to {longest} characters.",
        )


def _check_places(request: CloudRequest) -> None:
    given = [*(("--data", place) for place in request.data), ("--output", request.output)]
    for option, place in given:
        rule = BUCKETS.get(place.kind) if place else None
        if place and rule and not rule.fullmatch(place.name):
            raise UsageError(
                f"{option} {place.url}: {place.name!r} is not a valid bucket name.",
                "Use 3 to 63 lower-case letters, digits, dots and dashes.",
            )
        if place and place.kind == "pvc" and request.engine != "k8s":
            raise UsageError(
                f"{option} {place.url}: only Kubernetes has pvc:// volumes.",
                "Use a bucket, s3://… or gs://….",
            )
    if request.engine == "sky" and (request.output is None or request.output.kind == "path"):
        value = request.output.url if request.output else "is missing"
        raise UsageError(
            f"--output {value}: SkyPilot deletes the machine and its disk after the job.",
            "Give --output s3://BUCKET/PATH or gs://BUCKET/PATH.",
        )
    if request.engine == "k8s" and request.output and request.output.kind in ("s3", "path"):
        raise UsageError(
            f"--output {request.output.url}: records and checkpoints are renamed into place, "
            "which does not work there, or only on one machine.",
            "Use pvc://CLAIM or gs://BUCKET, or omit --output for a new volume claim.",
        )
    elsewhere = [place for place in request.data if not place.is_somewhere]
    if request.engine == "k8s" and elsewhere:
        raise UsageError(
            f"--data {elsewhere[0].url}: a path on the cluster's nodes must start with /.",
            "Use pvc://CLAIM, s3://BUCKET or gs://BUCKET for data that every node can read.",
        )
    if request.engine == "vm" and not request.source:
        raise UsageError(
            "The VM clones samerun, but this checkout has no remote to clone from.",
            "Give --source https://HOST/NAME.git.",
        )
