"""From what a user asked for to one launch and its record, everything checked."""

import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from samerun.core import checkpoint_policy, contract, hardware, placement, variables
from samerun.core.errors import ImageNotFound
from samerun.core.hardware import Gpu
from samerun.core.recipe_options import find_recipe, read_recipe
from samerun.core.record import Base, Code, Data, Image, Mount, Outcome, Run, Topology
from samerun.core.variables import Facts
from samerun.host.checkout import git
from samerun.host.checkout.project import Project, tag
from samerun.host.container import docker_args, spec
from samerun.host.container.spec import ContainerSpec
from samerun.host.image import build, identity, registry, script_layer
from samerun.host.launch import data, request
from samerun.host.launch.request import Request
from samerun.host.machine import engine, gpus, memory, network, user
from samerun.host.run.folders import free_folder
from samerun.host.tracking import keys

if TYPE_CHECKING:
    from docker import DockerClient


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A launch, its record and the patch over the checkout's commit."""

    spec: ContainerSpec
    run: Run
    folder: Path
    patch: bytes
    # The folder is there already, with an earlier start of this very run in it.
    resumes: bool = False


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What was looked up for a request before the image."""

    data: Data | None
    selection: gpus.Selection
    name: str
    downloads: bool

    @property
    def procs(self) -> int:
        """One process per GPU, or one on the CPU, unless asked otherwise."""
        return max(1, len(self.selection.gpus))


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was found while a request was checked: data files and this machine's GPUs."""

    files: tuple[Path, ...]
    gpus: tuple[Gpu, ...]


def check_early(asked: Request, project: Project) -> Checked:
    """Refuse what is seen to be wrong without an engine, at once: no data is hashed."""
    request.check_request(asked)
    if asked.is_script:
        script = script_layer.find(request.script_path(asked))
        if asked.mount_code:
            code = [script.folder / path for path in script_layer.list_files(script.folder)]
            data.check_readable(code, user.of_container())
    elif asked.image is None:
        read_recipe(find_recipe(project.recipes, asked.target)).parse(asked.arguments)
    files = data.list_files(Path(asked.data)) if asked.data is not None else []
    data.check_readable(files, user.of_container())
    found = hardware.probe()
    gpus.select(asked.gpus_or_cpu(), found, runtime=True)
    return Checked(files=tuple(files), gpus=found)


def look_up(asked: Request, project: Project, checked: Checked, *, runtime: bool) -> Resources:
    """Return data, GPUs and name for *asked*, which `check_early` let through."""
    found_data = None
    if asked.data is not None:
        found_data = data.fingerprint_folder(Path(asked.data), checked.files)
    selection = gpus.select(asked.gpus_or_cpu(), checked.gpus, runtime=runtime)
    return Resources(
        data=found_data,
        selection=selection,
        name=run_name(asked),
        downloads=_may_download(asked, project),
    )


def _may_download(asked: Request, project: Project) -> bool:
    """Whether the training may fetch something; of another image's code nothing is known."""
    if asked.is_script or asked.image is not None:
        return True
    return read_recipe(find_recipe(project.recipes, asked.target)).downloads


def run_name(asked: Request) -> str:
    """Return the run's name: as given, or the target's with time and four random digits."""
    if asked.name:
        return asked.place.named(asked.name)
    stem = Path(asked.target).stem
    name = f"{stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    return asked.place.named(name)


def prepare(
    client: "DockerClient",
    asked: Request,
    project: Project,
    checked: Checked,
    key: keys.Key | None,
    say: Callable[[str], None],
) -> Prepared:
    """Build what is missing for *asked*, which `check_early` let through; write only images."""
    facts = engine.inspect(client)
    found = look_up(asked, project, checked, runtime=facts.serves_gpus)
    folder = free_folder(Path(asked.output), found.name)
    created = datetime.now(UTC)
    image = _image(client, asked, project, found, say)
    state = git.state_of(_source(asked, project))
    run = Run(
        name=found.name,
        image=image,
        code=_code(asked, state),
        command=asked.command(),
        arguments=(),
        seed=asked.seed,
        topology=_topology(asked, found),
        data=(found.data,) if found.data else (),
        secrets=("WANDB_API_KEY",) if key else (),
        hardware=hardware.describe(found.selection.gpus, f"Docker {facts.version}"),
        outcome=Outcome(created=created.isoformat(timespec="milliseconds")),
        determinism="fast" if asked.fast else "full",
    )
    return Prepared(
        spec=plan(asked, found, image, folder, has_key=key is not None),
        run=run,
        folder=folder,
        patch=state.patch,
    )


def plan(
    asked: Request, found: Resources, image: Image, folder: Path, *, has_key: bool
) -> ContainerSpec:
    """Return the container of *asked* as data; nothing is written or started."""
    script = script_layer.find(request.script_path(asked)) if asked.is_script else None
    mounts = [Mount(source=str(folder), target=contract.OUTPUT, read_only=False)]
    if found.data:
        mounts.append(Mount(source=found.data.source, target=contract.DATA))
    if script and asked.mount_code:
        mounts.append(Mount(source=str(script.folder), target=contract.CODE))
    uid, gid = user.of_container()
    settings = asked.wandb_settings()
    return ContainerSpec(
        run=found.name,
        image=image.reference,
        user=f"{uid}:{gid}",
        target=script.target if script else asked.target,
        arguments=asked.arguments,
        procs=asked.procs or found.procs,
        seed=asked.seed,
        shm_size=asked.shm_size,
        mounts=tuple(mounts),
        environment=_environment(asked, found, image, has_key=has_key),
        gpus=found.selection.flag,
        network=network.choose(
            asked.network or (placement.NETWORK if asked.place.count > 1 else None),
            none=asked.no_network,
            online=variables.wandb_is_online(settings.get("WANDB_MODE"), has_key=has_key),
            downloads=found.downloads,
        ),
        pids_limit=asked.pids_limit,
        memory=memory.memory_limit(asked.memory),
        docker_args=docker_args.parse(asked.docker_arg),
        place=asked.place,
    )


def _environment(
    asked: Request, found: Resources, image: Image, *, has_key: bool
) -> dict[str, str]:
    facts = Facts(
        image=image.reference,
        tags=request.all_tags(asked, image.digest),
        forwarded={"WANDB_NAME": found.name, **asked.wandb_settings()},
        online=has_key,
        has_data=found.data is not None,
        has_terminal=sys.stdout.isatty(),
        seed=asked.seed,
        checkpoints=checkpoint_policy.variable(asked.checkpoints),
        fast=asked.fast,
        stop_on_nan=asked.stop_on_nan,
    )
    own = spec.own_variables(has_key=has_key)
    return asked.proxies() | variables.environment(facts) | own


def _image(
    client: "DockerClient",
    asked: Request,
    project: Project,
    found: Resources,
    say: Callable[[str], None],
) -> Image:
    """Return the very image to run in: the one named, or this checkout's, plus the script."""
    if asked.image:
        image = registry.obtain(client, asked.image, say)
    else:
        image = build.ensure(client, project, cuda=asked.cuda, say=say)
    image = registry.confirm(image)
    facts = identity.architectures(client, image.reference)
    gpus.check_support(
        found.selection.gpus, image.cuda or asked.cuda, facts.get("architectures", ())
    )
    if not asked.is_script or asked.mount_code:
        return image
    script = script_layer.find(request.script_path(asked))
    return script_layer.derive(client, project, script, image, say)


def _code(asked: Request, state: git.GitState) -> Code:
    return Code(
        kind="script" if asked.is_script else "recipe",
        target=asked.target,
        where="mounted" if asked.is_script and asked.mount_code else "image",
        git_commit=state.commit,
        git_dirty=state.dirty,
        patch_sha256=state.patch_sha256,
    )


def _source(asked: Request, project: Project) -> Path:
    if asked.is_script:
        return script_layer.find(request.script_path(asked)).folder
    return project.root


def _topology(asked: Request, found: Resources) -> Topology:
    procs = asked.procs or found.procs
    return Topology(
        gpus=found.selection.asked,
        procs=procs,
        nodes=asked.place.count,
        least_nodes=asked.place.least,
        node_rank=asked.place.rank,
        rendezvous=asked.place.endpoint or None,
        shm_size=asked.shm_size,
        threads=hardware.threads_per_process(procs),
    )


def unbuilt(reference: str) -> Image:
    """Return a stand-in for an image that was not looked up: `--dry` needs no engine."""
    return Image(
        reference=reference,
        digest="0" * 64,
        digest_kind="manifest",
        layers_digest="",
        store="containerd",
        platform="linux/amd64",
        base=Base(reference="", origin="unknown"),
    )


def dry(asked: Request, project: Project, *, has_key: bool) -> ContainerSpec:
    """Return the launch without any engine; the image's digest is looked up if one answers."""
    found = look_up(asked, project, check_early(asked, project), runtime=True)
    image = _image_if_known(asked, project)
    folder = Path(asked.output).expanduser().resolve() / found.name
    return plan(asked, found, image, folder, has_key=has_key)


def _image_if_known(asked: Request, project: Project) -> Image:
    from samerun.core.errors import EngineMissing, EnginePermission

    reference = asked.image or tag(asked.cuda)
    try:
        return identity.identify(engine.connect(), reference)
    except (EngineMissing, EnginePermission, ImageNotFound):
        return unbuilt(reference)
