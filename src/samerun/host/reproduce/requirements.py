"""The requirements of a rerun, and whether they are met: image, code, data, machine."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from samerun.core import contract, hardware
from samerun.core.errors import DataError, Irreproducible, SamerunError
from samerun.core.record import Data, Image
from samerun.host.image import registry, resolve
from samerun.host.launch import data, devices
from samerun.host.launch.data import Present
from samerun.host.machine import cuda, engine, gpus, user
from samerun.host.reproduce import rebuild
from samerun.host.reproduce.find_run import FoundRun
from samerun.host.reproduce.options import ReproduceOptions

if TYPE_CHECKING:
    from docker import DockerClient

State = Literal["here", "to be pulled", "other", "missing"]


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One requirement of a rerun; ``--anyway`` ignores a *passable* one."""

    subject: str
    state: State
    detail: str
    remedy: str = ""
    passable: bool = False

    def blocks(self, *, anyway: bool) -> bool:
        """Whether this prevents a rerun."""
        return self.state in ("missing", "other") and not (anyway and self.passable)


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """The result of the search for everything that a rerun needs."""

    needs: tuple[Requirement, ...]
    data: tuple[Present, ...]
    selection: gpus.Selection | None
    source: rebuild.Source | None


def examine(client: "DockerClient", original: FoundRun, options: ReproduceOptions) -> Requirements:
    """Check everything that *original* needs; --data replaces the recorded path of the data."""
    image = look_for_image(client, original.run.image)
    code, source = _code(original)
    data_needs, present = _all_data(original, options)
    selection, device = _device(original, engine.inspect(client))
    if selection is not None and image.state == "here":
        device = _check_support(client, original, selection) or device
    needs = (image, code, *data_needs, device, *_result(original))
    return Requirements(needs=needs, data=present, selection=selection, source=source)


def refuse(needs: tuple[Requirement, ...], *, anyway: bool) -> None:
    """
    Raise an error that lists all requirements that are not met.

    Raises:
        Irreproducible: With all reasons and remedies.
    """
    blocking = tuple(need for need in needs if need.blocks(anyway=anyway))
    if blocking:
        raise refusal(blocking)


def refusal(blocking: tuple[Requirement, ...]) -> Irreproducible:
    """Return the error with all reasons and remedies."""
    return Irreproducible(
        "This run can't be reproduced: "
        + "; ".join(f"{need.subject}: {need.detail}" for need in blocking)
        + ".",
        "\n".join(need.remedy for need in blocking if need.remedy),
    )


def look_for_image(client: "DockerClient", wanted: Image) -> Requirement:
    """Return whether the image is local or a registry serves it; nothing is pulled."""
    image = resolve.local(client, wanted)
    if image is not None:
        return check_image(wanted, image)
    for source in resolve.sources(wanted):
        if registry.ask(client, source):
            return Requirement(subject="image", state="to be pulled", detail=source)
    return missing_image(wanted)


def missing_image(wanted: Image) -> Requirement:
    """Return the requirement for an image that is not available or not in the record."""
    if not wanted.reference:
        known = f", only the digest sha256:{wanted.digest}" if wanted.digest else ""
        return Requirement(
            subject="image",
            state="missing",
            detail=f"{contract.ENV_IMAGE} was not set, so the record names no image{known}",
            remedy=f"Start containers with -e {contract.ENV_IMAGE}=NAME@sha256:… to record it.",
        )
    sources = resolve.sources(wanted)
    where = "not on this machine"
    where += f", and not served by {', '.join(sources)}" if sources else ""
    return Requirement(
        subject="image",
        state="missing",
        detail=f"{wanted.reference} is {where}",
        remedy="On the machine that has it, `invoke push` it to a registry and here "
        "`invoke pull NAME@sha256:…`, or `invoke save` it there and `invoke load` it here.",
    )


def check_image(wanted: Image, present: Image) -> Requirement:
    """Return whether *present* is the image of the record."""
    problem = resolve.mismatch(wanted, present)
    if problem:
        remedy = "The record or the image was changed. Copy both from the original machine."
        detail = f"{present.reference} is a different image: {problem}"
        return Requirement(subject="image", state="other", detail=detail, remedy=remedy)
    return Requirement(subject="image", state="here", detail=present.reference)


def _code(original: FoundRun) -> tuple[Requirement, rebuild.Source | None]:
    code = original.run.code
    if code.where == "mounted" and original.run.written_by == "container":
        # A path in another machine's container must not select a folder on this machine.
        detail = f"{code.target} was mounted into a standalone container"
        remedy = "Train it with `invoke train SCRIPT`, which adds it to the image."
        return Requirement(subject="code", state="missing", detail=detail, remedy=remedy), None
    if code.where == "image":
        dirty = "; it contains uncommitted changes of the checkout" if code.git_dirty else ""
        detail = f"{code.target}, in the image{dirty}"
        return Requirement(subject="code", state="here", detail=detail), None
    try:
        source = rebuild.source(original)
    except Irreproducible as error:
        return (
            Requirement(
                subject="code",
                state="missing",
                detail=error.what.rstrip("."),
                remedy=error.remedy,
                # A record from elsewhere must not select a folder on this machine.
                passable=original.folder is not None,
            ),
            None,
        )
    patched = " with its patch (without files not tracked by git)" if source.patch else ""
    detail = f"mounted; rebuilt from commit {source.commit[:12]} of {source.root}{patched}"
    return Requirement(subject="code", state="here", detail=detail), source


def _all_data(
    original: FoundRun, options: ReproduceOptions
) -> tuple[list[Requirement], tuple[Present, ...]]:
    if not original.run.data:
        return [Requirement(subject="data", state="here", detail="none was mounted")], ()
    moved = data.moved(original.run.data, options.data)
    folders = {
        entry.target: data.Folder(
            name=entry.name,
            path=moved.get(entry.target) or Path(entry.source),
            follow_links=entry.follow_links or options.follow_links,
        )
        for entry in original.run.data
    }
    given = tuple(moved)
    found = [_data(original, entry, folders, given) for entry in original.run.data]
    return [need for need, _ in found], tuple(here for _, here in found if here is not None)


def _data(
    original: FoundRun, wanted: Data, folders: Mapping[str, data.Folder], given: tuple[str, ...]
) -> tuple[Requirement, Present | None]:
    subject = f"data {wanted.name}".strip()
    # A record from elsewhere must not select a folder on this machine.
    if wanted.target not in given and (
        original.run.written_by == "container" or original.folder is None
    ):
        why = (
            "a standalone container wrote the record" if original.folder else "the run is from W&B"
        )
        return _elsewhere(wanted, why), None
    places = {target: folder.path for target, folder in folders.items()}
    try:
        listed = data.list_files(folders[wanted.target], places)
        data.check_readable(listed.tree.files, user.of_container())
        present = data.fingerprint_folder(listed)
    except DataError as error:
        remedy = _pass(wanted)
        detail = error.what.rstrip(".")
        return Requirement(subject=subject, state="missing", detail=detail, remedy=remedy), None
    here = present.entry
    if wanted.fingerprint is None:
        detail = f"no fingerprint was recorded, so {here.source} may be different data"
        remedy = "Pass --anyway to train on that folder."
        return Requirement(
            subject=subject, state="other", detail=detail, remedy=remedy, passable=True
        ), present
    if here.fingerprint == wanted.fingerprint:
        return Requirement(
            subject=subject, state="here", detail=f"{here.source}, {here.fingerprint}"
        ), present
    detail = (
        f"{here.source} is different data: {here.fingerprint} ({here.files} files, "
        f"{here.size_bytes} bytes), the record says {wanted.fingerprint} ({wanted.files} files, "
        f"{wanted.size_bytes} bytes)"
    )
    remedy = "Pass the original data as --data, or pass --anyway to train on this folder."
    need = Requirement(subject=subject, state="other", detail=detail, remedy=remedy, passable=True)
    return need, present


def _elsewhere(wanted: Data, why: str) -> Requirement:
    """Return the requirement for data whose recorded path does not apply to this machine."""
    place = f"came from {wanted.source}" if wanted.source else "has no recorded source"
    return Requirement(
        subject=f"data {wanted.name}".strip(),
        state="missing",
        detail=f"{why}, and the data {place}",
        remedy=_pass(wanted),
    )


def _pass(wanted: Data) -> str:
    option = f"--data {wanted.name}=FOLDER" if wanted.name else "--data"
    return f"Pass the folder with {_contents(wanted)} as {option}."


def _contents(wanted: Data) -> str:
    if wanted.fingerprint is None:
        return "the same data (no fingerprint was recorded, so add --anyway)"
    return f"{wanted.files} files and {wanted.fingerprint}"


def _device(original: FoundRun, facts: engine.Engine) -> tuple[gpus.Selection | None, Requirement]:
    topology = original.run.topology
    problem = _of_several(original)
    if problem is not None:
        return None, problem
    # The number of GPUs, because `all` may be another number on this machine. One machine can
    # rerun a run of several: results depend on the number of processes, not on their machine.
    names = original.run.hardware.gpus or original.run.environment.get("gpus", ())
    try:
        selection = devices.as_many(original.run, names, gpus.look(), facts, topology.nodes)
        gpus.check_processes(selection, topology.world_size)
        cuda.check_support(selection.gpus, original.run.image.cuda or "", (), is_fixed=True)
    except SamerunError as error:
        return None, _no_machine(error)
    device = "CPU" if not selection.gpus else ", ".join(gpu.name for gpu in selection.gpus)
    detail = f"{device}, {topology.world_size} process{'es' if topology.world_size > 1 else ''}"
    if topology.nodes > 1:
        detail += f", originally on {topology.nodes} machines"
    return selection, Requirement(subject="machine", state="here", detail=detail)


def _check_support(
    client: "DockerClient", original: FoundRun, selection: gpus.Selection
) -> Requirement | None:
    """Return the problem with these GPUs and the image, which is on this machine."""
    image = resolve.local(client, original.run.image)
    try:
        if image is not None:
            devices.check(client, selection, image, is_fixed=True)
    except SamerunError as error:
        return _no_machine(error)
    return None


def _no_machine(error: SamerunError) -> Requirement:
    return Requirement(
        subject="machine",
        state="missing",
        detail=error.what.rstrip("."),
        remedy=error.remedy,
    )


def _of_several(original: FoundRun) -> Requirement | None:
    """Return the problem with a run of several machines; None if it can be rerun."""
    topology = original.run.topology
    if topology.node_rank:
        detail = f"this is the record of node {topology.node_rank}, which has no result"
        return Requirement(
            subject="machine", state="missing", detail=detail, remedy="Give the run of node 0."
        )
    sizes = [len(one.nodes) for one in original.run.rounds]
    if len(set(sizes)) > 1:
        detail = f"the number of its nodes changed ({', then '.join(map(str, sizes))})"
        remedy = "Train with a fixed number of nodes (`--nodes 2`) for a reproducible run."
        return Requirement(subject="machine", state="missing", detail=detail, remedy=remedy)
    return None


def _result(original: FoundRun) -> Iterator[Requirement]:
    """Yield the requirement of a result to compare with, if the record has none."""
    if not has_result(original):
        yield Requirement(
            subject="result",
            state="missing",
            detail=f"the record has no metrics and no weights ({original.run.outcome.state})",
            remedy="Pass --anyway to rerun it without a comparison.",
            passable=True,
        )


def has_result(original: FoundRun) -> bool:
    """Whether the run recorded results that can be compared."""
    return bool(original.trace.epochs or original.run.result.get("weights_sha256"))


def warnings(original: FoundRun, selection: gpus.Selection) -> Iterator[str]:
    """Yield the differences between this machine and the record's that may change results."""
    yield from selection.notes
    was = original.run.hardware
    this = hardware.describe(selection.gpus, was.engine)
    if was.gpus != this.gpus:
        yield (
            f"GPUs: {', '.join(was.gpus)} originally, {', '.join(this.gpus)} here. "
            "Results will differ."
        )
    if was.driver != this.driver:
        yield f"NVIDIA driver: {was.driver} originally, {this.driver} here. Results may differ."
    if was.cpu != this.cpu:
        yield f"CPU: {was.cpu} originally, {this.cpu} here. Results may differ."
    if was.cores != this.cores:
        yield f"Cores: {was.cores} originally, {this.cores} here. The number of threads is kept."


def script_target(original: FoundRun) -> str:
    """Return the path of the script in the container."""
    launch, name = original.run.launch, Path(original.run.code.target).name
    if launch is not None and Path(launch.target).is_relative_to(contract.CODE):
        return launch.target
    return f"{contract.CODE}/{name}"
