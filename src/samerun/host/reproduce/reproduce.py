"""`invoke reproduce`: the same run again from its record, and whether it came out the same."""

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from samerun.core.errors import Different, Irreproducible, UsageError, WithinTolerance
from samerun.core.files import write_atomically
from samerun.core.record import Image, Run
from samerun.host.image import resolve
from samerun.host.launch import execute, request, train
from samerun.host.launch.prepare import Prepared
from samerun.host.machine import engine, network, user
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
    """The original, the run that makes it again, and what came of it."""

    original: FoundRun
    again: Run
    folder: Path
    verdict: Verdict


def check_requirements(name: str, options: ReproduceOptions) -> tuple[Requirement, ...]:
    """Return all that a replay of the run *name* needs, and whether it is there."""
    found = find(name, options)
    return requirements.examine(engine.connect(), found, options.data).needs


def find(name: str, options: ReproduceOptions) -> FoundRun:
    """Return the run *name*; refuse options that don't fit it, before an engine is asked."""
    found = find_run.find(name, options.output, options.api_key_file)
    if options.data and not found.run.data:
        raise UsageError(f"--data was given, and {found.link} had no data.", "Leave it out.")
    request.check_request(replay.asked(found, options))
    return found


def reproduce(name: str, options: ReproduceOptions, say: Callable[[str], None]) -> Reproduced:
    """
    Run *name* again and judge it; the verdict is written beside the new record.

    Raises:
        Irreproducible: Something it needs is not there, or the replay did not get through.
    """
    found = find(name, options)
    wanted = replay.asked(found, options)
    folders.free_folder(Path(wanted.output), str(wanted.name))
    client = engine.connect()
    around = requirements.examine(client, found, options.data)
    requirements.refuse(around.needs, anyway=options.anyway)
    _say_before(found, around, options, say)
    image = _image(client, found.run.image, say)
    key = train.find_key(wanted)
    with _code(found, around) as code:
        prepared = replay.prepared(
            found,
            wanted,
            around,
            image,
            engine.inspect(client),
            code=code,
            has_key=key is not None,
        )
        again = _execute(client, prepared, key, say)
    return _judge(found, again, prepared, options)


def _say_before(
    found: FoundRun, around: Requirements, options: ReproduceOptions, say: Callable[[str], None]
) -> None:
    """Tell what is let pass, and how this machine differs, before hours are spent."""
    for need in around.needs:
        if need.state in ("missing", "other"):
            say(f"--anyway: {need.subject}: {need.detail}.")
    if around.selection is not None:
        for line in requirements.warnings(found, around.selection):
            say(f"Warning: {line}")
    if found.run.code.git_dirty and found.run.code.where == "image":
        say("The original's checkout had changes; the image holds what ran.")
    if found.wandb is None and options.no_network:
        say("No network: W&B records offline, `invoke sync` delivers it later.")


def _image(client: "DockerClient", wanted: Image, say: Callable[[str], None]) -> Image:
    """Return the image of the record, pulled where need be, and checked again."""
    image = resolve.obtain(client, wanted, say)
    if image is None:
        raise requirements.refusal((requirements.missing_image(wanted),))
    requirements.refuse((requirements.check_image(wanted, image),), anyway=False)
    return dataclasses.replace(image, pull_reference=image.pull_reference or wanted.pull_reference)


@contextlib.contextmanager
def _code(found: FoundRun, around: Requirements) -> Iterator[Path | None]:
    """Yield the folder to mount as code: rebuilt, as it is today, or none."""
    if around.source is None:
        yield replay.today(found)
        return
    with tempfile.TemporaryDirectory(prefix="samerun-code-") as folder:
        yield rebuild.lay_out(around.source, Path(folder))


def _execute(
    client: "DockerClient", prepared: Prepared, key: keys.Key | None, say: Callable[[str], None]
) -> Run:
    say(summary.headline(prepared.run))
    if prepared.spec.network == network.NAME:
        network.ensure(client)
        network.shield()
    return execute.execute(client, prepared, key)


def _judge(
    found: FoundRun, again: Run, prepared: Prepared, options: ReproduceOptions
) -> Reproduced:
    trace = traces.trace(again, prepared.folder)
    was = found.run.outcome
    if again.outcome.state in ("stopped", "preempted"):
        raise KeyboardInterrupt  # The user ended it: that says nothing of the run.
    # A W&B record was logged by the container, which can't know how it ended.
    expected = was.exit_code or 0
    # One that was killed may get through this time: what both did is compared.
    if again.outcome.exit_code not in (0, expected) or again.outcome.state == "killed":
        reason = f" ({again.outcome.reason})" if again.outcome.reason else ""
        raise Irreproducible(
            f"The replay ended with exit code {again.outcome.exit_code}{reason}, the original "
            f"with {expected}: there is no verdict.",
            f"See {folders.shown(prepared.folder)}/log.txt. {summary.remedy(again)}".strip(),
        )
    if not requirements.has_result(found):
        raise Irreproducible(
            f"{found.link} recorded no result, so there is no verdict.",
            f"What came of it this time is in {folders.shown(prepared.folder)}/run.json.",
        )
    came = verdict.judge(found.trace, trace, options.largest_difference())
    _write(prepared, found, came)
    return Reproduced(original=found, again=again, folder=prepared.folder, verdict=came)


def _write(prepared: Prepared, found: FoundRun, came: Verdict) -> None:
    content = {"reproduces": found.link, "where": found.where, **dataclasses.asdict(came)}
    path = prepared.folder / VERDICT
    write_atomically(path, json.dumps(content, indent=2) + "\n")
    user.give(path, user.of_folder(prepared.folder))


def places(made: Reproduced) -> str:
    """Return where the new run lies: its record, its verdict, its runs in W&B."""
    place = folders.shown(made.folder)
    urls = [entry.url or f"{place}/{entry.dir}" for entry in made.again.wandb]
    rows = (
        ("record", f"{place}/run.json"),
        ("verdict", f"{place}/{VERDICT}"),
        ("W&B", ", ".join(urls) or "no run was started"),
    )
    return "\n".join(f"  {name:<7} {text}" for name, text in rows)


def raise_unless_identical(made: Reproduced, tolerance: float) -> None:
    """
    Raise what the verdict is, with where the two first part and why.

    Raises:
        WithinTolerance, Different: The two are not the same to the last bit.
    """
    came, link = made.verdict, made.original.link
    if came.outcome == "identical":
        return
    first = f" They first part in {came.first}." if came.first else ""
    causes = "Likely cause: " + "; ".join(came.causes) + "."
    if came.outcome == "within tolerance":
        what = f"The largest relative difference is {came.largest:.3g}, within {tolerance:g}."
        raise WithinTolerance(f"{link} did not come out bit for bit. {what}{first}", causes)
    raise Different(f"{link} came out different.{first}", causes)
