"""Names, metrics, failures and labels that a run or an image wrote can't steer the terminal."""

import contextlib
import dataclasses
import io
import json
import re

import pytest

from samerun.cli.common import say
from samerun.cli.show import comparison, images, inspection, run_table, verdicts
from samerun.core import record
from samerun.host.image.inspect import Inspection, Layer, Package
from samerun.host.reproduce import traces, verdict
from samerun.host.reproduce.compare import Comparison
from samerun.host.reproduce.find_run import FoundRun
from samerun.host.reproduce.requirements import Requirement
from samerun.host.reproduce.verdict import Finding
from samerun.host.run import listing, summary

# A title, a copy to the clipboard, colors, a line that looks like ours, a direction override,
# and rich's markup: a link, a tag that is closed but never opened, an emoji.
HOSTILE = (
    "\x1b]0;owned\x07\x1b]52;c;AAAA\x07\x1b[31m\r\nVerdict: identical.\n\x9b2J\u202e"
    "[link=file:///etc]x[/link][/nothing]:bomb:\x7f"
)
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(params=[False, True], ids=["pipe", "terminal"])
def printed(request, monkeypatch):
    """Return what a call prints, on a pipe or a terminal, without the colors of rich itself."""

    def printed(*calls):
        text = io.StringIO()
        text.isatty = lambda: request.param
        with contextlib.redirect_stdout(text):
            for call in calls:
                call()
        return re.sub("\x1b\\[[0-9;]*m", "", text.getvalue())

    monkeypatch.setenv("TERM", "xterm-256color" if request.param else "dumb")
    return printed


@pytest.fixture
def hostile(run):
    """A record in which all that a run can write is hostile."""
    changed = dataclasses.replace(
        run,
        name=HOSTILE,
        command=("digits", HOSTILE),
        options=(HOSTILE,),
        unknown=(HOSTILE,),
        config={HOSTILE: HOSTILE},
        wandb=(record.WandbRun(id=HOSTILE, mode="offline", dir=HOSTILE, url=HOSTILE),),
        result={"metrics": {HOSTILE: 0.5}, "weights_sha256": HOSTILE},
        code=dataclasses.replace(run.code, target=HOSTILE),
        image=dataclasses.replace(run.image, reference=HOSTILE, packages={HOSTILE: HOSTILE}),
    )
    failure = {"kind": HOSTILE, "what": HOSTILE, "where": HOSTILE, "rank": 0, "remedy": HOSTILE}
    return changed.with_outcome(
        state="failed", exit_code=1, reason=HOSTILE, ended="2026-01-01T00:00:01.000+00:00",
        failure=failure,
    )  # fmt: skip


def found(run, metric):
    """Return a run with a trace of one epoch."""
    line = {"fit": 0, "epoch": 0, "metrics": {metric: "0x1p-1"}, "losses": [], "tensors": {}}
    return FoundRun(trace=traces.trace_of(run, json.dumps(line).encode()), link=run.name)


def check(text):
    assert HOSTILE[4:9] in text
    assert not UNSAFE.search(text), ascii(text)
    assert "\nVerdict: identical" not in text
    assert "\U0001f4a3" not in text


def test_a_summary_and_every_field_of_a_record(printed, hostile, tmp_path):
    texts = (
        summary.headline(hostile),
        summary.summarize(hostile, tmp_path),
        images.whole(hostile),
        images.identity(hostile.image),
    )
    for text in texts:
        check(printed(lambda text=text: say(text)))


def test_a_list_of_runs(printed, hostile, tmp_path):
    (tmp_path / "one").mkdir()
    record.write(tmp_path / "one", hostile)
    damaged = tmp_path / HOSTILE.replace("/", "-")
    damaged.mkdir()
    (damaged / "run.json").write_text("{")
    check(printed(lambda: say(run_table.table(listing.list_runs(tmp_path)))))


def test_a_comparison_and_its_plot(printed, run, hostile):
    one, two = found(run, HOSTILE), found(hostile, HOSTILE)
    compared = Comparison(
        one=one, two=two,
        findings=(Finding(subject=HOSTILE, original=HOSTILE, again="other", same=False),),
        same=(HOSTILE,), patch=(HOSTILE.splitlines()[0],), notes=(HOSTILE,),
    )  # fmt: skip
    check(printed(lambda: comparison.show(compared, None)))


def test_a_verdict_and_what_a_rerun_needs(printed, run, hostile):
    need = Requirement(subject=HOSTILE, state="here", detail=HOSTILE)
    judged = verdict.judge(found(run, HOSTILE).trace, found(hostile, HOSTILE).trace, 0.0)
    check(printed(lambda: verdicts.requirements([need])))
    text = printed(lambda: verdicts.verdict(judged, HOSTILE, HOSTILE))
    check(text.rpartition("\nVerdict:")[0])


def test_an_image_that_somebody_else_made(printed, hostile):
    looked_at = Inspection(
        image=hostile.image, labels={HOSTILE: HOSTILE}, commit=HOSTILE, tags=(HOSTILE,),
        user=HOSTILE, entrypoint=(HOSTILE,),
        layers=(Layer(diff_id="sha256:" + "a" * 64, bytes=1, made_by=HOSTILE),),
        packages=(Package(kind="python", name=HOSTILE, version=HOSTILE, license=HOSTILE, bytes=1),),
    )  # fmt: skip
    check(printed(lambda: inspection.show(looked_at, everything=True)))
