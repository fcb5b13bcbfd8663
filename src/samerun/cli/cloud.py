"""Other machines: files for engines that train there, and for services that build there."""

import sys
from pathlib import Path

from invoke.context import Context
from invoke.tasks import task

from samerun.cli import common
from samerun.cli.common import checkout, reports_errors, say
from samerun.host.tracking.tags import split_tags


@task(
    auto_shortflags=False,
    positional=["engine"],
    help={
        "engine": "sky (SkyPilot), k8s (Kubernetes) or vm (cloud-init for a bare VM)",
        "recipe": "a recipe, or a script in the image (/code/train.py); its flags go after --",
        "image": "NAME@sha256:… as `invoke push` prints it; default: this checkout's, pushed",
        "cuda": "CUDA release of this checkout's image",
        "gpus": "of each machine: A100:8, L4 or 1; default: the CPU",
        "cpus": "sky, k8s: of each machine, at least",
        "memory": "sky, k8s: of each machine, at least, e.g. 32g; in Kubernetes also at most",
        "nodes": "machines that train together",
        "procs": "processes on each machine; default: one per GPU, or one",
        "spot": "machines that may be taken away; the run comes back",
        "data": "s3://, gs://, pvc:// (Kubernetes) or a path; read-only in the run as /data",
        "output": "where the run's folder is kept: s3://, gs://, pvc:// or a path",
        "name": "name of the run, there and in W&B; default: the recipe's and the time",
        "project": "W&B project",
        "entity": "W&B entity (user or team)",
        "tags": "W&B tags, a,b; the image's digest is added",
        "seed": "seed of all random generators",
        "shm-size": "shared memory for loaders and NCCL",
        "offline": "no W&B key: W&B records offline",
        "service-account": "k8s: an account that is there; default: one of the run's own",
        "pull-secret": "k8s: a Secret with the registry's login",
        "source": "vm: where the kit is cloned from; default: this checkout's origin",
        "login-command": "vm: what logs Docker in there, where the image's registry asks for it",
        "key-command": "vm: what prints the W&B key there, e.g. the cloud's secret manager",
        "no-fingerprint": "do not read the data for their fingerprint: a bucket may be huge",
        "no-check": "do not ask the registry whether it serves the image",
        "file": "the file to write; default: .samerun/cloud/NAME.…",
        "launch": "hand the file to `sky` or `kubectl`",
    },
)
@reports_errors
def cloud(
    context: Context,
    engine: str,
    recipe: str = "digits",
    image: str | None = None,
    cuda: str = "13",
    gpus: str | None = None,
    cpus: int = 0,
    memory: str | None = None,
    nodes: int = 1,
    procs: int = 0,
    spot: bool = False,
    data: str | None = None,
    output: str | None = None,
    name: str | None = None,
    project: str | None = None,
    entity: str | None = None,
    tags: str | None = None,
    seed: int = 42,
    shm_size: str = "16g",
    offline: bool = False,
    service_account: str | None = None,
    pull_secret: str | None = None,
    source: str | None = None,
    login_command: str | None = None,
    key_command: str | None = None,
    no_fingerprint: bool = False,
    no_check: bool = False,
    file: str | None = None,
    launch: bool = False,
) -> None:
    """
    Write a file by which an engine trains elsewhere, in the image by its digest.

    Examples:
        invoke cloud sky --gpus A100:8 --spot --output s3://bucket/runs
        invoke cloud k8s --gpus 1 --data pvc://photos -- --epochs 5
        invoke cloud k8s --gpus H100:8 --nodes 2 --launch
        invoke cloud vm --gpus L4

    The W&B key is in no file: it is the engine's secret (docs/cloud.md).
    """
    from samerun.host.cloud import write

    common.check_choices(cuda=cuda)
    options = write.Options(
        engine=engine,
        recipe=recipe,
        arguments=common.split_remainder(sys.argv),
        image=image,
        cuda=cuda,
        gpus=gpus,
        cpus=cpus or None,
        memory=memory,
        nodes=nodes,
        procs=procs or None,
        spot=spot,
        data=data,
        output=output,
        name=name,
        project=project,
        entity=entity,
        tags=split_tags(tags),
        seed=seed,
        shm_size=shm_size,
        offline=offline,
        account=service_account,
        pull_secret=pull_secret,
        source=source,
        login_command=login_command,
        key_command=key_command,
        unchecked=no_check,
        fingerprint=not no_fingerprint,
    )
    asked = write.read(options, checkout())
    path = write.write(asked, file, checkout())
    say(str(path))
    if launch:
        write.launch(asked, path, say)


@task(
    auto_shortflags=False,
    positional=["service"],
    help={
        "service": "github or gitlab",
        "registry": "where images go, HOST/NAME; default: the service's own",
        "file": "the file to write; default: where the service looks for it",
    },
)
@reports_errors
def ci(
    context: Context, service: str, registry: str | None = None, file: str | None = None
) -> None:
    """
    Write a workflow that builds, tests on the CPU, pushes by digest and attests.

    It says the image's digest at the end, which `invoke train --image` takes anywhere.
    """
    from samerun.host.develop import workflow

    say(str(workflow.write(service, registry, Path(file) if file else None, checkout())))
