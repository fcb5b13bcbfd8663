"""
Add the image's digest and the record to every W&B run.

``wandb.init(tags=...)`` replaces ``WANDB_TAGS``, so the digest is added after the run is
created, no matter which code creates it. Nothing here may stop a training; a failure prints
one line.
"""

import atexit
import contextlib
import functools
import hashlib
import multiprocessing
import multiprocessing.util
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from samerun.core import contract, parts, record
from samerun.train.hooks import wandb_offline, wandb_patience
from samerun.train.report import reporting
from samerun.train.report.quiet import quietly

# If W&B does not respond for so many seconds, the run is recorded offline; wandb's default is 90.
INIT_TIMEOUT_S = 20

# W&B runs of this process to which the record was logged.
_logged: set[str] = set()
# Arguments of ``wandb.init``, and fields of its ``settings``, that choose a run.
_CHOOSING = {"id", "resume", "resume_from", "fork_from", "reinit"}
_CHOOSING_SETTINGS = {"run_id", "resume", "resume_from", "fork_from", "sweep_id"}
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
# Calls of ``wandb.init`` so far: the next start makes the same calls in the same order.
_inits = 0
# W&B runs whose service has died, and how wandb 0.31 says so besides a ConnectionError.
_gone: set[str] = set()
GONE = ("MailboxClosedError", "HandleAbandonedError", "ServiceDiedError")


def install(wandb: Any) -> None:
    """Extend ``wandb.init`` and the end of a run of the module *wandb*."""
    if reporting.is_recorded():
        os.environ.setdefault("WANDB_INIT_TIMEOUT", str(INIT_TIMEOUT_S))
        wandb_offline.install(wandb)
        _extend_init(wandb)
        _extend_finish(wandb.sdk.wandb_run.Run)
        wandb_patience.install(wandb)
    _extend_arguments(wandb)
    _extend_children(wandb)


def _extend_children(wandb: Any) -> None:
    """
    Let a run of a child process be finished when that ends, as `notebook_launcher`'s are.

    Such a process leaves without ``atexit``, so wandb would take its run for crashed.
    """
    original = wandb.init

    @functools.wraps(original)
    def init(*args: Any, **kwargs: Any) -> Any:
        run = original(*args, **kwargs)
        if multiprocessing.parent_process() is not None:
            multiprocessing.util.Finalize(None, quietly, ("finish", run.finish), exitpriority=1)
        return run

    wandb.init = init


def _extend_arguments(wandb: Any) -> None:
    """Let ``wandb.init("pets", entity="team")`` be what W&B's documentation means by it."""
    original = wandb.init
    said: set[str] = set()

    @functools.wraps(original)
    def init(*args: Any, **kwargs: Any) -> Any:
        # The first argument was the project once; today it is the entity, which is given twice.
        text = len(args) == 1 and isinstance(args[0], str)
        if text and "entity" in kwargs and "project" not in kwargs:
            if args[0] not in said:
                wandb.termwarn(
                    f"wandb.init({args[0]!r}, entity=...): the first argument is taken for the "
                    f"project, as it once was. Write wandb.init(project={args[0]!r}, entity=...)."
                )
            said.add(args[0])
            return original(project=args[0], **kwargs)
        return original(*args, **kwargs)

    wandb.init = init


def _extend_init(wandb: Any) -> None:
    original = wandb.init

    @functools.wraps(original)
    def init(*args: Any, **kwargs: Any) -> Any:
        kwargs |= quietly("find the id of the W&B run", _identity, args, kwargs) or {}
        run = original(*args, **kwargs)
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
    for name in ("_finish", "log", "log_artifact", "define_metric", "save"):
        setattr(cls, name, _surviving(getattr(cls, name), name.strip("_")))


def _surviving(original: Any, name: str) -> Any:
    """
    Let a method of a W&B run fail alone where W&B's own process has died.

    A training that is through is through, whether the kernel killed wandb-core (the largest
    process of a machine without memory) or not. What it had written is on disk.
    """

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        except Exception as error:
            if not is_gone(error):
                raise
            tell_gone(self, name, error)
            return None

    return method


def tell_gone(run: Any, name: str, error: Exception) -> None:
    """Print, once for *run*, that W&B's own process has died, as the call *name* has shown."""
    if run.id not in _gone and not wandb_patience.gave_up:
        _gone.add(run.id)
        sys.stderr.write(
            f"samerun: W&B's own process has ended ({name}: {error!r}); the training goes on "
            "without it. What is logged is on disk, and `invoke sync` uploads it.\n"
        )


def is_gone(error: BaseException | None) -> bool:
    """Whether *error*, or what caused it, says that the connection to wandb-core is closed."""
    while error is not None:
        if isinstance(error, ConnectionError) or type(error).__name__ in GONE:
            return True
        error = error.__cause__ or error.__context__
    return False


def _identity(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """
    Return the id for ``wandb.init``, unless the script or the environment says which run it is.

    It is the same in each start of the run, and known before the server hears of it: a kill at
    any moment leaves one W&B run.
    """
    global _inits
    _inits += 1
    is_later, earlier = reporting.start_number() > 1, _earlier_run()
    if args or _chooses(kwargs):
        chosen = {"id": earlier, "resume": "allow"}
        return chosen if earlier and not args and not kwargs.get("id") else {}
    if any(os.environ.get(name) for name in ("WANDB_RUN_ID", "WANDB_RESUME", "WANDB_SWEEP_ID")):
        return {"id": earlier, "resume": "allow"} if earlier else {}
    identity = earlier or _derived()
    return {"id": identity, "resume": "allow"} if is_later else {"id": identity}


def _chooses(kwargs: dict[str, Any]) -> bool:
    """Whether the script says which W&B run it wants; most settings are about other things."""
    if _CHOOSING & {name for name, value in kwargs.items() if value is not None}:
        return True
    settings = kwargs.get("settings") or {}
    values = settings if isinstance(settings, dict) else vars(settings)
    return any(values.get(name) is not None for name in _CHOOSING_SETTINGS)


def _derived() -> str:
    """Return an id that follows from the run, its start apart, and from what asks for it."""
    own, number = _record(), 0
    folder = reporting.folder() / contract.PARTS
    folder.mkdir(exist_ok=True)
    # Programs that the script starts have its rank: each takes the next number.
    while True:
        name = f"wandb-id.{reporting.start_number()}.{reporting.rank()}.{_inits}.{number}"
        with contextlib.suppress(FileExistsError):
            os.close(os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            break
        number += 1
    place = f"{reporting.rank()}.{_inits}.{number}"
    text = f"{own.name}\0{own.outcome.created}\0{place}"
    value = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return "".join(_LETTERS[value // 36**n % 36] for n in range(8))


def _earlier_run() -> str | None:
    """Return the id of the W&B run that the same call of an earlier start created."""
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
    atexit.register(quietly, "finish the W&B run", _finish_at_exit, run, os.getpid())


def _finish_at_exit(run: Any, process: int) -> None:
    """Finish *run* as its script would: wandb-core would give advice that the host can't follow."""
    if process == os.getpid() and not getattr(run, "_is_finished", False):
        # wandb's hook knows how the script has ended.
        hooks = getattr(sys.excepthook, "__self__", None)
        run.finish(exit_code=getattr(hooks, "exit_code", None))


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
