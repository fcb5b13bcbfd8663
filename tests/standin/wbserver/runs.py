"""Runs: what clients tell of them, and what they read of them."""

from __future__ import annotations

import json
from typing import Any

from .binding import Call, Refused, constants, resolver
from .connections import Page, page
from .records import EVENTS, HISTORY, OUTPUT, Project, Run, gid

# What a client may tell of a run, and where it is kept.
TOLD = {
    "displayName": "display_name",
    "description": "description",
    "notes": "notes",
    "groupName": "group",
    "jobType": "job_type",
    "host": "host",
    "tags": "tags",
    "jobProgram": "program",
    "jobRepo": "repo",
    "commit": "commit",
    "sweep": "sweep_name",
    "debug": "debug",
}


def merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Put *new* into *old*, at every depth."""
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            merge(old[key], value)
        else:
            old[key] = value
    return old


def find(call: Call, values: dict[str, Any]) -> Run:
    """Return the run that *values* names by its entity, project and name."""
    name = values["runName"]
    found = call.store.run(values.get("entityName"), values.get("projectName"), name)
    if found is None:
        raise Refused(f"There is no run {name}.")
    return found


def find_by_id(call: Call, storage_id: str) -> Run:
    """Return the run with this id."""
    found = call.store.run_by_id(storage_id)
    if found is None:
        raise Refused(f"There is no run with the id {storage_id}.")
    return found


# --- what clients tell


@resolver("Mutation.upsertBucket")
def upsert(_: Any, call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """Make a run, or change it."""
    _check_tags(call, values.get("tags") or [])
    before = len(call.store.runs)
    run = _named(call, values)
    for told, kept in TOLD.items():
        if values.get(told) is not None:
            setattr(run, kept, values[told])
    _tell_numbers(call, run, values)
    _tell_state(run, values)
    call.upserting = bool(values.get("name"))
    return {"bucket": run, "inserted": len(call.store.runs) > before}


def _check_tags(call: Call, tags: list[str]) -> None:
    longest = call.store.max_tag
    if wrong := [tag for tag in tags if not 1 <= len(tag) <= longest]:
        raise Refused(f"A tag has 1 to {longest} characters, not {wrong[0]!r}.")


def _named(call: Call, values: dict[str, Any]) -> Run:
    """Return the run with the id in *values*, else with the name: that one is made if need be."""
    found = call.store.run_by_id(values["id"]) if values.get("id") else None
    if found is None and not values.get("name"):
        raise Refused(f"There is no run with the id {values.get('id')}.")
    return found or _made(call, values)


def _made(call: Call, values: dict[str, Any]) -> Run:
    project = call.store.create_project(values.get("entityName"), values.get("modelName"))
    title = f"standin-run-{len(call.store.runs) + 1}"
    made = Run(entity=project.entity, project=project.name, name=values["name"], display_name=title)
    return call.store.runs.setdefault(made.key, made)


def _tell_numbers(call: Call, run: Run, values: dict[str, Any]) -> None:
    if values.get("config") is not None:
        config = json.loads(values["config"])
        run.config = merge(run.config, config) if call.shared else config
    if values.get("summaryMetrics") is not None:
        run.summary = json.loads(values["summaryMetrics"])


def _tell_state(run: Run, values: dict[str, Any]) -> None:
    if values.get("state"):
        run.state = values["state"]
    elif values.get("name"):  # The run itself lives: `wandb.Api()` sends an id alone.
        run.state, run.exitcode = "running", None
        run.touch()


@resolver("Mutation.stopRun")
def stop(_: Any, call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """Let the run's client know, when it streams next, that it is to stop."""
    find_by_id(call, values["id"]).stopped = True
    return {"success": True}


@resolver("Mutation.deleteRun")
def delete(_: Any, call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """Forget a run."""
    del call.store.runs[find_by_id(call, values["id"]).key]
    return {}


@resolver("Mutation.rewindRun")
def rewind(_: Any, call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """Forget the rows after a step."""
    run, last = find(call, values), values["metricValue"]
    rows = run.stream.get(HISTORY, {})
    run.stream[HISTORY] = {k: row for k, row in rows.items() if json.loads(row)["_step"] <= last}
    return {"rewoundRun": run}


@resolver("Mutation.notifyScriptableRunAlert")
def alert(_: Any, call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """Keep an alert."""
    find(call, values).alerts.append(values)
    return {"success": True}


@resolver("Mutation.createCustomChart")
def create_chart(_: Any, call: Call, values: dict[str, Any]) -> dict[str, Any]:
    """Keep a chart's specification."""
    call.store.charts.append(values)
    return {"chart": {"id": gid("Chart", len(call.store.charts))}}


# --- what clients read


@resolver("Run.groupName")
def group_name(run: Run, _: Call) -> str | None:
    """Return its group, which has two names."""
    return run.group


@resolver("Run.project")
def project(run: Run, call: Call) -> Project | None:
    """Return its project."""
    return call.store.project(run.entity, run.project)


@resolver("Run.projectId")
def project_id(run: Run, call: Call) -> str:
    """Return its project's number."""
    return str(call.store.projects[f"{run.entity}/{run.project}"].number)


@resolver("Run.config")
def config(run: Run, _: Call) -> str:
    """Return its configuration."""
    return json.dumps(run.config)


@resolver("Run.wandbConfig")
def wandb_config(run: Run, _: Call, keys: list[str]) -> str:
    """Return some of what wandb itself keeps in the configuration."""
    kept = (run.config.get("_wandb") or {}).get("value") or {}
    return json.dumps({key: kept[key] for key in keys if key in kept})


@resolver("Run.summaryMetrics")
def summary(run: Run, _: Call) -> str:
    """Return its summary."""
    return json.dumps(run.summary)


@resolver("Run.systemMetrics")
def system_metrics(run: Run, _: Call) -> str:
    """Return the last measurement of the system."""
    return (run.lines(EVENTS) or ["{}"])[-1]


@resolver("Run.historyLineCount")
def history_line_count(run: Run, call: Call) -> int | None:
    """Return how many rows there are."""
    hidden = call.upserting and not call.store.report_line_count
    return None if hidden else len(run.lines(HISTORY))


@resolver("Run.eventsLineCount")
def events_line_count(run: Run, _: Call) -> int:
    """Return how many measurements of the system there are."""
    return len(run.lines(EVENTS))


@resolver("Run.logLineCount")
def log_line_count(run: Run, _: Call) -> int:
    """Return how many lines of output there are."""
    return len(run.lines(OUTPUT))


@resolver("Run.historyTail")
def history_tail(run: Run, _: Call) -> str:
    """Return the last row, as a list of JSON texts."""
    return json.dumps(run.lines(HISTORY)[-1:])


@resolver("Run.eventsTail")
def events_tail(run: Run, _: Call) -> str:
    """Return the last measurement of the system, as a list of JSON texts."""
    return json.dumps(run.lines(EVENTS)[-1:])


@resolver("Run.events")
def events(run: Run, _: Call, samples: int | None = None) -> list[str]:
    """Return the first measurements of the system."""
    return run.lines(EVENTS)[: samples or None]


@resolver("Run.logLines")
def log_lines(
    run: Run,
    _: Call,
    last: int | None = None,
    use_improved_pagination: bool = False,
    **paging: Any,
) -> Page:
    """Return what the run printed."""
    found = [_log_line(number, line) for number, line in enumerate(run.lines(OUTPUT))]
    return page(found[-last:] if last else found, **paging)


def _log_line(number: int, line: str) -> dict[str, Any]:
    try:
        parts = json.loads(line) if line.startswith("{") else {}
    except ValueError:
        parts = {}
    found = {"timestamp": parts.get("ts"), "level": parts.get("level"), "label": parts.get("label")}
    return found | {"number": number, "line": parts.get("content", line)}


constants({"Run.readOnly": False})
