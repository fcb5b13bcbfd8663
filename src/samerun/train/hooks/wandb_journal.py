"""
Keep a journal of what a training logs to W&B, so that no row and no artifact is lost.

wandb passes rows on to its own process, whose file gets them seconds later, so a kill loses
some; and of an online run's artifacts that file has none. So each row is written to the journal
before wandb gets it, with a name that is the same in each start of the run (`parts` below).
After a resume, rows that did not arrive are logged again, and rows that did are left out.
`invoke sync` compares the server with the journal, see ``wandb_content``.
"""

import atexit
import functools
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

from samerun.train.hooks import wandb_arrived, wandb_lines, wandb_log, wandb_sign
from samerun.train.report import reporting
from samerun.train.report.quiet import quietly

Row = dict[str, Any]
# The name of a part of a row, and its values.
Part = tuple[str, Row]
# Rows that are logged at the same time are among this many.
_RECENT = 4096

_journals: dict[str, "Journal"] = {}


def install(wandb: Any) -> None:
    """Let all runs of the module *wandb* have a journal."""
    if not reporting.is_recorded():
        return
    run_class = wandb.sdk.wandb_run.Run
    # It asks the server in the midst of a training, which then waits for it, or ends with its
    # error; the server itself refuses an artifact of another type.
    run_class._assert_can_log_artifact = lambda *_: None
    original, finish = wandb.init, run_class._finish

    @functools.wraps(original)
    def init(*args: Any, **kwargs: Any) -> Any:
        run = original(*args, **kwargs)
        quietly("keep a journal of the W&B run", follow, run)
        return run

    @functools.wraps(finish)
    def close_and_finish(self: Any, *args: Any, **kwargs: Any) -> Any:
        _close(self)
        return finish(self, *args, **kwargs)

    wandb.init, run_class._finish = init, close_and_finish


def follow(run: Any) -> None:
    """Write what is logged to *run* to its journal, from now on."""
    if run.disabled or getattr(run._interface, "samerun_journal", None):
        return
    journal = of(run)
    journal.attach(run)
    # wandb's exit handler does not call finish(). Ours is registered later, so it runs first.
    atexit.register(_close, run)


def of(run: Any) -> "Journal":
    """Return the journal of *run* in this process."""
    if run.id not in _journals or _journals[run.id].pid != os.getpid():
        _journals[run.id] = Journal(run)
    return _journals[run.id]


def _close(run: Any) -> None:
    if run.id in _journals and _journals[run.id].pid == os.getpid():
        quietly("log the last row", _journals[run.id].close)


def state() -> dict[str, Any]:
    """Return, for a checkpoint, how much was logged to each run."""
    return {key: journal.state() for key, journal in _journals.items()}


def restore(states: dict[str, Any] | None, *, muted: bool = False) -> None:
    """
    Continue from what `state` returned; *muted*: log nothing until it is called once more.

    A training that resumes within an epoch begins that epoch anew, with the rows that the
    script logs there; they were logged before the checkpoint.
    """
    for key, journal in _journals.items():
        if states and key in states:
            quietly("restore what was logged", journal.restore, states[key], muted)


def end() -> None:
    """
    Log nothing more: the last checkpoint is written.

    What follows it, such as the step that waits for its epoch's metrics, is logged by the next
    start. W&B refuses it anyway, where its run is finished; the journal would take it for lost.
    """
    for journal in _journals.values():
        quietly("end the journal of rows", journal.end)


class Journal:
    """All rows and artifacts that this process logs to one W&B run, and what is left of before."""

    def __init__(self, run: Any) -> None:
        self.pid = os.getpid()
        self._path = wandb_lines.path(reporting.folder(), run.id)
        self._lock = threading.RLock()
        before = quietly("read the journal of rows", wandb_lines.read, self._path) or []
        self._prefix, self._is_resumed = _prefix(before), bool(before)
        self._there, self._lost = wandb_arrived.split(run, before)
        own = {name for name in self._there if name.startswith(f"{self._prefix}step:")}
        self._ends = wandb_lines.ends_of_epochs(before, own)
        self._counts: Counter[str] = Counter()
        self._open: list[Part] = []
        self._open_step: int | None = None
        self._muted, self._has_ended = False, False
        self._recent: dict[int, None] = {}
        self._path.parent.mkdir(exist_ok=True)
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._torn, self._is_told = True, False

    def attach(self, run: Any) -> None:
        """Stand between *run* and wandb's own process."""
        interface = run._interface
        self._run, self._next = run, int(run.starting_step or 0)
        # Of a run that has no journal yet, wandb itself leaves out the steps before it.
        self._first = self._next if self._is_resumed else 0
        self._publish = interface._publish_partial_history
        interface._publish_partial_history = self.log
        for name in ("_publish_artifact", "_deliver_artifact", "_publish_files"):
            setattr(interface, name, self._noting(getattr(interface, name)))
        interface.samerun_journal = self
        start = {"start": reporting.start_number(), "rank": reporting.rank()}
        self._write([{**start, "run": wandb_lines.text(interface._make_run(run))}])

    # -- rows of the script, or of any other code that calls `run.log` ---------------------

    def log(self, history: Any) -> None:
        """Take the place of the method that passes a part of a row to wandb's process."""
        if os.getpid() != self.pid:
            self._publish(history)
            return
        with self._lock:
            if self._has_ended:
                return
            step = history.step.num if history.HasField("step") else None
            flush = history.action.flush if history.HasField("action") else step is None
            if self._open and step is not None and step > self._at():
                self.close()
            values = wandb_log.values(history.item)
            name = self._name(values)
            if step is not None and step < self._first:
                step = None  # Before the resume, that was no step of the past.
            if step is not None and step < self._at():
                self._publish(history)  # wandb leaves it out, and says so.
            elif name not in self._there and not self._muted:
                self._add(name, values, step)
            if flush:
                self.close()

    def _at(self) -> int:
        """Return the step of the row that is open, or will be."""
        return self._next if self._open_step is None else self._open_step

    def _add(self, name: str, values: Row, step: int | None) -> None:
        self._open_time = values.pop("_timestamp", None)
        self._lost.pop(name, None)
        self._open.append((name, values))
        self._open_step = self._open_step if step is None else step

    def _name(self, values: Row) -> str:
        """Return which row of these columns this is: the same in each start of the run."""
        columns = wandb_lines.columns(values)
        self._counts[columns] += 1
        return f"{self._prefix}own:{columns}:{self._counts[columns] - 1}"

    def close(self) -> None:
        """Log the row that is open, if there is one."""
        with self._lock:
            if not self._open:
                return
            parts, step = self._open, self._open_step
            self._open, self._open_step = [], None
            self._send(parts, self._open_time, step)

    def _send(self, parts: list[Part], time: Any, step: int | None) -> None:
        time = self._unique(time)
        self._write([{"time": time, "step": step, "parts": parts}])
        self._next = (self._next if step is None else step) + 1
        values = {key: value for _, part in parts for key, value in part.items()}
        self._publish(_request({**values, "_timestamp": time}, step, flush=True))

    def end(self) -> None:
        """Log the row that is open, and nothing more."""
        with self._lock:
            self.close()
            self._has_ended = True

    # -- rows of the callback --------------------------------------------------------------

    def admit(self, rows: Sequence[Row]) -> list[Row]:
        """Write *rows* to the journal; return the lost rows, then the new ones, to send."""
        with self._lock:
            if self._has_ended:
                return []
            missing = self._missing_before(rows)
            rest = map(self._rest, rows)
            new = [row for row in rest if self._key(row) not in self._there]
            lines = [self._line(row) for row in missing]
            lines += [self._line(row, first=n == 0) for n, row in enumerate(new)]
            self._write(lines)
            self._next += len(lines)
            return [self._row(line) for line in lines]

    def _rest(self, row: Row) -> Row:
        """Return *row* without the step in it, if W&B has that without the epoch's metrics."""
        if self._key(row) in self._there or wandb_lines.step(row) not in self._ends:
            return row
        return wandb_lines.without(row, self._ends[wandb_lines.step(row)])

    def _key(self, row: Row) -> str:
        return self._prefix + wandb_lines.callback_key(row)

    def _missing_before(self, rows: Sequence[Row]) -> list[Row]:
        """Return the lost rows that precede *rows*, the first rows of this start."""
        if not rows:
            return []
        lost = [(name, *part) for name, part in self._lost.items() if name == self._key(part[1])]
        first = wandb_lines.order(rows[0])
        found = [(name, time, row) for name, time, row in lost if wandb_lines.order(row) < first]
        for name, *_ in lost:
            del self._lost[name]
        return [{**row, "_timestamp": time} for _, time, row in found]

    def _line(self, row: Row, *, first: bool = False) -> Row:
        values = dict(row)
        time = self._unique(values.pop("_timestamp"))
        parts = [(self._key(row), values)]
        if first and self._open:
            # What was logged with `commit=False` is in the callback's next row.
            if self._open_step is not None:
                values_before = {k: v for _, part in self._open for k, v in part.items()}
                self._publish(_request(values_before, self._open_step, flush=False))
                self._next = self._open_step
            parts, self._open, self._open_step = [*self._open, *parts], [], None
        return {"time": time, "step": None, "parts": parts}

    @staticmethod
    def _row(line: Row) -> Row:
        values = {key: value for _, part in line["parts"] for key, value in part.items()}
        return {**values, "_timestamp": line["time"]}

    # -- artifacts -------------------------------------------------------------------------

    def _noting(self, original: Any) -> Any:
        """Note the artifacts that pass; where wandb's process is gone, a row still follows."""

        @functools.wraps(original)
        def noting(message: Any) -> Any:
            artifact = getattr(message, "artifact", message)
            if artifact.DESCRIPTOR.name == "ArtifactRecord":
                self._write([{"artifact": wandb_lines.text(artifact)}])
            try:
                return original(message)
            except Exception as error:
                if not wandb_sign.is_gone(error):
                    raise
                wandb_sign.tell_gone(self._run, "log", error)
            return None

        return noting

    # -- checkpoints -----------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return how many rows of each kind were logged, and the row that is open."""
        with self._lock:
            opened = {"parts": self._open, "step": self._open_step}
            opened["time"] = self._open_time if self._open else None
            return {"counts": dict(self._counts), "open": json.dumps(opened)}

    def restore(self, state: dict[str, Any], muted: bool) -> None:
        """Log what was lost of the rows before *state*; those after it are logged again."""
        with self._lock:
            self._muted = muted
            if muted:
                return
            self._counts = Counter(state["counts"])
            rows: dict[Any, list[Part]] = {}
            for name in [name for name in self._lost if self._precedes(name)]:
                time, values = self._lost.pop(name)
                rows.setdefault(time, []).append((name, values))
            for time, parts in rows.items():
                wandb_arrived.link_media(self._run, [values for _, values in parts])
                self._send(parts, time, None)
            opened = json.loads(state["open"])
            self._open = [(name, v) for name, v in opened["parts"] if name not in self._there]
            self._open_step, self._open_time = opened["step"], opened["time"]

    def _precedes(self, name: str) -> bool:
        if not name.startswith(f"{self._prefix}own:"):
            return False
        columns, number = name.rsplit(":", 2)[1:]
        return int(number) < self._counts[columns]

    # -- the file --------------------------------------------------------------------------

    def _unique(self, time: Any) -> Any:
        """Return *time*, or the next that no other row has: times identify rows."""
        while wandb_log.microseconds(time) in self._recent:
            time = (wandb_log.microseconds(time) + 1) / 1e6
        self._recent[wandb_log.microseconds(time)] = None
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]
        return time

    def _write(self, lines: Sequence[Row]) -> None:
        try:
            self._append(lines)
        except OSError as error:
            if not self._is_told:
                self._is_told = True
                sys.stderr.write(
                    f"samerun: the journal of rows can't be written ({error}); after a kill, rows "
                    "may be missing in W&B.\n"
                )

    def _append(self, lines: Sequence[Row]) -> None:
        text = "".join(json.dumps(line, default=str) + "\n" for line in lines)
        # A kill, or a full disk, may have torn the last line.
        data = f"\n{text}".encode() if self._torn else text.encode()
        self._torn = True
        while data:
            data = data[os.write(self._file, data) :]
        self._torn = False


def _prefix(before: Sequence[Row]) -> str:
    """Return what tells this process's rows from those of other processes of the same start."""
    rank = reporting.rank()
    place = {"start": reporting.start_number(), "rank": rank}
    earlier = sum("run" in line and {k: line.get(k) for k in place} == place for line in before)
    return f"{rank}.{earlier}:" if rank or earlier else ""


def _request(values: Row, step: int | None, *, flush: bool) -> Any:
    """Return the message that passes *values* to wandb's process."""
    from wandb.proto.wandb_internal_pb2 import PartialHistoryRequest

    request = PartialHistoryRequest()
    for key, value in values.items():
        request.item.add(key=key, value_json=json.dumps(value))
    if step is not None:
        request.step.num = step
    request.action.flush = flush
    return request
