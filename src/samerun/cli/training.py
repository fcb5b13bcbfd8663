"""Training: start a run, and what can be started."""

import sys

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from samerun.cli import common
from samerun.cli.common import checkout, reports_errors, say
from samerun.core import placement
from samerun.host.checkpoints import DEFAULT
from samerun.host.launch import request
from samerun.host.tracking.tags import split_tags


@task(
    auto_shortflags=False,
    # The explicit list puts `target` first, as the one positional argument.
    positional=["target"],
    iterable=["docker_arg"],
    help={
        "target": "a recipe (see `invoke recipes`) or the path of your own .py script; "
        "its flags go after --",
        "gpus": "a number, all, device=0,1, or 0 for the CPU; default: all there are",
        "procs": "processes; default: one per GPU, or one on the CPU",
        "data": "folder that the run sees read-only as /data",
        "output": "folder under which the run gets its own",
        "project": "W&B project",
        "entity": "W&B entity (user or team)",
        "name": "name of the run, here and in W&B; default: the target's and the time",
        "tags": "W&B tags, a,b; the image's digest is added",
        "seed": "seed of all random generators",
        "shm-size": "shared memory for loaders and NCCL",
        "api-key-file": "file with the W&B key; default: WANDB_API_KEY, then ~/.netrc",
        "mount-code": "mount the script's folder instead of putting it into the image",
        "image": "run in exactly this image: NAME@sha256:… is pulled where it is not here",
        "cuda": "CUDA release of the image: 13, 12 or none",
        "network": "Docker network of the container; default: none where nothing needs one, "
        "else one that leads outward only (docs/security.md)",
        "no-network": "no network at all; W&B records offline",
        "memory": "limit, e.g. 8g, or 0 for none; default: nine tenths of this machine's",
        "pids-limit": "limit of processes and threads",
        "docker-arg": "a flag of `docker run`, as --docker-arg=--cpus=2; may be repeated; "
        "an allow-list (docs/security.md)",
        "nodes": "machines that train together; run this on each. 1:2: with two, and on with one "
        "where the other is lost",
        "node-rank": "number of this machine, from 0; node 0 has the W&B run and the results",
        "rdzv": "HOST:PORT of node 0, the same on every node",
        "rdzv-timeout": "seconds to wait for the other nodes",
        "fast": "leave out the costly switches of determinism; the record says so",
        "stop-on-nan": "end the training, with exit code 111, once the loss is not finite",
        "checkpoints": "when to write checkpoints and how many to keep, or off",
        "resume": "go on with this run (name or folder) from its last checkpoint",
        "restarts": "start again by itself after an interruption, so many times at most",
        "dry": "print the command that would run, and run nothing",
    },
)
@reports_errors
def train(
    context: Context,
    target: str | None = None,
    gpus: str | None = None,
    procs: int = 0,
    data: str | None = None,
    output: str = "runs",
    project: str | None = None,
    entity: str | None = None,
    name: str | None = None,
    tags: str | None = None,
    seed: int = 42,
    shm_size: str = "2g",
    api_key_file: str | None = None,
    mount_code: bool = False,
    image: str | None = None,
    cuda: str = "13",
    network: str | None = None,
    no_network: bool = False,
    memory: str | None = None,
    pids_limit: int = 4096,
    docker_arg: list[str] | None = None,
    nodes: str = "1",
    node_rank: int = 0,
    rdzv: str | None = None,
    rdzv_timeout: int = 300,
    fast: bool = False,
    stop_on_nan: bool = False,
    checkpoints: str = DEFAULT,
    resume: str | None = None,
    restarts: int = 0,
    dry: bool = False,
) -> None:
    """
    Train a recipe, or your own fastai script, in the container.

    Examples:
        invoke train
        invoke train tabular -- --epochs 3 --lr 0.002
        invoke train --gpus 2
        invoke train --gpus 0 --procs 2
        invoke train path/to/train.py --data photos -- --arch resnet34
        invoke train --nodes 2 --node-rank 0 --rdzv 10.0.0.4:29400
        invoke train --resume runs/digits-20260101-120000-1a2b

    Flags of the recipe or the script come after --. Builds the image first if it is
    not up to date. Without a W&B key the run is recorded offline. Exits with the
    training's own exit code; 75 says: checkpointed, start me again (docs/surviving.md).
    """
    from samerun.host.launch import train
    from samerun.host.run import summary

    common.check_choices(cuda=cuda)
    least, count = placement.parse(nodes)
    asked = request.Request(
        target=target or ("digits" if resume is None else ""),
        arguments=common.split_remainder(sys.argv),
        gpus=gpus,
        procs=procs or None,
        data=data,
        output=output,
        project=project,
        entity=entity,
        name=name,
        tags=split_tags(tags),
        seed=seed,
        shm_size=shm_size,
        api_key_file=api_key_file,
        mount_code=mount_code,
        image=image,
        cuda=cuda,
        network=network,
        no_network=no_network,
        memory=memory,
        pids_limit=pids_limit,
        docker_args=tuple(docker_arg or ()),
        place=placement.Place(
            count=count, least=least, rank=node_rank, rendezvous=rdzv, timeout_s=rdzv_timeout
        ),
        fast=fast,
        stop_on_nan=stop_on_nan,
        checkpoints=checkpoints,
        resume=resume,
        restarts=restarts,
    )
    if dry:
        say(train.show(asked, checkout()))
        return
    run = train.train(asked, checkout(), say)
    say()
    say(summary.summarise(run, train.place(asked, run)))
    if run.outcome.exit_code:
        raise Exit(code=run.outcome.exit_code)


@task(auto_shortflags=False)
@reports_errors
def recipes(context: Context) -> None:
    """List the recipes with their flags."""
    from samerun.core.recipe_options import list_recipes

    for recipe in list_recipes(checkout().recipes):
        say(f"{recipe.name}: {recipe.summary}\n{recipe.usage()}\n")
