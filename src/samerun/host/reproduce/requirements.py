"""What a run needs to be made again, and whether each is there: image, code, data, machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from samerun.core import contract, hardware
from samerun.core.errors import DataError, Irreproducible, SamerunError
from samerun.core.record import Data, Image
from samerun.host.image import registry, resolve
from samerun.host.launch import data
from samerun.host.machine import engine, gpus, user
from samerun.host.reproduce import rebuild
from samerun.host.reproduce.find_run import FoundRun

if TYPE_CHECKING:
    from docker import DockerClient

State = Literal["here", "to be pulled", "other", "missing"]


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One thing that a replay needs; *passable* is what ``--anyway`` lets through."""

    subject: str
    state: State
    detail: str
    remedy: str = ""
    passable: bool = False

    def blocks(self, *, anyway: bool) -> bool:
        """Whether the run can't be made again for this."""
        return self.state in ("missing", "other") and not (anyway and self.passable)


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What was found for a replay."""

    needs: tuple[Requirement, ...]
    data: Data | None
    selection: gpus.Selection | None
    source: rebuild.Source | None


def examine(client: "DockerClient", found: FoundRun, folder: str | None) -> Requirements:
    """Look for all that *found* needs; *folder* stands in for the data's recorded place."""
    image = look_for_image(client, found.run.image)
    code, source = _code(found)
    data_need, data_found = _data(found, folder)
    selection, device = _device(found, runtime=engine.inspect(client).serves_gpus)
    needs = (image, code, data_need, device, *_result(found))
    return Requirements(needs=needs, data=data_found, selection=selection, source=source)


def refuse(needs: tuple[Requirement, ...], *, anyway: bool) -> None:
    """
    Raise what stands in the way, all of it at once.

    Raises:
        Irreproducible: With every reason and its remedy.
    """
    blocking = tuple(need for need in needs if need.blocks(anyway=anyway))
    if blocking:
        raise refusal(blocking)


def refusal(blocking: tuple[Requirement, ...]) -> Irreproducible:
    """Return the error that names every reason and its remedy."""
    return Irreproducible(
        "This run can't be reproduced: "
        + "; ".join(f"{need.subject}: {need.detail}" for need in blocking)
        + ".",
        "\n".join(need.remedy for need in blocking if need.remedy),
    )


def look_for_image(client: "DockerClient", wanted: Image) -> Requirement:
    """Return whether the image is here, or a registry serves it; nothing is pulled."""
    found = resolve.local(client, wanted)
    if found is not None:
        return check_image(wanted, found)
    for source in resolve.sources(wanted):
        if registry.ask(client, source):
            return Requirement(subject="image", state="to be pulled", detail=source)
    return missing_image(wanted)


def missing_image(wanted: Image) -> Requirement:
    """Return the need for an image that nobody has, or that the record does not name."""
    if not wanted.reference:
        known = f"only its digest, sha256:{wanted.digest}" if wanted.digest else "none"
        return Requirement(
            subject="image",
            state="missing",
            detail=f"the container that wrote the record was told no image, and knew {known}",
            remedy=f"Start containers with -e {contract.ENV_IMAGE}=NAME@sha256:…: they record it.",
        )
    asked = resolve.sources(wanted)
    where = f"not here, and not served by {', '.join(asked)}" if asked else "not on this machine"
    return Requirement(
        subject="image",
        state="missing",
        detail=f"{wanted.reference} is {where}",
        remedy="Where it is, `invoke push` it to a registry that both machines reach and "
        "`invoke pull NAME@sha256:…` it here, or `invoke save` it there and `invoke load` it here.",
    )


def check_image(wanted: Image, found: Image) -> Requirement:
    """Return whether *found* is the image of the record."""
    problem = resolve.mismatch(wanted, found)
    if problem:
        remedy = "The record or the image was changed. Take both from where the run was made."
        detail = f"{found.reference} is another one: {problem}"
        return Requirement(subject="image", state="other", detail=detail, remedy=remedy)
    return Requirement(subject="image", state="here", detail=found.reference)


def _code(found: FoundRun) -> tuple[Requirement, rebuild.Source | None]:
    code = found.run.code
    if code.where == "mounted" and found.run.written_by == "container":
        # Paths of a container mean nothing here, and no folder of this machine is meant.
        detail = f"{code.target} was mounted into a container that the kit did not start"
        remedy = "Train it by `invoke train SCRIPT`, whose image holds it, or put it into an image."
        return Requirement(subject="code", state="missing", detail=detail, remedy=remedy), None
    if code.where == "image":
        dirty = "; the checkout had changes, and the image holds them" if code.git_dirty else ""
        detail = f"{code.target}, in the image{dirty}"
        return Requirement(subject="code", state="here", detail=detail), None
    try:
        source = rebuild.source(found)
    except Irreproducible as error:
        return (
            Requirement(
                subject="code",
                state="missing",
                detail=error.what.rstrip("."),
                remedy=error.remedy,
                # A record from elsewhere must not choose which folder of this machine is code.
                passable=found.folder is not None,
            ),
            None,
        )
    patched = " with its patch (files that git did not track are not in it)" if source.patch else ""
    detail = f"mounted; rebuilt from commit {source.commit[:12]} of {source.root}{patched}"
    return Requirement(subject="code", state="here", detail=detail), source


def _data(found: FoundRun, folder: str | None) -> tuple[Requirement, Data | None]:
    if not found.run.data:
        return Requirement(subject="data", state="here", detail="none was mounted"), None
    wanted = found.run.data[0]
    # A record from elsewhere must not choose which folder of this machine is opened.
    if folder is None and (found.run.written_by == "container" or found.folder is None):
        why = "a container wrote the record" if found.folder else "the record is from W&B"
        return _elsewhere(wanted, why), None
    place = Path(folder or wanted.source).expanduser()
    try:
        files = data.list_files(place)
        data.check_readable(files, user.of_container())
        here = data.fingerprint_folder(place, files)
    except DataError as error:
        remedy = f"Name the folder with {_contents(wanted)} by --data."
        detail = error.what.rstrip(".")
        return Requirement(subject="data", state="missing", detail=detail, remedy=remedy), None
    if wanted.fingerprint is None:
        detail = f"nobody took a fingerprint of them: {here.source} may be the same, or not"
        remedy = "Give --anyway to train on that folder."
        return Requirement(
            subject="data", state="other", detail=detail, remedy=remedy, passable=True
        ), here
    if here.fingerprint == wanted.fingerprint:
        return Requirement(
            subject="data", state="here", detail=f"{here.source}, {here.fingerprint}"
        ), here
    detail = (
        f"{here.source} is other data: {here.fingerprint} ({here.files} files, "
        f"{here.size_bytes} bytes), the record says {wanted.fingerprint} ({wanted.files} files, "
        f"{wanted.size_bytes} bytes)"
    )
    remedy = "Give the folder as it was with --data, or --anyway to train on this one."
    need = Requirement(subject="data", state="other", detail=detail, remedy=remedy, passable=True)
    return need, here


def _elsewhere(wanted: Data, why: str) -> Requirement:
    """Return the need for data that lay where only a container, elsewhere, could see them."""
    place = f"they lay at {wanted.source}" if wanted.source else "nobody told it where they lay"
    return Requirement(
        subject="data",
        state="missing",
        detail=f"{why}, and {place}",
        remedy=f"Name the folder with {_contents(wanted)} by --data.",
    )


def _contents(wanted: Data) -> str:
    if wanted.fingerprint is None:
        return "the same data (no fingerprint was taken, so --anyway as well)"
    return f"{wanted.files} files and {wanted.fingerprint}"


def _device(found: FoundRun, *, runtime: bool) -> tuple[gpus.Selection | None, Requirement]:
    topology = found.run.topology
    problem = _of_several(found)
    if problem is not None:
        return None, problem
    # As many as there were, not as was asked: `all` may be another number here. What several
    # machines trained, one of them can: the number of processes decides, not where they are.
    names = found.run.hardware.gpus or found.run.environment.get("gpus", ())
    number = len(names) or (int(topology.gpus) if topology.gpus.isdecimal() else 0)
    asked = "0" if topology.gpus == "0" else str(number * topology.nodes or "all")
    try:
        selection = gpus.select(asked, hardware.probe(), runtime=runtime)
    except SamerunError as error:
        detail, remedy = error.what.rstrip("."), "Reproduce it on a machine with such GPUs."
        return None, Requirement(subject="machine", state="missing", detail=detail, remedy=remedy)
    device = "CPU" if asked == "0" else ", ".join(gpu.name for gpu in selection.gpus)
    detail = f"{device}, {topology.world_size} process{'es' if topology.world_size > 1 else ''}"
    if topology.nodes > 1:
        detail += f", which were on {topology.nodes} machines"
    return selection, Requirement(subject="machine", state="here", detail=detail)


def _of_several(found: FoundRun) -> Requirement | None:
    """Return why a run of several machines can't be made again; None if it can."""
    topology = found.run.topology
    if topology.node_rank:
        detail = f"this is the record of node {topology.node_rank}, which has no result"
        return Requirement(
            subject="machine", state="missing", detail=detail, remedy="Give the run of node 0."
        )
    sizes = [len(one.nodes) for one in found.run.rounds]
    if len(set(sizes)) > 1:
        detail = f"its nodes changed while it trained ({', then '.join(map(str, sizes))})"
        remedy = "A job of a fixed number of nodes (`--nodes 2`) can be made again."
        return Requirement(subject="machine", state="missing", detail=detail, remedy=remedy)
    return None


def _result(found: FoundRun) -> Iterator[Requirement]:
    """Yield the need for something to compare with, where the record holds nothing."""
    if not has_result(found):
        yield Requirement(
            subject="result",
            state="missing",
            detail=f"the record holds no metrics and no weights ({found.run.outcome.state})",
            remedy="Without them there is nothing to compare with; --anyway trains all the same.",
            passable=True,
        )


def has_result(found: FoundRun) -> bool:
    """Whether the run recorded anything that another can be compared with."""
    return bool(found.trace.epochs or found.run.result.get("weights_sha256"))


def warnings(found: FoundRun, selection: gpus.Selection) -> Iterator[str]:
    """Yield how this machine differs from the one of the record, before hours are spent."""
    was = found.run.hardware
    this = hardware.describe(selection.gpus, was.engine)
    if was.gpus != this.gpus:
        yield f"It ran on {', '.join(was.gpus)}; here are {', '.join(this.gpus)}: other bits."
    if was.driver != this.driver:
        yield f"The NVIDIA driver was {was.driver}, here it is {this.driver}: bits may differ."
    if was.cpu != this.cpu:
        yield f"The CPU was {was.cpu}, here it is {this.cpu}: bits may differ."
    if was.cores != this.cores:
        yield f"It had {was.cores} cores, here are {this.cores}; threads are as they were then."


def script_target(found: FoundRun) -> str:
    """Return the path of the script in the container, as the image or the mount has it."""
    return f"{contract.CODE}/{Path(found.run.code.target).name}"
