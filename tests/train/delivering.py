"""Deliver a run to the stand-in as `invoke sync` does, without its containers."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import samerun

# The image has no host side; `invoke test` mounts the sources for it.
samerun.__path__.append("/src/samerun")

from samerun.host.tracking import delivery, graphql, keys  # noqa: E402
from samerun.train.hooks import wandb_content, wandb_log, wandb_outbox  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "standin"))

KEY = "0" * 40


def dirs(folder):
    """Return the W&B folders in the run's *folder*."""
    return [str(path) for path in sorted((folder / "wandb").glob("*run-*")) if path.is_dir()]


def expected(folder):
    """Return what W&B must have of the only W&B run in *folder*."""
    (content,) = wandb_content.contents(folder, dirs(folder))
    (logged,) = delivery.read([content.summary()])
    return content, logged


def deliver(folder, server, *, send=True):
    """Send what the server lacks; return what it lacks then."""
    content, logged = expected(folder)
    api = graphql.Api(base_url=server.url, key=keys.Key(value=KEY, source="test"))
    difference = delivery.compare(logged, delivery.ask(api, "ent", logged))
    if send and not difference.is_complete:
        _send(folder, server, content, delivery.ask(api, "ent", logged), difference)
        difference = delivery.compare(logged, delivery.ask(api, "ent", logged))
    return difference


def _send(folder, server, content, delivered, difference):
    outbox = folder / "outbox"
    shutil.rmtree(outbox, ignore_errors=True)
    (outbox / wandb_outbox.DIRECTORY / wandb_outbox.FILES).mkdir(parents=True)
    for log in content.logs:
        files = outbox / wandb_outbox.DIRECTORY / wandb_outbox.FILES
        shutil.copytree(log.parent / "files", files, dirs_exist_ok=True)
    request = delivery.request(difference, delivered, exit_code=0)
    (outbox / wandb_outbox.REQUEST).write_text(json.dumps(request))
    wandb_outbox.main([str(folder), str(outbox), *dirs(folder)])
    wandb_sync(server, outbox / wandb_outbox.DIRECTORY)


def wandb_sync(server, *folders):
    """Run wandb's own command; it exits with 0 whatever it did."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "SAMERUN_"))}
    env |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "WANDB_ERROR_REPORTING": "false"}
    line = ["-m", "wandb", "sync", "--include-online", "--include-synced", *map(str, folders)]
    done = subprocess.run(
        [sys.executable, *line], env=env, cwd=folders[0].parent, capture_output=True, text=True,
        check=True, timeout=120,
    )  # fmt: skip
    return done.stdout + done.stderr


def run(server):
    """Return the only run that the server has."""
    (found,) = server.store.runs.values()
    return found


def rows(server):
    """Return the rows of that run, as the server shows them."""
    return run(server).history()


def doubled(server):
    """Return how many rows the server has more than once."""
    return sum(n - 1 for n in Counter(row["_timestamp"] for row in rows(server)).values())


def artifacts(server):
    """Return how many versions of each artifact the server has."""
    return Counter(name.partition(":")[0] for name in server.store.logged(run(server)))


def tear(folder, size):
    """Cut the newest log as a kill does between two flushes."""
    log = wandb_log.find([str(folder / "wandb" / "x")])[-1]
    os.truncate(log, size)
