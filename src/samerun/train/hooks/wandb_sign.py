"""
Add the image's digest and the record to every W&B run.

``wandb.init(tags=...)`` replaces ``WANDB_TAGS``, so the digest is added after the run is
created, no matter which code creates it. Nothing here may stop a training; a failure prints
one line.
"""

import atexit
import functools
import os
import tempfile
from pathlib import Path
from typing import Any

from samerun.core import contract, parts, record
from samerun.train.report import reporting
from samerun.train.report.quiet import quietly

# If W&B does not respond for so many seconds, the run is recorded offline; wandb's default is 90.
INIT_TIMEOUT_S = 20

# W&B runs of this process to which the record was logged.
_logged: set[str] = set()
# Calls of ``wandb.init`` so far: the next start makes the same calls in the same order.
_inits = 0


def install(wandb: Any) -> None:
    """Extend ``wandb.init`` and the end of a run of the module *wandb*."""
    if not reporting.is_recorded():
        return
    os.environ.setdefault("WANDB_INIT_TIMEOUT", str(INIT_TIMEOUT_S))
    _extend_init(wandb)
    _extend_finish(wandb.sdk.wandb_run.Run)


def _extend_init(wandb: Any) -> None:
    original = wandb.init

    @functools.wraps(original)
    def init(*args: Any, **kwargs: Any) -> Any:
        earlier = quietly("find the W&B run of the last start", _earlier_run)
        if earlier and not args and not kwargs.get("id"):
            kwargs |= {"id": earlier, "resume": "allow"}
        try:
            run = original(*args, **kwargs)
        except wandb.errors.CommError as error:
            # Training does not need W&B; `invoke sync` uploads the run later.
            what = str(error).strip().splitlines()[0]
            wandb.termwarn(f"W&B can't be reached ({what}); this run is recorded offline.")
            run = original(*args, **{**kwargs, "mode": "offline"})
        quietly("sign the W&B run", sign, run)
        return run

    wandb.init = init


def _extend_finish(cls: Any) -> None:
    # finish(), wandb.finish() and `with wandb.init():` all call this method.
    original = cls._finish

    @functools.wraps(original)
    def finish(self: Any, *args: Any, **kwargs: Any) -> Any:
        quietly("log the run's record", log_record, self)
        return original(self, *args, **kwargs)

    cls._finish = finish


def _earlier_run() -> str | None:
    """Return the id of the W&B run that the same call of an earlier start created."""
    global _inits
    _inits += 1
    if reporting.start_number() == 1:
        return None
    for path in (reporting.folder() / contract.PARTS).glob("wandb-*.json"):
        part = parts.read_part(reporting.folder(), path.stem)
        if (part.get("rank"), part.get("order")) == (reporting.rank(), _inits):
            return str(part["id"])
    return None


def sign(run: Any) -> None:
    """Add the digest to the tags of *run*, and image, code and data to its config."""
    if run.disabled:
        return
    own = _record()
    digest = own.image.digest
    # A standalone container may not know its own digest; W&B refuses an empty tag.
    if digest and digest not in (run.tags or ()):
        run.tags = (*(run.tags or ()), digest)
    run.config.update({contract.CONFIG_KEY: _config(own)}, allow_val_change=True)
    reporting.report(f"wandb-{run.id}", describe(run, reporting.folder()))
    # wandb's exit handler does not call finish(). Ours is registered later, so it runs first.
    atexit.register(quietly, "log the run's record", log_record, run)


def describe(run: Any, folder: Path) -> dict[str, Any]:
    """Return the record's entry for a W&B run; *dir* is relative to the run's folder."""
    path = Path(run.dir).parent
    return {
        "id": run.id,
        "name": run.name,
        "project": run.project,
        "entity": run.entity or None,
        "mode": "offline" if run.offline else "online",
        "url": None if run.offline else run.url,
        "dir": str(path.relative_to(folder) if path.is_relative_to(folder) else path),
        "rank": reporting.rank(),
        "order": _inits,
    }


def log_record(run: Any) -> None:
    """Log the record, with all parts reported so far, as an artifact of *run*, once."""
    if run.disabled or run.id in _logged:
        return
    _logged.add(run.id)
    import wandb

    text = record.to_json(parts.assemble(reporting.folder(), _record()))
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / contract.RECORD
        path.write_text(text, encoding="utf-8")
        artifact = wandb.Artifact(f"run-record-{run.id}", type="run-record")
        artifact.add_file(str(path))
        steps = reporting.folder() / contract.STEPS
        if steps.is_file():
            artifact.add_file(str(steps), name=steps.name)
        run.log_artifact(artifact)


def _config(own: record.Run) -> dict[str, Any]:
    """Return the config entry with what is needed to find the image and rerun the run."""
    image = own.image
    return {
        "run": own.name,
        "image": image.reference,
        "digest": image.digest,
        "digest_kind": image.digest_kind,
        "index_digest": image.index_digest,
        "manifest_digest": image.manifest_digest,
        "config_digest": image.config_digest,
        "layers_digest": image.layers_digest,
        "base": image.base.reference,
        "lock": image.lock,
        "cuda": image.cuda,
        "code": own.code.where,
        "command": list(own.command),
        "git_commit": own.code.git_commit,
        "git_dirty": own.code.git_dirty,
        "seed": own.seed,
        "world_size": own.topology.world_size,
        "data": [d.fingerprint for d in own.data],
        "reproduces": own.reproduces,
    }


def _record() -> record.Run:
    return record.read(reporting.folder())
