"""The options of `invoke cloud`."""

from dataclasses import dataclass
from typing import Annotated

from samerun.core import contract
from samerun.host.checkout.project import Cuda


@dataclass(frozen=True, kw_only=True)
class CloudOptions:
    """The options of `invoke cloud`; *given* names those on the command line."""

    given: frozenset[str] = frozenset()
    arguments: tuple[str, ...] = ()
    engine: Annotated[str, "sky (SkyPilot), k8s (Kubernetes) or vm (cloud-init for a bare VM)"]
    recipe: Annotated[
        str, "a recipe, or a script in the image (/code/train.py); its flags go after --"
    ] = "digits"
    image: Annotated[
        str | None, "NAME@sha256:… as printed by `invoke push`; default: this checkout's image"
    ] = None
    cuda: Annotated[Cuda, "CUDA release of this checkout's image"] = "13"
    gpus: Annotated[str | None, "per machine: A100:8, L4 or 1; default: the CPU"] = None
    cpus: Annotated[int | None, "sky, k8s: minimum per machine"] = None
    memory: Annotated[
        str | None, "sky, k8s: minimum per machine, e.g. 32g; in Kubernetes also the limit"
    ] = None
    nodes: Annotated[int, "machines that train together"] = 1
    procs: Annotated[int | None, "processes on each machine; default: one per GPU, or one"] = None
    spot: Annotated[bool, "use spot machines, which may be preempted; the run resumes"] = False
    data: Annotated[
        tuple[str, ...],
        "s3://, gs://, pvc:// (Kubernetes) or a path; read-only /data in the run; NAME=s3://… is "
        "/data/NAME; may be repeated",
    ] = ()
    output: Annotated[
        str | None, "where the run's folder is kept: s3://, gs://, pvc:// or a path"
    ] = None
    name: Annotated[
        str | None, "name of the run, also in W&B; default: the recipe's name and the time"
    ] = None
    project: Annotated[str | None, "W&B project"] = None
    entity: Annotated[str | None, "W&B entity (user or team)"] = None
    tags: Annotated[str | None, "W&B tags, a,b; the image's digest is added"] = None
    seed: Annotated[int, "seed of all random generators"] = contract.DEFAULT_SEED
    shm_size: Annotated[
        str | None, "shared memory for loaders and NCCL, e.g. 8g; default: by processes"
    ] = None
    env: Annotated[
        tuple[str, ...],
        "a plain setting for the training, NAME=VALUE; may be repeated; recorded, so no secrets",
    ] = ()
    offline: Annotated[bool, "use no W&B key; W&B records offline"] = False
    service_account: Annotated[
        str | None, "k8s: an existing account; default: a new one for this run"
    ] = None
    pull_secret: Annotated[str | None, "k8s: a Secret with the registry's login"] = None
    runtime_class: Annotated[
        str | None, "k8s: the RuntimeClass that gives pods their GPUs, often nvidia; default: none"
    ] = None
    source: Annotated[
        str | None, "vm: the repository to clone samerun from; default: this checkout's origin"
    ] = None
    login_command: Annotated[
        str | None, "vm: command run on the VM to log Docker in to the image's registry"
    ] = None
    key_command: Annotated[
        str | None, "vm: command run on the VM that prints the W&B key, e.g. a secret manager's"
    ] = None
    no_fingerprint: Annotated[
        bool, "do not read the data to compute a fingerprint, which is slow for a large bucket"
    ] = False
    no_check: Annotated[bool, "do not check that the registry serves the image"] = False
    file: Annotated[str | None, "the file to write; default: .samerun/cloud/NAME.…"] = None
    launch: Annotated[bool, "pass the file to `sky` or `kubectl`"] = False
