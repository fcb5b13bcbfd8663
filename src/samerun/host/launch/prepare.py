"""Check the options of a run, and prepare its launch and record."""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from samerun.core import (
    checkpoint_policy,
    contract,
    hardware,
    placement,
    result_variables,
    terminal,
    variables,
)
from samerun.core.errors import ImageNotFound
from samerun.core.recipe_options import find_recipe, read_recipe
from samerun.core.record import Base, Code, Image, Mount, Outcome, Run, Topology
from samerun.core.variables import Facts
from samerun.host.checkout import git, user_code, wanted_packages
from samerun.host.checkout.project import Project
from samerun.host.checkout.user_code import Script
from samerun.host.checkout.wanted_packages import Packages
from samerun.host.container import docker_args, spec
from samerun.host.container.spec import ContainerSpec
from samerun.host.image import (
    build,
    identity,
    package_layer,
    registry,
    script_layer,
    source_check,
)
from samerun.host.launch import data, devices, host_paths, request
from samerun.host.launch.request import Request
from samerun.host.machine import engine, gpus, memory, network, user
from samerun.host.run.folders import free_folder
from samerun.host.tracking import keys

if TYPE_CHECKING:
    from docker import DockerClient


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A launch, its record, and the patch of uncommitted changes."""

    spec: ContainerSpec
    run: Run
    folder: Path
    patch: bytes
    # The folder already exists, with an earlier start of this run.
    resumes: bool = False


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a run needs besides the image."""

    data: tuple[data.Present, ...]
    selection: gpus.Selection
    name: str
    downloads: bool

    @property
    def procs(self) -> int:
        """The default number of processes: one per GPU, or one on the CPU."""
        return max(1, len(self.selection.gpus))


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The results of early checks: data files and this machine's GPUs."""

    data: tuple[data.Listed, ...]
    gpus: gpus.Present


def check_early(options: Request, project: Project) -> Checked:
    """Refuse what is invalid, without an engine and without hashing data."""
    request.check_request(options)
    if options.is_script:
        script = _script(options)
        _packages(options, script)
        files = user_code.list_files(script)
        if options.mount_code:
            data.check_readable([script.root / path for path in files], user.of_container())
        else:
            user_code.check_included(script, files)
    elif options.image is None:
        _packages(options, None)
        read_recipe(find_recipe(project.recipes, options.target)).parse(options.arguments)
    listed = data.look(data.parse(options.data, follow_links=options.follow_links))
    for one in listed:
        data.check_readable(one.tree.files, user.of_container())
    present = gpus.look()
    _select(options, present)
    return Checked(data=listed, gpus=present)


def _select(
    options: Request, present: gpus.Present, facts: engine.Engine | None = None
) -> gpus.Selection:
    selection = gpus.select(options.gpus_or_cpu(), present, engine=facts)
    gpus.check_processes(selection, options.procs or 1)
    return selection


def look_up(
    options: Request, project: Project, checked: Checked, facts: engine.Engine | None
) -> Resources:
    """Return data, GPUs and name for *options*, after `check_early`."""
    return Resources(
        data=tuple(data.fingerprint_folder(listed) for listed in checked.data),
        selection=_select(options, checked.gpus, facts),
        name=run_name(options),
        downloads=_may_download(options, project),
    )


def _may_download(options: Request, project: Project) -> bool:
    """Whether the training may download something; unknown for code in another image."""
    if options.is_script or options.image is not None:
        return True
    return read_recipe(find_recipe(project.recipes, options.target)).downloads


def run_name(options: Request) -> str:
    """Return the run's name: --name, or the target's with time and four random digits."""
    if options.name:
        return options.place.named(options.name)
    stem = Path(options.target).stem
    name = f"{stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    return options.place.named(name)


def prepare(
    client: "DockerClient",
    options: Request,
    project: Project,
    checked: Checked,
    key: keys.Key | None,
    say: Callable[[str], None],
) -> Prepared:
    """Prepare *options* after `check_early`; the only side effect is building or pulling images."""
    facts = engine.inspect(client)
    resources = look_up(options, project, checked, facts)
    for note in devices.notes(resources.selection, options.procs or resources.procs):
        say(note)
    script = request.script_path(options) if options.is_script else None
    for note in host_paths.notes(options.arguments, script, resources.data):
        say(note)
    folder = free_folder(Path(options.output), resources.name)
    created = datetime.now(UTC)
    image = _image(client, options, project, resources, say)
    state = git.state_of(_source(options, project))
    run = Run(
        name=resources.name,
        image=image,
        code=_code(options, state),
        command=options.command(),
        options=options.other_options(),
        arguments=(),
        seed=options.seed,
        topology=_topology(options, resources),
        data=tuple(one.entry for one in resources.data),
        secrets=("WANDB_API_KEY",) if key else (),
        hardware=hardware.describe(resources.selection.gpus, f"Docker {facts.version}"),
        outcome=Outcome(created=created.isoformat(timespec="milliseconds")),
        determinism="fast" if options.fast else "full",
    )
    return Prepared(
        spec=plan(options, resources, image, folder, has_key=key is not None),
        run=run,
        folder=folder,
        patch=state.patch,
    )


def plan(
    options: Request, resources: Resources, image: Image, folder: Path, *, has_key: bool
) -> ContainerSpec:
    """Return the container for *options* as data; nothing is written or started."""
    script = _script(options) if options.is_script else None
    mounts = [Mount(source=str(folder), target=contract.OUTPUT, read_only=False)]
    mounts += data.all_mounts(resources.data)
    if script and options.mount_code:
        mounts.append(Mount(source=str(script.root), target=contract.CODE))
    uid, gid = user.of_container()
    settings = options.wandb_settings()
    return ContainerSpec(
        run=resources.name,
        image=image.reference,
        user=f"{uid}:{gid}",
        target=script.target if script else options.target,
        arguments=options.arguments,
        procs=options.procs or resources.procs,
        seed=options.seed,
        shm_size=_shared_memory(options, resources),
        mounts=tuple(mounts),
        environment=_environment(options, resources, image, script, has_key=has_key),
        gpus=resources.selection.flag,
        network=network.choose(
            options.network or (placement.NETWORK if options.place.count > 1 else None),
            none=options.no_network,
            online=variables.wandb_is_online(settings.get("WANDB_MODE"), has_key=has_key),
            downloads=resources.downloads,
        ),
        pids_limit=options.pids_limit,
        memory=memory.memory_limit(options.memory),
        docker_args=docker_args.parse(options.docker_arg),
        place=options.place,
    )


def _environment(
    options: Request, resources: Resources, image: Image, script: Script | None, *, has_key: bool
) -> dict[str, str]:
    facts = Facts(
        image=image.reference,
        tags=request.all_tags(options, image.digest),
        forwarded={"WANDB_NAME": resources.name, **options.wandb_settings()},
        online=has_key,
        gpus=len(resources.selection.gpus),
        has_data=bool(resources.data),
        terminal=terminal.width(),
        seed=options.seed,
        checkpoints=checkpoint_policy.variable(options.checkpoints),
        fast=options.fast,
        stop_on_nan=options.stop_on_nan,
        reads_from=script.working_folder if script else "",
    )
    own = spec.own_variables(has_key=has_key)
    chosen = resources.selection.variables()
    return options.proxies() | variables.environment(facts) | options.variables() | chosen | own


def _image(
    client: "DockerClient",
    options: Request,
    project: Project,
    resources: Resources,
    say: Callable[[str], None],
) -> Image:
    """Return the image: --image, or this checkout's with the script added."""
    if options.image:
        image = registry.obtain(client, options.image, say)
    else:
        image = build.ensure(client, project, cuda=options.cuda, say=say)
    image = registry.confirm(image)
    devices.check(client, resources.selection, image, options.cuda)
    script = _script(options) if options.is_script else None
    folder = script.root if script else project.state
    wanted = _packages(options, script)
    image = package_layer.derive(client, project, folder, wanted, image, say)
    if script is None:
        return image
    facts = identity.facts(client, identity.look_up(client, image.reference))
    source_check.check(script, image.reference, facts)
    if options.mount_code:
        return image
    return script_layer.derive(client, project, script, image, say)


def _packages(options: Request, script: Script | None) -> Packages:
    """Return the packages to add: those of --with, and those of the script's project."""
    if script is None:
        return wanted_packages.given(options.with_)
    return wanted_packages.of(script.root, options.with_)


def _script(options: Request) -> Script:
    """Return the script; a data folder in its project is data, and the output is none of it."""
    folders = (folder.path for folder in data.parse(options.data, follow_links=False))
    excluded = (*folders, Path(options.output))
    return user_code.find(request.script_path(options), options.project_dir, excluded)


def _code(options: Request, state: git.GitState) -> Code:
    return Code(
        kind="script" if options.is_script else "recipe",
        target=options.target,
        where="mounted" if options.is_script and options.mount_code else "image",
        git_commit=state.commit,
        git_dirty=state.dirty,
        patch_sha256=state.patch_sha256,
    )


def _source(options: Request, project: Project) -> Path:
    if options.is_script:
        return _script(options).root
    return project.root


def _topology(options: Request, resources: Resources) -> Topology:
    procs = options.procs or resources.procs
    return Topology(
        gpus=resources.selection.asked,
        procs=procs,
        nodes=options.place.count,
        least_nodes=options.place.least,
        node_rank=options.place.rank,
        rendezvous=options.place.endpoint or None,
        shm_size=_shared_memory(options, resources),
        threads=_threads(options, procs),
    )


def _shared_memory(options: Request, resources: Resources) -> str:
    procs = options.procs or resources.procs
    return options.shm_size or memory.shared_memory(procs, os.cpu_count() or 1)


def _threads(options: Request, procs: int) -> int:
    """Return the threads of each process: the user's number, else a share of the cores."""
    number = options.variables().get(result_variables.THREADS)
    return int(number) if number else hardware.threads_per_process(procs)


def unbuilt(reference: str) -> Image:
    """Return a placeholder for an image that was not looked up, for `--dry` without an engine."""
    return Image(
        reference=reference,
        digest="0" * 64,
        digest_kind="manifest",
        layers_digest="",
        store="containerd",
        platform="linux/amd64",
        base=Base(reference="", origin="unknown"),
    )


def dry(options: Request, project: Project, *, has_key: bool) -> ContainerSpec:
    """Return the launch; the image's digest is looked up only if an engine responds."""
    resources = look_up(options, project, check_early(options, project), None)
    image = _image_if_known(options, project)
    folder = Path(options.output).expanduser().resolve() / resources.name
    return plan(options, resources, image, folder, has_key=has_key)


def _image_if_known(options: Request, project: Project) -> Image:
    from samerun.core.errors import EngineMissing, EnginePermission

    reference = options.image or project.tag(options.cuda)
    try:
        return identity.identify(engine.connect(), reference)
    except (EngineMissing, EnginePermission, ImageNotFound):
        return unbuilt(reference)
