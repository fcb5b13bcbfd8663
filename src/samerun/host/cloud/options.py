"""What `invoke cloud` can be asked for."""

from dataclasses import dataclass
from typing import Annotated

from samerun.core import contract
from samerun.host.checkout.project import Cuda


@dataclass(frozen=True, kw_only=True)
class CloudOptions:
    """The options of `invoke cloud`; *given* names those that were typed."""

    given: frozenset[str] = frozenset()
    arguments: tuple[str, ...] = ()
    engine: Annotated[str, "sky (SkyPilot), k8s (Kubernetes) or vm (cloud-init for a bare VM)"]
    recipe: Annotated[
        str, "a recipe, or a script in the image (/code/train.py); its flags go after --"
    ] = "digits"
    image: Annotated[
        str | None, "NAME@sha256:… as `invoke push` prints it; default: this checkout's, pushed"
    ] = None
    cuda: Annotated[Cuda, "CUDA release of this checkout's image"] = "13"
    gpus: Annotated[str | None, "of each machine: A100:8, L4 or 1; default: the CPU"] = None
    cpus: Annotated[int | None, "sky, k8s: of each machine, at least"] = None
    memory: Annotated[
        str | None, "sky, k8s: of each machine, at least, e.g. 32g; in Kubernetes also at most"
    ] = None
    nodes: Annotated[int, "machines that train together"] = 1
    procs: Annotated[int | None, "processes on each machine; default: one per GPU, or one"] = None
    spot: Annotated[bool, "machines that may be taken away; the run resumes"] = False
    data: Annotated[
        str | None, "s3://, gs://, pvc:// (Kubernetes) or a path; read-only in the run as /data"
    ] = None
    output: Annotated[
        str | None, "where the run's folder is kept: s3://, gs://, pvc:// or a path"
    ] = None
    name: Annotated[
        str | None, "name of the run, there and in W&B; default: the recipe's and the time"
    ] = None
    project: Annotated[str | None, "W&B project"] = None
    entity: Annotated[str | None, "W&B entity (user or team)"] = None
    tags: Annotated[str | None, "W&B tags, a,b; the image's digest is added"] = None
    seed: Annotated[int, "seed of all random generators"] = contract.DEFAULT_SEED
    shm_size: Annotated[str, "shared memory for loaders and NCCL"] = "16g"
    offline: Annotated[bool, "no W&B key: W&B records offline"] = False
    service_account: Annotated[
        str | None, "k8s: an existing account; default: a new one for this run"
    ] = None
    pull_secret: Annotated[str | None, "k8s: a Secret with the registry's login"] = None
    source: Annotated[
        str | None, "vm: where samerun is cloned from; default: this checkout's origin"
    ] = None
    login_command: Annotated[
        str | None, "vm: what logs Docker in there, where the image's registry asks for it"
    ] = None
    key_command: Annotated[
        str | None, "vm: what prints the W&B key there, e.g. the cloud's secret manager"
    ] = None
    no_fingerprint: Annotated[
        bool, "do not read the data for their fingerprint: a bucket may be huge"
    ] = False
    no_check: Annotated[bool, "do not ask the registry whether it serves the image"] = False
    file: Annotated[str | None, "the file to write; default: .samerun/cloud/NAME.…"] = None
    launch: Annotated[bool, "hand the file to `sky` or `kubectl`"] = False
