"""Log models and datasets as W&B artifacts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import wandb

from samerun.callback.config import describe
from samerun.callback.distributed import current_run
from samerun.callback.warn import Warner

_NO_METADATA: Mapping[str, Any] = MappingProxyType({})


def dataset_folder(given: bool | str | Path, dls: Any) -> Path:
    """
    Return the folder to log: *given*, or that of the data loaders.

    Raises:
        ValueError: The data loaders have none.
    """
    if not isinstance(given, bool):
        return Path(given)
    folder = Path(dls.path)
    if folder == Path():
        msg = "the data loaders have no path"
        raise ValueError(msg)
    return folder


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
        path: The folder. Links are followed. Sub-folders called ``models`` are left out at
            every level.
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
    """Return all files below *folder*, linked ones and those of linked folders among them."""
    found: list[Path] = []
    left_out: list[Any] = []
    for place, folders, names in os.walk(folder, onerror=left_out.append, followlinks=True):
        here = Path(place)
        folders[:] = [name for name in folders if name != "models" and not _is_loop(here / name)]
        for path in (here / name for name in names):
            if path.is_file():
                found.append(path)
            elif path.is_symlink():
                left_out.append(f"{path.relative_to(folder)} leads nowhere")
    if left_out:
        more = f", and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        Warner().once(
            "dataset", f"The dataset is logged without a part of it: {left_out[0]}{more}."
        )
    return sorted(found)


def _is_loop(folder: Path) -> bool:
    """Say whether *folder* is a link to a folder that it lies in."""
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def _add(artifact: Any, file: Path, name: str, *, reference: bool) -> None:
    if reference:
        artifact.add_reference(file.resolve().as_uri(), name=name)
    else:
        artifact.add_file(str(file.resolve()), name=name)
