"""Build a launch from a run's record that reruns it."""

import dataclasses
import os
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

from samerun.core import contract, hardware, result_variables, user_variables
from samerun.core.record import Code, Image, Mount, Outcome, Run
from samerun.host.checkout import git
from samerun.host.container.spec import ContainerSpec
from samerun.host.launch import prepare
from samerun.host.launch.prepare import Prepared
from samerun.host.launch.request import Request
from samerun.host.machine import engine, memory, network
from samerun.host.reproduce import causes, rebuild, requirements
from samerun.host.reproduce.find_run import FoundRun
from samerun.host.reproduce.options import ReproduceOptions
from samerun.host.reproduce.requirements import Requirements
from samerun.host.run import folders

LINK = "reproduces:"


def asked(original: FoundRun, options: ReproduceOptions) -> Request:
    """
    Return the equivalent request to `invoke train`.

    The target is the recipe's name or the script's without its suffix, so that the script is
    not looked up on this machine: its code is in the image.
    """
    run, place = original.run, original.wandb
    name = options.name or f"{run.name[:70]}-again-{datetime.now(UTC):%m%d-%H%M%S}-{token_hex(2)}"
    own = os.environ.get("WANDB_TAGS", "").strip()
    return Request(
        target=run.code.target.removesuffix(".py"),
        arguments=run.command[1:],
        procs=run.topology.world_size,
        output=options.output,
        # Entity and project are certain only for a run that was found in W&B.
        project=place.project if place else None,
        entity=place.entity if place else None,
        name=name,
        tags=",".join(filter(None, (own, link_tag(original.link)))),
        seed=run.seed,
        shm_size=memory.shared_on_one_machine(run.topology),
        api_key_file=options.api_key_file,
        network=options.network,
        no_network=options.no_network,
    )


def link_tag(link: str) -> str:
    """Return the W&B tag that names the original, cut to W&B's limit."""
    return f"{LINK}{link}"[: contract.TAG_LIMIT]


def environment(run: Run) -> dict[str, str]:
    """Return what ``--env`` gave the original, and the variables on which results depend."""
    seen = run.environment.get("variables")
    had = run.launch.environment if run.launch else {}
    again = user_variables.reproduced(had, os.environ)
    again |= result_variables.among(had | (seen if isinstance(seen, dict) else {}))
    threads = causes.number_of_threads(run)
    if threads is not None:
        again["OMP_NUM_THREADS"] = str(threads)
    if run.determinism == "fast":
        again[contract.ENV_FAST] = "1"
    if had.get(contract.ENV_STOP_ON_NAN) == "1":
        again[contract.ENV_STOP_ON_NAN] = "1"
    if had.get(contract.ENV_READS_FROM, "").startswith(contract.CODE):
        again[contract.ENV_READS_FROM] = had[contract.ENV_READS_FROM]
    return again


def prepared(
    original: FoundRun,
    wanted: Request,
    around: Requirements,
    image: Image,
    facts: engine.Engine,
    *,
    code: Path | None,
    has_key: bool,
) -> Prepared:
    """Return launch and record of the rerun; *code* is the folder of mounted code."""
    if around.selection is None:
        raise ValueError("no device was selected")  # `needs.refuse` let nothing through.
    here = prepare.Resources(
        data=around.data,
        selection=around.selection,
        name=str(wanted.name),
        downloads=original.run.launch is None or original.run.launch.network != network.NONE,
    )
    folder = folders.free_folder(Path(wanted.output), here.name)
    planned = prepare.plan(wanted, here, image, folder, has_key=has_key)
    recorded = original.run
    ran, patch = _ran(original, around, code)
    run = Run(
        name=here.name,
        image=image,
        code=ran,
        command=recorded.command,
        options=recorded.options,
        arguments=(),
        seed=recorded.seed,
        topology=dataclasses.replace(
            recorded.topology,
            gpus=around.selection.asked,
            procs=recorded.topology.world_size,
            nodes=1,
            least_nodes=None,
            rendezvous=None,
            threads=causes.number_of_threads(recorded),
        ),
        data=tuple(one.entry for one in around.data),
        secrets=("WANDB_API_KEY",) if has_key else (),
        hardware=hardware.describe(around.selection.gpus, f"Docker {facts.version}"),
        outcome=Outcome(created=datetime.now(UTC).isoformat(timespec="milliseconds")),
        determinism=recorded.determinism,
        reproduces=original.link,
    )
    return Prepared(spec=_spec(planned, original, code), run=run, folder=folder, patch=patch)


def _ran(original: FoundRun, around: Requirements, code: Path | None) -> tuple[Code, bytes]:
    """Return the code and its patch: the original's, or those of the current folder."""
    recorded = original.run.code
    if around.source is not None:
        return recorded, around.source.patch
    if code is None:
        return recorded, b""
    state = git.state_of(code)
    today = dataclasses.replace(
        recorded,
        git_commit=state.commit,
        git_dirty=state.dirty,
        patch_sha256=state.patch_sha256,
    )
    return today, state.patch


def _spec(planned: ContainerSpec, original: FoundRun, code: Path | None) -> ContainerSpec:
    """Return *planned* with the original's variables and script."""
    mounts = planned.mounts
    if code is not None:
        mounts = (*mounts, Mount(source=str(code), target=contract.CODE))
    is_script = original.run.code.kind == "script"
    return dataclasses.replace(
        planned,
        target=requirements.script_target(original) if is_script else planned.target,
        mounts=mounts,
        environment=_others(planned.environment) | environment(original.run),
    )


def _others(planned: dict[str, str]) -> dict[str, str]:
    """Return *planned* without this host's settings, some of which change results."""
    return {n: v for n, v in planned.items() if not user_variables.is_forwarded(n)}


def today(original: FoundRun) -> Path | None:
    """Return the current folder of mounted code; None for code in the image."""
    if original.run.code.where != "mounted":
        return None
    folder = rebuild.mounted_folder(original.run)
    rebuild.refuse_written_by_a_run(folder)
    return folder
