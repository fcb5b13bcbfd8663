"""Log models and datasets as W&B artifacts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import wandb

from samerun.callback.config import describe
from samerun.callback.distributed import current_run

_NO_METADATA: Mapping[str, Any] = MappingProxyType({})


def log_dataset(
    path: str | Path,
    name: str | None = None,
    metadata: Mapping[str, Any] = _NO_METADATA,
    description: str = "raw dataset",
    *,
    reference: bool = False,
    run: Any = None,
) -> None:
    """
    Log the folder *path* as an artifact of type ``dataset`` that the run uses.

    Args:
        path: The folder. Sub-folders called ``models`` are left out at every level.
        name: The artifact's name; default: the folder's. Characters that W&B refuses
            become ``-``.
        metadata: Anything; logged as JSON. The dictionary is not changed.
        description: A sentence for the artifact's page.
        reference: Log only path, size and checksum of each file, not its content, for
            datasets too large to upload.
        run: The run to log to; None: ``wandb.run``.

    Raises:
        NoRun: ``wandb.init`` was not called.
        ValueError: *path* is not a folder.
    """
    folder = Path(path)
    run = current_run("log_dataset()", run)
    if not folder.is_dir():
        msg = f"{folder} is not a folder. Give log_dataset() the folder that holds the data."
        raise ValueError(msg)
    if run is None:
        return
    artifact = dataset_artifact(folder, name, metadata, description, reference=reference)
    if run.offline:
        # use_artifact raises offline (wandb issue 5712); logged, it appears after `wandb sync`.
        run.log_artifact(artifact)
    else:
        run.use_artifact(artifact)


def dataset_artifact(
    folder: Path,
    name: str | None,
    metadata: Mapping[str, Any],
    description: str,
    *,
    reference: bool,
) -> Any:
    """Return the artifact that ``log_dataset`` logs; arguments as there."""
    artifact = _artifact(name or folder.resolve().name, "dataset", metadata, description)
    for file in _files(folder):
        _add(artifact, file, file.relative_to(folder).as_posix(), reference=reference)
    return artifact


def log_model(
    path: str | Path,
    name: str | None = None,
    metadata: Mapping[str, Any] = _NO_METADATA,
    description: str = "trained model",
    *,
    aliases: Sequence[str] = ("latest",),
    run: Any = None,
) -> None:
    """
    Log the file *path* as an artifact of type ``model``.

    Args:
        path: The file of the model, as ``learn.save`` returns it.
        name: The artifact's name; default: ``run-<id>-model``. The file in it is called
            ``<name>.pth``.
        metadata: Anything; logged as JSON. The dictionary is not changed.
        description: A sentence for the artifact's page.
        aliases: Names for this version.
        run: The run to log to; None: ``wandb.run``.

    Raises:
        NoRun: ``wandb.init`` was not called.
        ValueError: *path* is not a file.
    """
    run = current_run("log_model()", run)
    if not Path(path).is_file():
        msg = f"{path} is not a file. Give log_model() what learn.save() returned."
        raise ValueError(msg)
    if run is None:
        return
    artifact = model_artifact(path, name or f"run-{run.id}-model", metadata, description)
    run.log_artifact(artifact, aliases=list(aliases))


def model_artifact(
    path: str | Path,
    name: str,
    metadata: Mapping[str, Any],
    description: str = "trained model",
) -> Any:
    """Return an artifact with a copy of the file *path*; arguments as those of ``log_model``."""
    artifact = _artifact(name, "model", metadata, description)
    file = str(Path(path).resolve())
    artifact.add_file(file, name=f"{artifact.name.partition(':')[0]}.pth")
    return artifact


def _artifact(name: str, kind: str, metadata: Mapping[str, Any], description: str) -> Any:
    plain = {str(key): describe(value) for key, value in metadata.items()}
    allowed = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:128]
    return wandb.Artifact(name=allowed, type=kind, metadata=plain, description=description)


def _files(folder: Path) -> list[Path]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return sorted(f for f in files if "models" not in f.relative_to(folder).parts[:-1])


def _add(artifact: Any, file: Path, name: str, *, reference: bool) -> None:
    if reference:
        artifact.add_reference(file.resolve().as_uri(), name=name)
    else:
        artifact.add_file(str(file.resolve()), name=name)
