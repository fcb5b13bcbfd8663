"""`invoke compare`: the differences between two runs, each on this machine or in W&B."""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samerun.core import contract, files
from samerun.core.errors import SamerunError
from samerun.core.record import Code, Hardware, Image, Run, Topology
from samerun.host.checkout import git
from samerun.host.image import identity, inspect, resolve
from samerun.host.machine import engine
from samerun.host.reproduce import causes, find_run, verdict
from samerun.host.reproduce.find_run import FoundRun
from samerun.host.reproduce.verdict import Finding

if TYPE_CHECKING:
    from docker import DockerClient

    from samerun.host.image.inspect import Inspection

PATCH_LINES = 40


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The differences; *same* are the subjects without one."""

    one: FoundRun
    two: FoundRun
    findings: tuple[Finding, ...]
    same: tuple[str, ...]
    patch: tuple[str, ...]
    notes: tuple[str, ...]


def compare(one: str, two: str, output: str, key_file: str | None) -> Comparison:
    """
    Find both runs and compare them.

    Raises:
        OutputError, RecordError, KeyFileError: One of them can't be found or read.
        UsageError: Both are the same run.
    """
    a, b = (find_run.find(name, output, key_file) for name in (one, two))
    find_run.refuse_same(a, b)
    inspections, notes = _inspect_both(a.run, b.run)
    findings = (*differences(a.run, b.run), *packages(a.run.image, b.run.image, *inspections))
    results = (*trained(a, b),)
    return Comparison(
        one=a,
        two=b,
        findings=tuple(row for row in (*findings, *results) if not row.same),
        same=tuple(row.subject for row in (*findings, *results) if row.same),
        patch=tuple(patch(a, b)),
        notes=tuple(notes),
    )


def differences(one: Run, two: Run) -> Iterator[Finding]:
    """Yield a finding for each field of the two records; a pure function."""
    yield dataclasses.replace(verdict.image(one.image, two.image), subject="image layers")
    yield _row("image", one.image.reference, two.image.reference)
    yield _row("command", " ".join(one.command), " ".join(two.command))
    yield from _fields("code", one.code, two.code, Code)
    yield from _mapping("config", one.config, two.config)
    yield verdict.finding("data", causes.data(one), causes.data(two))
    yield _row("seed", one.seed, two.seed)
    yield _row("determinism", one.determinism, two.determinism)
    yield from _fields("topology", one.topology, two.topology, Topology)
    yield from _fields("hardware", one.hardware, two.hardware, Hardware)
    yield from _mapping("environment", one.environment, two.environment)
    yield _row("state", _state(one), _state(two))


def _state(run: Run) -> str:
    code = run.outcome.exit_code
    return run.outcome.state + ("" if code is None else f", exit code {code}")


def _fields(name: str, one: Any, two: Any, kind: type) -> Iterator[Finding]:
    for field in dataclasses.fields(kind):
        yield _row(f"{name}.{field.name}", getattr(one, field.name), getattr(two, field.name))


def _mapping(name: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[Finding]:
    for key in dict.fromkeys((*one, *two)):
        yield _row(f"{name}.{key}", one.get(key, "absent"), two.get(key, "absent"))


def _row(subject: str, one: Any, two: Any) -> Finding:
    return Finding(subject=subject, same=one == two, original=_text(one), again=_text(two))


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def packages(
    one: Image, two: Image, first: "Inspection | None", second: "Inspection | None"
) -> Iterator[Finding]:
    """Yield layers and packages: of the images if both are local, else of the records."""
    if first is None or second is None:
        yield from _mapping("package", one.packages, two.packages)
        return
    names = [{p.name: p.version for p in i.packages} for i in (first, second)]
    yield from _mapping("package", *names)
    layers = [[layer.diff_id for layer in i.layers] for i in (first, second)]
    shared = len([x for x, y in zip(*layers, strict=False) if x == y])
    if layers[0] != layers[1]:
        rest = [f"{shared} shared, then {len(own) - shared} different" for own in layers]
        yield Finding(subject="layers", same=False, original=rest[0], again=rest[1])


def _inspect_both(one: Run, two: Run) -> tuple[tuple["Inspection | None", ...], list[str]]:
    """Inspect both images if they are local; nothing is started or pulled."""
    if identity.same_image(one.image, two.image):
        return (None, None), []
    try:
        client = engine.connect()
    except SamerunError as error:
        return (None, None), [
            f"No engine responds ({error.what}); only recorded packages compared."
        ]
    inspections = tuple(_inspect(client, run.image) for run in (one, two))
    notes = [
        f"The image of {run.name} is not on this machine; only recorded packages compared."
        for run, inspection in zip((one, two), inspections, strict=True)
        if inspection is None
    ]
    return inspections, notes


def _inspect(client: "DockerClient", image: Image) -> "Inspection | None":
    local = resolve.local(client, image)
    if local is None or resolve.mismatch(image, local) is not None:
        return None
    return inspect.inspect(client, local.reference)


def trained(one: FoundRun, two: FoundRun) -> Iterator[Finding]:
    """Yield the results of the two: metrics of each epoch, weights, the first difference."""
    judgment = verdict.judge(one.trace, two.trace, 0.0)
    subjects = {row.subject for row in verdict.given(one.trace, two.trace)}
    yield from (row for row in judgment.findings if row.subject not in subjects)
    if judgment.first is not None:
        at = judgment.first
        place = str(dataclasses.replace(at, original="", again="")).rpartition(":")[0]
        yield Finding(subject=f"first: {place}", same=False, original=at.original, again=at.again)


def patch(one: FoundRun, two: FoundRun) -> Iterator[str]:
    """Yield the differences of the code: between commits if git has both, and patches."""
    a, b = one.run.code, two.run.code
    if a.git_commit and b.git_commit and a.git_commit != b.git_commit:
        summary = git.summarize(Path.cwd(), a.git_commit, b.git_commit)
        missing = f"this repository does not have both {a.git_commit} and {b.git_commit}"
        yield from summary or [missing]
    if a.patch_sha256 != b.patch_sha256:
        yield from _patches(one, two)


def _patches(one: FoundRun, two: FoundRun) -> Iterator[str]:
    texts = [_patch_of(found) for found in (one, two)]
    for found, text in zip((one, two), texts, strict=True):
        if text is None:
            yield f"the patch of {found.link} is not available"
    if None not in texts:
        a, b = (text or "" for text in texts)
        names = [f"{found.link}/{contract.PATCH}" for found in (one, two)]
        lines = list(_diff(a, b, names))
        yield from lines[:PATCH_LINES]
        if len(lines) > PATCH_LINES:
            yield f"… {len(lines) - PATCH_LINES} more lines; compare the two code.patch files"


def _diff(one: str, two: str, names: list[str]) -> Iterator[str]:
    lines = (one.splitlines(), two.splitlines())
    return difflib.unified_diff(*lines, fromfile=names[0], tofile=names[1], lineterm="")


def _patch_of(found: FoundRun) -> str | None:
    """Return the stored patch; empty if the checkout was clean, None if it is missing."""
    if found.run.code.patch_sha256 is None:
        return ""
    if found.folder is None:
        return None
    try:
        return files.read_plain(found.folder / contract.PATCH).decode(errors="replace")
    except OSError:
        return None
