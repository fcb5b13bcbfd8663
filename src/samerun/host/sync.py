"""`invoke sync`: deliver a run's offline W&B runs from inside its own image."""

import os
import subprocess
from pathlib import Path

from samerun import contract, record
from samerun.errors import KeyFileError, RecordError
from samerun.host import engine, identity, keys, launch, user
from samerun.host import network as networks
from samerun.host.launch import Launch, Mount
from samerun.host.run import with_key
from samerun.record import Run


def sync(folder: Path, key_file: Path | None, network: str | None) -> list[str]:
    """
    Upload the run in *folder*; return the names of the W&B runs delivered.

    It happens in the run's image, where artifacts lie at the paths that W&B noted.

    Raises:
        KeyFileError: No key was found.
        RecordError: The run has nothing offline, or W&B did not confirm a run.
    """
    run = record.read(folder)
    offline = [entry for entry in run.wandb if entry["mode"] == "offline"]
    if not offline:
        raise RecordError(f"{folder} has no offline W&B run.", "Online runs need no sync.")
    key = keys.find(key_file)
    if key is None:
        raise KeyFileError("No W&B key was found.", "Set WANDB_API_KEY or give --api-key-file.")
    client = engine.connect()
    identity.identify(client, run.image.reference)
    uid, gid = user.of_folder(folder)
    if network is None:
        networks.ensure(client)
    with keys.lent(key, uid, gid) as netrc:
        plan = with_key(_launch(run, folder, offline, f"{uid}:{gid}", network), netrc)
        subprocess.run(plan.argv(), check=False)
    # wandb's exit code is 0 also for a damaged log; its own marker is the better sign.
    missing = [e["id"] for e in offline if not list(folder.joinpath(e["dir"]).glob("*.synced"))]
    if missing:
        raise RecordError(f"W&B did not confirm {', '.join(missing)}.", "See the lines above.")
    return [entry["id"] for entry in offline]


def _launch(
    run: Run, folder: Path, offline: list[dict[str, str]], user: str, network: str | None
) -> Launch:
    settings = {n: os.environ[n] for n in contract.FORWARDED if n in os.environ}
    settings.pop("WANDB_MODE", None)
    settings.pop("WANDB_TAGS", None)
    paths = tuple(f"{contract.OUTPUT}/{entry['dir']}" for entry in offline)
    return Launch(
        run=f"{run.name}-sync",
        image=run.image.reference,
        user=user,
        target="",
        entrypoint="wandb",
        arguments=("sync", *paths),
        procs=1,
        seed=run.seed,
        shm_size=run.topology.shm_size,
        mounts=(Mount(source=str(folder), target=contract.OUTPUT, read_only=False),),
        environment={
            **launch.present(settings),
            "NETRC": contract.NETRC,
        },
        network=network or networks.NAME,
        detach=False,
    )
