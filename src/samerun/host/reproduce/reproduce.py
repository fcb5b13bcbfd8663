"""`invoke reproduce`: rerun a run from its record, and compare the results."""

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from samerun.core import user_variables
from samerun.core.errors import Different, Irreproducible, UsageError, WithinTolerance
from samerun.core.files import write_atomically
from samerun.core.record import Image, Run
from samerun.host.image import resolve
from samerun.host.launch import data, devices, execute, request, train
from samerun.host.launch.prepare import Prepared
from samerun.host.machine import engine, network, same_machine, user
from samerun.host.reproduce import find_run, rebuild, replay, requirements, traces, verdict
from samerun.host.reproduce.find_run import FoundRun
from samerun.host.reproduce.options import ReproduceOptions
from samerun.host.reproduce.requirements import Requirement, Requirements
from samerun.host.reproduce.verdict import Verdict
from samerun.host.run import folders, summary
from samerun.host.tracking import keys

if TYPE_CHECKING:
    from docker import DockerClient

VERDICT = "verdict.json"


@dataclass(frozen=True, kw_only=True)
class Reproduced:
    """The original, the rerun, and the verdict."""

    original: FoundRun
    again: Run
    folder: Path
    verdict: Verdict


def check_requirements(name: str, options: ReproduceOptions) -> tuple[Requirement, ...]:
    """Return everything that a rerun of the run *name* needs, and whether it is available."""
    original = find(name, options)
    client = engine.connect()
    same_machine.check(client)
    return requirements.examine(client, original, options).needs


def find(name: str, options: ReproduceOptions) -> FoundRun:
    """Return the run *name*; refuse options that don't fit it, before contacting an engine."""
    original = find_run.find(name, options.output, options.api_key_file)
    if options.data and not original.run.data:
        raise UsageError(f"--data was given, but {original.link} had no data.", "Omit --data.")
    data.moved(original.run.data, options.data)
    request.check_request(replay.asked(original, options))
    return original


def reproduce(name: str, options: ReproduceOptions, say: Callable[[str], None]) -> Reproduced:
    """
    Rerun *name* and compare; the verdict is written next to the new record.

    Raises:
        Irreproducible: A requirement is missing, or the rerun did not finish.
    """
    original = find(name, options)
    wanted = replay.asked(original, options)
    folders.free_folder(Path(wanted.output), str(wanted.name))
    client = engine.connect()
    same_machine.check(client)
    around = requirements.examine(client, original, options)
    requirements.refuse(around.needs, anyway=options.anyway)
    _say_before(original, around, options, say)
    image = _image(client, original.run.image, say)
    if around.selection is not None:
        devices.check(client, around.selection, image, is_fixed=True)
    key = train.find_key(wanted)
    with _code(original, around) as code:
        prepared = replay.prepared(
            original,
            wanted,
            around,
            image,
            engine.inspect(client),
            code=code,
            has_key=key is not None,
        )
        again = _execute(client, prepared, key, say)
    return _judge(original, again, prepared, options)


def _say_before(
    original: FoundRun, around: Requirements, options: ReproduceOptions, say: Callable[[str], None]
) -> None:
    """Print what --anyway ignores, and how this machine differs, before the training."""
    for need in around.needs:
        if need.state in ("missing", "other"):
            say(f"--anyway: {need.subject}: {need.detail}.")
    if around.selection is not None:
        for line in requirements.warnings(original, around.selection):
            say(f"Warning: {line}")
    if original.run.code.git_dirty and original.run.code.where == "image":
        say("The original's checkout had uncommitted changes; the image contains them.")
    if original.wandb is None and options.no_network:
        say("No network: W&B records offline; upload the run later with `invoke sync`.")


def _image(client: "DockerClient", wanted: Image, say: Callable[[str], None]) -> Image:
    """Return the image of the record, pulled if necessary, and checked."""
    image = resolve.obtain(client, wanted, say)
    if image is None:
        raise requirements.refusal((requirements.missing_image(wanted),))
    requirements.refuse((requirements.check_image(wanted, image),), anyway=False)
    return dataclasses.replace(image, pull_reference=image.pull_reference or wanted.pull_reference)


@contextlib.contextmanager
def _code(original: FoundRun, around: Requirements) -> Iterator[Path | None]:
    """Yield the folder to mount as code: rebuilt, the current one, or none."""
    if around.source is None:
        yield replay.today(original)
        return
    with tempfile.TemporaryDirectory(prefix="samerun-code-") as folder:
        yield rebuild.lay_out(around.source, Path(folder))


def _execute(
    client: "DockerClient", prepared: Prepared, key: keys.Key | None, say: Callable[[str], None]
) -> Run:
    say(summary.headline(prepared.run))
    for line in user_variables.notes(prepared.spec.environment, os.environ):
        say(line)
    for line in train.about_wandb(prepared):
        say(line)
    if prepared.spec.network == network.NAME:
        network.ensure(client)
        network.shield()
    return execute.execute(client, prepared, key)


def _judge(
    original: FoundRun, again: Run, prepared: Prepared, options: ReproduceOptions
) -> Reproduced:
    trace = traces.trace(again, prepared.folder)
    was = original.run.outcome
    if again.outcome.state in ("stopped", "preempted"):
        raise KeyboardInterrupt  # The user ended it, so there is no verdict.
    # A record in W&B was logged by the container before its end, so it has no exit code.
    expected = was.exit_code or 0
    # If the original was killed, the rerun may finish; the common part is compared.
    if again.outcome.exit_code not in (0, expected) or again.outcome.state == "killed":
        reason = f" ({again.outcome.reason})" if again.outcome.reason else ""
        raise Irreproducible(
            f"The rerun ended with exit code {again.outcome.exit_code}{reason}, the original "
            f"with {expected}, so there is no verdict.",
            f"Read {folders.shown(prepared.folder)}/log.txt. {summary.remedy(again)}".strip(),
        )
    if not requirements.has_result(original):
        raise Irreproducible(
            f"{original.link} recorded no result, so there is no verdict.",
            f"Read the result of the rerun in {folders.shown(prepared.folder)}/run.json.",
        )
    result = verdict.judge(original.trace, trace, options.largest_difference())
    _write(prepared, original, result)
    return Reproduced(original=original, again=again, folder=prepared.folder, verdict=result)


def _write(prepared: Prepared, original: FoundRun, result: Verdict) -> None:
    content = {"reproduces": original.link, "where": original.where, **dataclasses.asdict(result)}
    path = prepared.folder / VERDICT
    write_atomically(path, json.dumps(content, indent=2) + "\n")
    user.give(path, user.of_folder(prepared.folder))


def places(result: Reproduced) -> str:
    """Return the paths of the rerun: its record, its verdict, its runs in W&B."""
    folder = folders.shown(result.folder)
    urls = [entry.url or f"{folder}/{entry.dir}" for entry in result.again.wandb]
    rows = (
        ("record", f"{folder}/run.json"),
        ("verdict", f"{folder}/{VERDICT}"),
        ("W&B", ", ".join(urls) or "no run was started"),
    )
    return "\n".join(f"  {name:<7} {text}" for name, text in rows)


def raise_unless_identical(result: Reproduced, tolerance: float) -> None:
    """
    Raise an error for a verdict other than identical, with the first difference and causes.

    Raises:
        WithinTolerance, Different: The two are not bit-identical.
    """
    judgment, link = result.verdict, result.original.link
    if judgment.outcome == "identical":
        return
    first = f" The first difference is in {judgment.first}." if judgment.first else ""
    causes = "Likely cause: " + "; ".join(judgment.causes) + "."
    if judgment.outcome == "within tolerance":
        what = f"The largest relative difference is {judgment.largest:.3g}, within {tolerance:g}."
        raise WithinTolerance(f"{link} is not bit-identical. {what}{first}", causes)
    raise Different(f"The rerun of {link} is different.{first}", causes)
