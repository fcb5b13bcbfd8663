"""A run in lines of text: what it is, its result, what to do next."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samerun.core import contract, data_names, placement, user_variables
from samerun.core.record import Run
from samerun.core.terminal import safe
from samerun.host.checkout.project import DEFAULT_CUDA
from samerun.host.run import progress
from samerun.host.run.folders import shown


def headline(run: Run) -> str:
    """Return one line about image and devices of the run."""
    topology = run.topology
    device = "CPU" if topology.gpus == "0" else f"GPUs: {', '.join(run.hardware.gpus)}"
    number = f"{topology.procs} process{'es' if topology.procs > 1 else ''}"
    if topology.nodes > 1:
        number += f", node {topology.node_rank} of "
        number += placement.shown(topology.least_nodes, topology.nodes)
    return safe(f"Run {run.name} in {run.image.reference[:60]}… on {device}, {number}.")


def summarize(run: Run, folder: Path) -> str:
    """Return the closing lines: result, paths, next commands."""
    place = shown(folder)
    lines = [
        ("result", result(run, folder)),
        ("state", _state(run)),
        *(("device", text) for text in [device(run)] if text),
        *(("nodes", text) for text in [rounds(run)] if text),
        *(("failed", text) for text in [failure(run)] if text),
        *(("remedy", text) for text in [remedy(run)] if text),
        *(("resume", text) for text in [go_on(run, folder)] if text),
        ("image", run.image.digest or "unknown"),
        ("record", f"{place}/run.json"),
        ("W&B", _wandb(run, place)),
        ("again", again(run) if run.image.digest else "unknown, because the image is unknown"),
        *(("unknown", text) for text in run.unknown),
    ]
    if any(entry.mode == "offline" for entry in run.wandb):
        lines.append(
            ("sync", f"invoke sync {shlex.quote(place)}  (with WANDB_API_KEY or ~/.netrc)")
        )
    return "\n".join(f"  {name:<7} {safe(text)}" for name, text in lines)


def result(run: Run, folder: Path) -> str:
    """Return the last metrics; of an unfinished training with the epochs it has done."""
    metrics = run.result.get("metrics", {})
    known = progress.read(folder)
    if known is not None and known.done and run.outcome.state != "finished":
        shown = _metrics(known.metrics)
        return f"{shown or 'no metrics'} (after {known.shown()} epochs)"
    return _metrics(metrics) or "none recorded"


def _metrics(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v:.4f}" for k, v in values.items() if isinstance(v, float))


def _state(run: Run) -> str:
    outcome = run.outcome
    reason = f" ({outcome.reason})" if outcome.reason else ""
    starts = f", {outcome.restarts + 1} starts" if outcome.restarts else ""
    spent = f", {outcome.duration_s:.1f} s" if outcome.duration_s is not None else ""
    return f"{outcome.state}{reason}, exit code {outcome.exit_code}{spent}{starts}"


def device(run: Run) -> str:
    """Return what a run on GPUs computed on, as its processes report it; empty if unknown."""
    seen = run.environment.get("device")
    if run.topology.gpus == "0" or seen is None:
        return ""
    if seen != "cuda":
        return "the CPU"
    names = ", ".join(run.hardware.gpus)
    if run.result.get("device") == "cpu":
        return f"the CPU: the training left its model there ({names} was available)"
    return f"CUDA on {names}"


def rounds(run: Run) -> str:
    """Return how the number of nodes changed, and why; empty if it did not."""
    sizes = [
        f"{len(one.nodes)} ({one.why})" if one.why else str(len(one.nodes)) for one in run.rounds
    ]
    return ", then ".join(sizes) if len(sizes) > 1 else ""


def failure(run: Run) -> str:
    """Return one line about the container's failure report; empty if there is none."""
    report = run.outcome.failure or {}
    words = [str(report[name]) for name in ("kind", "what", "where") if report.get(name)]
    rank = f"rank {report['rank']}: " if report.get("rank") is not None else ""
    return f"{rank}{', '.join(words)}"[:500] if words else ""


def go_on(run: Run, folder: Path) -> str:
    """Return the command that resumes an interrupted run; empty for all others."""
    if run.outcome.state not in ("preempted", "killed", "stopped") or run.code.where == "mounted":
        return ""
    return f"invoke train --resume {shlex.quote(shown(folder))}"


def remedy(run: Run) -> str:
    """Return the remedy for a run that failed for a known reason; else empty."""
    reason = run.outcome.reason or ""
    if reason == contract.OUT_OF_MEMORY:
        limit = run.launch.memory if run.launch else None
        return (
            f"it used all of its --memory{f' of {limit}' if limit else ''}, including /tmp and "
            "shared memory: use a smaller batch, fewer loader workers, or a larger --memory"
        )
    if reason == contract.OUTPUT_FULL:
        return "free space there, or choose another --output"
    if reason.startswith(contract.DATA_GONE):
        return "check that the disk of the data is mounted, then train again"
    told = (run.outcome.failure or {}).get("remedy")
    return told[:500] if isinstance(told, str) else ""


def _wandb(run: Run, place: str) -> str:
    if not run.wandb:
        return "no run was started"
    return ", ".join(entry.url or f"{place}/{entry.dir}" for entry in run.wandb)


def again(run: Run) -> str:
    """Return the command that reruns the training in the same image."""
    words = ["invoke", "train", run.code.target, "--gpus", run.topology.gpus]
    options = [word for word in run.options if not word.startswith("--image=")]
    if run.code.kind == "recipe" and run.image.reference:
        # A script's image has the script already: it is added to the one that was given.
        words += ["--image", run.image.reference]
    elif len(options) < len(run.options):
        options = list(run.options)
    elif run.image.cuda and run.image.cuda != DEFAULT_CUDA:
        words += ["--cuda", run.image.cuda]
    if run.topology.gpus == "0" and run.topology.procs > 1:
        words += ["--procs", str(run.topology.procs)]
    words += ["--seed", str(run.seed), *(["--fast"] if run.determinism == "fast" else [])]
    if run.topology.nodes > 1:
        number = placement.shown(run.topology.least_nodes, run.topology.nodes)
        words += ["--nodes", number, "--node-rank", str(run.topology.node_rank)]
        words += ["--rdzv", str(run.topology.rendezvous)]
    given = user_variables.of_record(run.launch.environment) if run.launch else {}
    words += [word for name, value in given.items() for word in ("--env", f"{name}={value}")]
    for data in run.data:
        words += ["--data", data_names.shown(data.name, data.source or "FOLDER")]
    words += options
    words += ["--follow-links"] if any(data.follow_links for data in run.data) else []
    arguments = run.command[1:]
    return shlex.join([*words, *(["--", *arguments] if arguments else [])])
