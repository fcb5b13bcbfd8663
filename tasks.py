"""The verbs of samerun. Each parses its options, calls one function, and prints."""

import os
import shlex
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from samerun.errors import SamerunError
from samerun.host import positional, request
from samerun.host.project import Project
from samerun.host.project import tag as project_tag

PROJECT = Project(root=Path(__file__).resolve().parent)
positional.install()
positional.optional("train", "target", "digits")
for _verb in ("inspect", "push", "save"):
    positional.optional(_verb, "image", "")


def say(text: str = "") -> None:
    """Print at once, in order with what containers print."""
    print(text, flush=True)  # noqa: T201 - the one place where the host side prints


def reports_errors(verb: Callable[..., None]) -> Callable[..., None]:
    """Show our errors as text, and exit with their code."""

    @wraps(verb)
    def inner(*args: Any, **kwargs: Any) -> None:
        try:
            verb(*args, **kwargs)
        except SamerunError as error:
            raise Exit(f"{type(error).__name__}: {error}", error.exit_code) from error
        except BrokenPipeError as error:
            # `invoke … | head`: the reader has gone, and the rest has nowhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Exit(code=128 + signal.SIGPIPE) from error
        except KeyboardInterrupt as error:
            raise Exit("Interrupted.", 130) from error

    return inner


@task(auto_shortflags=False, help={"dry": "only say what would be done"})
@reports_errors
def setup(context: Context, dry: bool = False) -> None:
    """
    Bring a bare Debian or Ubuntu machine to a running Docker Engine.

    Installs and starts an engine where none answers, the NVIDIA container toolkit
    where there is a GPU, and what bootstrapping a base needs where no registry
    answers. Changes nothing where all that is there.
    """
    from samerun.host import setup as machine

    machine.setup(PROJECT, say, dry=dry)


@task(
    auto_shortflags=False,
    help={
        "cuda": "CUDA release: 13, 12 (for drivers older than 580) or none (CPU only)",
        "base": "auto, pulled or bootstrapped",
        "no-cache": "build every layer again",
        "frozen": "fail unless the image is the one of image.lock.json",
        "json": "print the identity as JSON",
    },
)
@reports_errors
def build(
    context: Context,
    cuda: str = "13",
    base: str = "auto",
    no_cache: bool = False,
    frozen: bool = False,
    json: bool = False,
) -> None:
    """
    Build the image, print its identity, and write it to image.lock.json.

    Does nothing if the image of these very sources, locks and base is here.
    """
    from samerun.host import imagelock, report

    tell = report.to_stderr if json else say
    request.check_choices(cuda=cuda, base=base)
    image = imagelock.build(
        PROJECT, cuda=cuda, base_choice=base, no_cache=no_cache, frozen=frozen, say=tell
    )
    say(report.to_json(image) if json else report.identity(image))


@task(
    auto_shortflags=False,
    help={"cuda": "CUDA release of this checkout's image", "json": "print both identities"},
)
@reports_errors
def verify(context: Context, cuda: str = "13", json: bool = False) -> None:
    """
    Build base and image again from nothing, and compare.

    Other folder, other file times, nothing cached, packages downloaded anew: the same
    digest, or the first files that differ.
    """
    from samerun.host import engine, report
    from samerun.host import verify as verifier

    request.check_choices(cuda=cuda)
    verdict = verifier.verify(engine.connect(), PROJECT, cuda, report.to_stderr if json else say)
    say(report.to_json(verdict) if json else report.verdict(verdict))


@task(
    auto_shortflags=False,
    positional=["image"],
    help={
        "image": "a tag, a digest or an ID; default: the image of this checkout",
        "cuda": "CUDA release of this checkout's image",
        "packages": "list every package, not only the largest",
        "sbom": "print the software bill of materials, CycloneDX JSON",
        "json": "print everything as JSON",
    },
)
@reports_errors
def inspect(
    context: Context,
    image: str | None = None,
    cuda: str = "13",
    packages: bool = False,
    sbom: bool = False,
    json: bool = False,
) -> None:
    """Show what an image is and holds: digests, labels, layers, packages with licences."""
    from samerun.host import engine
    from samerun.host import inspect as inspector

    reference, client = image or project_tag(cuda), engine.connect()
    if sbom:
        say(inspector.sbom(client, reference).rstrip())
        return
    found = inspector.inspect(client, reference)
    if json:
        say(inspector.to_json(found))
    else:
        inspector.show(found, everything=packages)


@task(
    auto_shortflags=False,
    positional=["image"],
    help={
        "image": "a tag, a digest, an ID or a run's folder; default: the image of this checkout",
        "registry": "where to, HOST[:PORT]/NAME; default: SAMERUN_REGISTRY",
        "cuda": "CUDA release of this checkout's image",
        "json": "print the identity as JSON",
    },
)
@reports_errors
def push(
    context: Context,
    image: str | None = None,
    registry: str | None = None,
    cuda: str = "13",
    json: bool = False,
) -> None:
    """
    Push an image to a registry, with its provenance, and read its digest back.

    Prints NAME@sha256:…, by which any machine gets this very image.
    """
    from samerun.host import engine, report
    from samerun.host import push as pusher

    tell = report.to_stderr if json else say
    pushed = pusher.push(engine.connect(), image or project_tag(cuda), registry, tell)
    say(report.to_json(pushed) if json else str(pushed.pull_reference))


@task(auto_shortflags=False, positional=["reference"], help={"reference": "NAME@sha256:…"})
@reports_errors
def pull(context: Context, reference: str) -> None:
    """Pull an image by its digest; a tag is refused, it may be another image tomorrow."""
    from samerun.host import engine, registry, report

    say(report.identity(registry.pull(engine.connect(), reference, say)))


@task(
    auto_shortflags=False,
    positional=["image"],
    help={
        "image": "a tag, a digest or an ID; default: the image of this checkout",
        "file": "the archive to write; default: samerun-DIGEST.tar",
        "cuda": "CUDA release of this checkout's image",
    },
)
@reports_errors
def save(
    context: Context, image: str | None = None, file: str | None = None, cuda: str = "13"
) -> None:
    """Write an image and its identity to a file, for machines without a registry."""
    from samerun.host import archive, engine, identity

    client = engine.connect()
    found = identity.identify(client, image or project_tag(cuda))
    path = Path(file or f"samerun-{found.digest[:12]}.tar").expanduser()
    archive.save(client, found, path, say)
    say(f"{path}  {path.stat().st_size / 1e6:.0f} MB  {found.digest}")


@task(auto_shortflags=False, positional=["file"], help={"file": "what `invoke save` wrote"})
@reports_errors
def load(context: Context, file: str) -> None:
    """Load an image that `invoke save` wrote, and check that it is the one."""
    from samerun.host import archive, engine, report

    say(report.identity(archive.load(engine.connect(), Path(file).expanduser(), say)))


@task(
    auto_shortflags=False,
    help={
        "image": "a tag, a digest or an ID; default: the image of this checkout",
        "cuda": "CUDA release of this checkout's image",
        "json": "print every digest, by name",
    },
)
@reports_errors
def digest(
    context: Context, image: str | None = None, cuda: str = "13", json: bool = False
) -> None:
    """Print the image's digest alone: 64 hexadecimal digits, the tag of its W&B runs."""
    from samerun.host import engine, identity, report

    found = identity.identify(engine.connect(), image or project_tag(cuda))
    say(report.to_json(found) if json else found.digest)


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

    Flags of the recipe or the script come after --. Builds the image first if it is
    not up to date. Without a W&B key the run is recorded offline. Exits with the
    training's own exit code.
    """
    from samerun.host import train as trainer

    request.check_choices(cuda=cuda)
    asked = request.Request(
        target=target or "digits",
        arguments=request.split_remainder(sys.argv),
        gpus=gpus,
        procs=procs or None,
        data=data,
        output=output,
        project=project,
        entity=entity,
        name=name,
        tags=request.split_tags(tags),
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
    )
    if dry:
        say(trainer.show(asked, PROJECT))
        return
    run = trainer.train(asked, PROJECT, say)
    say()
    say(trainer.summarise(run, Path(output).expanduser().resolve() / run.name))
    if run.outcome.exit_code:
        raise Exit(code=run.outcome.exit_code)


@task(
    auto_shortflags=False,
    positional=["run"],
    help={
        "run": "the run's folder, or its name under runs/",
        "api-key-file": "file with the W&B key",
        "network": "Docker network of the container",
    },
)
@reports_errors
def sync(
    context: Context, run: str, api_key_file: str | None = None, network: str | None = None
) -> None:
    """Upload a run that was recorded offline to W&B, from inside its own image."""
    from samerun.host import sync as syncer
    from samerun.host.train import folder_of

    key_file = Path(api_key_file).expanduser() if api_key_file else None
    for delivered in syncer.sync(folder_of(run), key_file, network):
        say(f"delivered {delivered}")


@task(auto_shortflags=False)
@reports_errors
def recipes(context: Context) -> None:
    """List the recipes with their flags."""
    from samerun.options import list_recipes

    for recipe in list_recipes(PROJECT.recipes):
        say(f"{recipe.name}: {recipe.summary}\n{recipe.usage()}\n")


@task(auto_shortflags=False)
@reports_errors
def doctor(context: Context) -> None:
    """Check everything that a run needs; each line says ok, or what mends it."""
    from samerun.host import doctor as physician

    findings = []
    for finding in physician.examine(PROJECT):
        findings.append(finding)
        say(physician.line(finding))
    if any(finding.mend and not finding.optional for finding in findings):
        raise Exit(code=1)


@task(
    auto_shortflags=False,
    help={
        "upgrade": "take the newest versions that fit together",
        "cpu-index": "package index with torch's CPU builds: lock the CPU-only image from it",
    },
)
@reports_errors
def lock(context: Context, upgrade: bool = False, cpu_index: str | None = None) -> None:
    """Refresh uv.lock and the locks read off it, and pin the base's tag to its digest of today."""
    from samerun.host import lock as locker

    locker.lock(PROJECT, say, upgrade=upgrade, cpu_index=cpu_index)


@task(
    auto_shortflags=False,
    help={
        "licences": "list the licence of every package in the image instead",
        "image": "the image whose licences to list; default: this checkout's",
        "cuda": "CUDA release of this checkout's image",
        "service": "address of a mirror of api.osv.dev",
    },
)
@reports_errors
def audit(
    context: Context,
    licences: bool = False,
    image: str | None = None,
    cuda: str = "13",
    service: str | None = None,
) -> None:
    """
    Ask whether a locked package has a known vulnerability, or list licences.

    What is let pass stands in audit.toml, with the reason and a last day.
    """
    from samerun.host import audit as auditor
    from samerun.host import engine, inspect
    from samerun.host.project import tag

    if not licences:
        auditor.vulnerabilities(PROJECT, say, service)
        return
    request.check_choices(cuda=cuda)
    packages = inspect.inspect(engine.connect(), image or tag(cuda)).packages
    for name, version, licence in auditor.licences(
        packages, auditor.read(PROJECT.root / auditor.FILE)
    ):
        say(f"{name} {version}: {licence}")


@task(
    auto_shortflags=False,
    help={
        "fast": "only what needs no engine: style, types, unit tests",
        "k": "pytest's -k, for the tests on the host",
    },
)
@reports_errors
def test(context: Context, fast: bool = False, k: str = "") -> None:
    """
    Run all checks: style, types, host tests, then those inside the image.

    Fast ones first; the tests of the callback and of training run in the image
    itself with pytest on top, the others drive a real engine.
    """
    from samerun.host import checks

    code = checks.run(PROJECT, say, fast=fast, select=shlex.split(f"-k {k!r}") if k else [])
    if code:
        raise Exit(code=code)


namespace = Collection(
    *(setup, build, verify, inspect, audit, digest, push, pull, save, load),
    *(train, sync, recipes, doctor, lock, test),
)
