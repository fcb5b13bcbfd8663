"""Runs that are there already."""

from pathlib import Path

from invoke.context import Context
from invoke.tasks import task

from samerun.verbs.common import reports_errors, say


@task(
    auto_shortflags=False,
    positional=["run"],
    help={
        "run": "the run's folder, or its name under runs/",
        "api-key-file": "file with the W&B key",
        "network": "Docker network of the container",
    },
)
@reports_errors
def sync(
    context: Context, run: str, api_key_file: str | None = None, network: str | None = None
) -> None:
    """Upload a run that was recorded offline to W&B, from inside its own image."""
    from samerun.host import sync as syncer
    from samerun.host.train import folder_of

    key_file = Path(api_key_file).expanduser() if api_key_file else None
    for delivered in syncer.sync(folder_of(run), key_file, network):
        say(f"delivered {delivered}")
