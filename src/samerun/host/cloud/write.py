"""`invoke cloud`: from options to a file, and on request to the engine's own command."""

import dataclasses
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from samerun import contract
from samerun.errors import NotPullable, TransferFailed, UsageError
from samerun.host import engine, git, identity, keys, registry, request
from samerun.host.cloud import check, k8s, sky, vm
from samerun.host.cloud.request import ENGINES, Asked, Engine, parse_gpus, parse_place
from samerun.host.cloud.request import check as check_request
from samerun.host.project import Project, tag
from samerun.options import find_recipe, read_recipe

RENDER: Mapping[Engine, Callable[[Asked], str]] = {
    "sky": sky.render,
    "k8s": k8s.render,
    "vm": vm.render,
}
PROGRAM: Mapping[Engine, str] = {"sky": "sky", "k8s": "kubectl"}
SUFFIX: Mapping[Engine, str] = {"sky": "sky.yaml", "k8s": "k8s.yaml", "vm": "cloud-init.yaml"}
# What belongs to one run, and is set for it.
OWN = ("WANDB_NAME", "WANDB_TAGS", "WANDB_MODE")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `invoke cloud`, as typed."""

    engine: str
    recipe: str = "digits"
    arguments: tuple[str, ...] = ()
    image: str | None = None
    cuda: str = "13"
    gpus: str | None = None
    nodes: int = 1
    procs: int | None = None
    spot: bool = False
    data: str | None = None
    output: str | None = None
    name: str | None = None
    project: str | None = None
    entity: str | None = None
    tags: tuple[str, ...] = ()
    seed: int = contract.DEFAULT_SEED
    shm_size: str = "16g"
    offline: bool = False
    source: str | None = None
    login_command: str | None = None
    key_command: str | None = None
    unchecked: bool = False


def read(options: Options, project: Project) -> Asked:
    """
    Return what is to be written, everything checked.

    Raises:
        UsageError, TagError: An option does not fit.
        UnknownAccelerator: The engine knows no such GPU.
        NotPullable: No registry serves the image.
    """
    engine_name = _engine(options.engine)
    gpus = parse_gpus(options.gpus)
    check.accelerator(gpus.name, check.known_accelerators(engine_name))
    if engine_name == "sky" and gpus.number and not gpus.name:
        raise UsageError("SkyPilot looks for machines by their GPU.", "Use --gpus L4:1, say.")
    for one in options.tags:
        request.check_tag(one)
    _check_recipe(options, project)
    asked = Asked(
        engine=engine_name,
        # Looked up last: it may take a registry's time.
        image="",
        target=options.recipe,
        arguments=options.arguments,
        gpus=gpus,
        nodes=options.nodes,
        procs=options.procs or max(1, gpus.number),
        spot=options.spot,
        data=parse_place("--data", options.data),
        output=parse_place("--output", options.output),
        name=options.name or _name(options.recipe),
        seed=options.seed,
        shm_size=options.shm_size,
        tags=options.tags,
        settings=_settings(options),
        offline=options.offline,
        commit=git.describe(project.root).commit,
        source=options.source or git.origin(project.root),
        login_command=options.login_command,
        key_command=options.key_command,
    )
    check_request(asked)
    return dataclasses.replace(asked, image=_image(options))


def _engine(name: str) -> Engine:
    for known in ENGINES:
        if name == known:
            return known
    raise UsageError(f"No engine is called {name!r}.", f"Use one of {', '.join(ENGINES)}.")


def _check_recipe(options: Options, project: Project) -> None:
    """Parse the recipe's flags as the container will; of a script nothing is known."""
    if not options.recipe.endswith(".py"):
        read_recipe(find_recipe(project.recipes, options.recipe)).parse(options.arguments)


def _name(recipe: str) -> str:
    stem = Path(recipe).stem.lower().replace("_", "-")[:30]
    return f"{stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def _settings(options: Options) -> dict[str, str]:
    found = {n: os.environ[n] for n in contract.FORWARDED if os.environ.get(n, "").strip()}
    given = {"WANDB_PROJECT": options.project, "WANDB_ENTITY": options.entity}
    kept = {name: value for name, value in found.items() if name not in OWN}
    return kept | {name: value for name, value in given.items() if value}


def _image(options: Options) -> str:
    """Return ``NAME@sha256:…``, the one given or this checkout's, after asking its registry."""
    if options.image and options.unchecked:
        registry.split(options.image)
        return options.image
    client = engine.connect()
    reference = options.image or identity.identify(client, tag(options.cuda)).pull_reference
    if reference is None:
        raise NotPullable(
            "This checkout's image is in no registry.",
            "Push it with `invoke push --registry HOST/NAME`.",
        )
    check.pullable(client, reference)
    return reference


def write(asked: Asked, file: str | None, project: Project) -> Path:
    """Write the file for *asked*, and return its path: *file*, or one under ``.samerun/cloud``."""
    path = Path(file) if file else project.state / "cloud" / f"{asked.name}.{SUFFIX[asked.engine]}"
    path = path.expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(RENDER[asked.engine](asked), encoding="utf-8")
    return path


def command(asked: Asked, path: Path) -> list[str]:
    """Return what hands the file to its engine; the key goes by its name alone."""
    match asked.engine:
        case "sky":
            secret = [] if asked.offline else ["--secret", "WANDB_API_KEY"]
            return ["sky", "jobs", "launch", "--yes", "--detach-run", *secret, str(path)]
        case "k8s":
            return ["kubectl", "apply", "--filename", str(path)]
        case "vm":
            raise UsageError(
                f"A VM is made by its provider's own command; the file is {path}.",
                "docs/cloud.md has the lines, e.g. `gcloud compute instances create NAME "
                f"--metadata-from-file user-data={path}`.",
            )


def launch(asked: Asked, path: Path, say: Callable[[str], None]) -> None:
    """
    Hand the file to its engine.

    Raises:
        CloudEngineMissing, NoCredentials: There is nobody to hand it to.
        TransferFailed: The engine's command refused it.
    """
    line = command(asked, path)
    check.engine(PROGRAM[asked.engine])
    say(f"$ {' '.join(line)}")
    code = _call(line, _key(asked))
    if code:
        raise TransferFailed(
            f"`{line[0]}` refused the file {path} (exit code {code}).", "It says above why."
        )


def _key(asked: Asked) -> dict[str, str]:
    """Return the key's variable for SkyPilot, which takes the value from there."""
    key = None if asked.offline or asked.engine != "sky" else keys.find()
    return {"WANDB_API_KEY": key.value} if key else {}


def _call(line: Sequence[str], variables: Mapping[str, str]) -> int:
    return subprocess.run(line, env=os.environ | variables, check=False).returncode
