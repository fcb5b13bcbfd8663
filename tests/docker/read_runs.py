"""Print what the offline W&B runs under /output hold, as JSON. Runs inside the image."""

import json
from pathlib import Path

import wandblog


def describe(path):
    """Return tags, config, rows and artifacts of one run."""
    run = wandblog.read_run(path)
    found = {"config": run.config, "rows": len(run.rows), "complete": run.complete}
    found["artifacts"] = {a.name: a.type for a in run.artifacts}
    found["tags"], found["docker"] = [], None
    for record in wandblog._records(path.read_bytes()):
        if record.HasField("run"):
            found["tags"] = list(record.run.tags)
        if record.HasField("environment") and record.environment.docker:
            found["docker"] = record.environment.docker
    return found


if __name__ == "__main__":
    paths = sorted(Path("/output/wandb").glob("offline-run-*/*.wandb"))
    print(json.dumps([describe(path) for path in paths]))
