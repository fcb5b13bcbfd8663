"""`invoke cloud`: write a file from the options, and optionally pass it to the engine."""

import dataclasses
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from samerun.core import contract, user_variables
from samerun.core.errors import (
    DataError,
    KeyFileError,
    NotPullable,
    OutputError,
    TransferFailed,
    UsageError,
)
from samerun.core.recipe_options import find_recipe, read_recipe
from samerun.host.checkout import git
from samerun.host.checkout.project import Project
from samerun.host.cloud import check, k8s, labels, sky, vm
from samerun.host.cloud.options import CloudOptions
from samerun.host.cloud.request import (
    ENGINES,
    CloudRequest,
    Engine,
    Location,
    parse_data,
    parse_gpus,
    parse_place,
)
from samerun.host.cloud.request import check_cloud_request as check_request
from samerun.host.image import identity
from samerun.host.machine import engine
from samerun.host.tracking import keys, server, tags

RENDER: Mapping[Engine, Callable[[CloudRequest], str]] = {
    "sky": sky.render,
    "k8s": k8s.render,
    "vm": vm.render,
}
PROGRAM: Mapping[Engine, str] = {"sky": "sky", "k8s": "kubectl"}
SUFFIX: Mapping[Engine, str] = {"sky": "sky.yaml", "k8s": "k8s.yaml", "vm": "cloud-init.yaml"}
# Variables that are set for each run, so they are not forwarded.
OWN = ("WANDB_NAME", "WANDB_TAGS", "WANDB_MODE")


def read(options: CloudOptions, project: Project) -> CloudRequest:
    """
    Return the request, fully checked.

    Raises:
        UsageError, TagError: An option is invalid.
        UnknownAccelerator: The engine has no GPU with this name.
        NotPullable: No registry serves the image.
    """
    engine_name = _engine(options.engine)
    gpus = parse_gpus(options.gpus)
    gpus = dataclasses.replace(gpus, name=_gpu(engine_name, gpus.name))
    if engine_name == "sky" and gpus.number and not gpus.name:
        raise UsageError(
            f"--gpus {options.gpus}: SkyPilot requires the name of the GPU.",
            f"Give it, as in --gpus L4:{gpus.number}.",
        )
    for one in tags.split_tags(options.tags):
        tags.check_tag(one)
    _check_recipe(options, project)
    state = git.state_of(project.root)
    request = CloudRequest(
        engine=engine_name,
        # Looked up last, because a registry may be slow.
        image="",
        target=options.recipe,
        arguments=options.arguments,
        gpus=gpus,
        cpus=options.cpus,
        memory=options.memory,
        nodes=options.nodes,
        procs=max(1, gpus.number) if options.procs is None else options.procs,
        spot=options.spot,
        data=_data(engine_name, options.data),
        output=parse_place("--output", options.output),
        name=options.name or _name(options.recipe),
        seed=options.seed,
        shm_size=options.shm_size,
        tags=tags.split_tags(options.tags),
        settings=_settings(options),
        variables=user_variables.parse(options.env),
        offline=options.offline,
        commit=state.commit,
        dirty=bool(state.commit and state.dirty),
        fingerprint=not options.no_fingerprint,
        account=options.service_account,
        pull_secret=options.pull_secret,
        runtime_class=options.runtime_class,
        source=options.source or git.origin(project.root),
        login_command=options.login_command,
        key_command=options.key_command,
    )
    check_request(request)
    return dataclasses.replace(request, image=_image(options, project))


def _gpu(engine_name: Engine, name: str) -> str:
    """Return the name of a GPU as the engine spells it."""
    known = check.known_accelerators(engine_name)
    if engine_name != "k8s":
        return check.accelerator(name, known)
    base, suffix = labels.split(name)
    return name if labels.PRODUCT.fullmatch(base) else check.accelerator(base, known) + suffix


def _data(engine_name: Engine, texts: Sequence[str]) -> tuple[Location, ...]:
    places = parse_data(texts)
    if engine_name != "sky":
        return places
    return tuple(
        dataclasses.replace(uploaded(place.name), label=place.label)
        if place.kind == "path"
        else place
        for place in places
    )


def uploaded(folder: str) -> Location:
    """
    Return the full path of *folder*, which SkyPilot uploads from this machine.

    Raises:
        DataError: The folder does not exist.
    """
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise DataError(
            f"--data {folder}: the folder {path}, which SkyPilot would upload, does not exist.",
            "Give a folder on this machine, or a bucket, s3://… or gs://….",
        )
    return Location(kind="path", name=str(path))


def _engine(name: str) -> Engine:
    for known in ENGINES:
        if name == known:
            return known
    raise UsageError(f"Unknown engine: {name!r}.", f"Use one of {', '.join(ENGINES)}.")


def _check_recipe(options: CloudOptions, project: Project) -> None:
    """Parse the recipe's flags as the container does; a script's flags can't be checked."""
    if not options.recipe.endswith(".py"):
        read_recipe(find_recipe(project.recipes, options.recipe)).parse(options.arguments)


def _name(recipe: str) -> str:
    stem = Path(recipe).stem.lower().replace("_", "-")[:30]
    return f"{stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def _settings(options: CloudOptions) -> dict[str, str]:
    names = [name for name in contract.FORWARDED if name not in OWN]
    inherited = {name: os.environ[name] for name in names if os.environ.get(name, "").strip()}
    explicit = {"WANDB_PROJECT": options.project, "WANDB_ENTITY": options.entity}
    return inherited | {name: value for name, value in explicit.items() if value}


def _image(options: CloudOptions, project: Project) -> str:
    """Return ``NAME@sha256:…``, as given or of this checkout, checked with its registry."""
    if options.image:
        check.reference(options.image)
    if options.image and options.no_check:
        return options.image
    client = engine.connect()
    own = project.tag(options.cuda)
    reference = options.image or identity.identify(client, own).pull_reference
    if reference is None:
        raise NotPullable(
            "This checkout's image is in no registry.",
            "Push it with `invoke push --registry HOST/NAME`.",
        )
    check.reference(reference)
    if not options.no_check:
        check.pullable(client, reference)
    return reference


def write(request: CloudRequest, file: str | None, project: Project) -> Path:
    """
    Write the file for *request* to *file*, or to ``.samerun/cloud``, and return its path.

    Raises:
        OutputError: The file can't be written.
    """
    path = (
        Path(file) if file else project.state / "cloud" / f"{request.name}.{SUFFIX[request.engine]}"
    )
    path = path.expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(RENDER[request.engine](request), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{path} can't be written: {error.strerror}.", "Give another --file."
        ) from error
    return path


def command(request: CloudRequest, path: Path) -> list[str]:
    """Return the command that passes the file to its engine; it names secrets, not values."""
    match request.engine:
        case "sky":
            names = [] if request.offline else ["WANDB_API_KEY"]
            names += [name for name in sky.REGISTRY_LOGIN if os.environ.get(name)]
            secrets = [word for name in names for word in ("--secret", name)]
            return ["sky", "jobs", "launch", "--yes", "--detach-run", *secrets, str(path)]
        case "k8s":
            return ["kubectl", "apply", "--filename", str(path)]
        case "vm":
            raise UsageError(
                f"--launch does not create VMs. The file was written: {path}.",
                "Use your provider's command (see docs/cloud.md), e.g. `gcloud compute instances "
                f"create NAME --metadata-from-file user-data={path}`.",
            )


def launch(request: CloudRequest, path: Path, say: Callable[[str], None]) -> None:
    """
    Pass the file to its engine.

    Raises:
        CloudEngineMissing, NoCredentials: The engine is not installed, or has no access.
        KeyFileError: There is no W&B key to pass to SkyPilot.
        TransferFailed: The engine's command failed.
    """
    line = command(request, path)
    check.engine(PROGRAM[request.engine])
    key = _key(request)
    say(f"$ {' '.join(line)}")
    code = _call(line, key)
    if code:
        raise TransferFailed(
            f"`{line[0]}` failed on the file {path} with exit code {code}.",
            "Fix the error that it printed above, and run the command again.",
        )


def _key(request: CloudRequest) -> dict[str, str]:
    """Return the variable from which SkyPilot takes the key's value."""
    if request.offline or request.engine != "sky":
        return {}
    key = keys.find()
    if key is None:
        raise KeyFileError(
            f"No W&B key for {server.host()} found to pass to SkyPilot.",
            "Set WANDB_API_KEY, log in with `wandb login`, or pass --offline.",
        )
    return {"WANDB_API_KEY": key.value}


def _call(line: Sequence[str], variables: Mapping[str, str]) -> int:
    return subprocess.run(line, env=os.environ | variables, check=False).returncode
