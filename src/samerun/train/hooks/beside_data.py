"""
What fastai writes beside its data goes to the run's folder where it can't stay there.

A learner saves to its ``path``, by default that of the data: ``models/``, ``export.pkl``,
``history.csv``. Mounted data is read-only, so that a training would fail at its first save, maybe
after hours. Data that fastai downloads vanishes with the container, and a model in it, too.

So a learner's ``path`` becomes the run's folder where nothing can be written or kept, for fastai
itself, for any callback and for scripts. Files that were there already are still found by ``load``.
"""

import functools
import os
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from samerun.train.report import reporting

# The paths that learners had, by their name: `path` and `model_dir`.
_before: "weakref.WeakKeyDictionary[Any, dict[str, Path]]" = weakref.WeakKeyDictionary()
# All folders that were replaced, in this process.
_replaced: list[Path] = []

_READS = ("load", "load_encoder")
_WRITES = ("save", "export", "save_encoder")
# Names of their first argument.
_FILES = ("file", "fname")


def install(module: Any) -> None:
    """Extend the module, one of those that `hook` names, if this run has a folder."""
    if reporting.is_recorded():
        _EXTEND[module.__name__](module)


def _learner(module: Any) -> None:
    cls = module.Learner
    for name in ("path", "model_dir"):
        setattr(cls, name, _attribute(name))
    _methods(cls)
    module.load_learner = _load_learner(module.load_learner)


def _text_learner(module: Any) -> None:
    for cls in vars(module).values():
        if isinstance(cls, type) and cls.__module__ == module.__name__:
            _methods(cls)


def _methods(cls: Any) -> None:
    for names, extend in ((_READS, _reading), (_WRITES, _writing), (("load_pretrained",), _given)):
        for name in names:
            if name in vars(cls):
                setattr(cls, name, extend(vars(cls)[name]))


def _csv_logger(module: Any) -> None:
    cls = module.CSVLogger
    for name in ("before_fit", "read_log"):
        setattr(cls, name, _logging(vars(cls)[name]))


def _text_core(module: Any) -> None:
    module._tokenize_files = _tokenizing(module._tokenize_files)


def is_lost(path: Path) -> bool:
    """Whether nothing can be written to *path*, or it vanishes with the container."""
    place = _full(path)
    if place.is_relative_to(reporting.folder()):
        return False
    if _is_download(place):
        return True
    try:
        while not place.exists():
            place = place.parent
    except OSError:  # A folder above it can't be entered.
        return True
    return not os.access(place, os.W_OK)


def _is_download(path: Path) -> bool:
    downloads = os.environ.get("FASTAI_HOME")
    return bool(downloads) and _full(path).is_relative_to(str(downloads))


def _full(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path, also of ``../data``, which is not in the run's folder."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - pathlib keeps the dots


def _attribute(name: str) -> property:
    """Return an attribute of a learner that is replaced when it is set."""

    def read(self: Any) -> Any:
        try:
            return vars(self)[name]
        except KeyError:
            raise AttributeError(name) from None

    def write(self: Any, value: Any) -> None:
        vars(self)[name] = value
        if not isinstance(value, str | os.PathLike):
            return
        # A relative folder of models is in the learner's path.
        path = Path(value) if name == "path" else Path(vars(self).get("path", "."), value)
        if is_lost(path):
            vars(self)[name] = _replace(self, name, path)

    return property(read, write)


def _replace(learn: Any, name: str, path: Path) -> Path:
    _before.setdefault(learn, {})[name] = path
    if path not in _replaced:
        _replaced.append(path)
    _tell(path)
    return reporting.folder() if name == "path" else reporting.folder() / path.name


def _tell(path: Path) -> None:
    """Say it once, by the main process."""
    if not _told and reporting.rank() == 0:
        why = "vanishes with the container" if _is_download(path) else "can't be written to"
        where = f"so what fastai writes there goes to {reporting.folder()}"
        sys.stderr.write(f"samerun: {path} {why}, {where}.\n")
    _told.append(path)


_told: list[Path] = []


def _elsewhere(path: Path) -> Path:
    """Return where a file that was to be written to *path* is written."""
    path = _full(path)
    roots = sorted(map(_full, _replaced), key=lambda root: len(root.parts), reverse=True)
    root = next((root for root in roots if path.is_relative_to(root)), path.parent)
    return reporting.folder() / path.relative_to(root)


def _writing(original: Callable[..., Any]) -> Callable[..., Any]:
    """Extend a method that saves to a file, its first argument, which may have a default."""

    @functools.wraps(original)
    def write(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = {name: _target(value) for name, value in kwargs.items() if name in _FILES}
        first = (_target(args[0]), *args[1:]) if args else ()
        return original(self, *first, **{**kwargs, **given})

    return write


def _target(file: Any) -> Any:
    if not isinstance(file, str | os.PathLike) or not Path(file).is_absolute():
        return file
    path = Path(file)
    if not is_lost(path):
        return file
    _tell(path.parent)
    target = _elsewhere(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _reading(original: Callable[..., Any]) -> Callable[..., Any]:
    """Extend a method that loads a file of this run, or else one beside the data."""

    @functools.wraps(original)
    def read(self: Any, file: Any, *args: Any, **kwargs: Any) -> Any:
        if _replaced:
            _wait()
        return original(self, _source(self, file), *args, **kwargs)

    return read


def _wait() -> None:
    """Wait until the main process has saved, as fastai does before it loads a file."""
    from fastai.torch_core import distrib_barrier

    distrib_barrier()


def _source(learn: Any, file: Any) -> Any:
    if not isinstance(file, str | os.PathLike):
        return file
    own = learn.path / learn.model_dir / file
    if Path(file).is_absolute():
        own = _elsewhere(Path(file)) if is_lost(Path(file)) else Path(file)
        return own if _exists(own) else file
    before = _before.get(learn, {})
    there = before.get("path", learn.path) / before.get("model_dir", learn.model_dir) / file
    return there if _exists(there) and not _exists(own) else file


def _exists(path: Path) -> bool:
    """Whether *path* exists with the suffix that fastai adds."""
    return path.with_name(f"{path.name}.pth").exists()


def _given(original: Callable[..., Any]) -> Callable[..., Any]:
    """Extend a method that loads complete paths, which fastai made from the learner's path."""

    @functools.wraps(original)
    def load(self: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, *(_original(self, value) for value in args), **kwargs)

    return load


def _original(learn: Any, file: Any) -> Any:
    """Return the path of *file* beside the data, if it is only there."""
    if not isinstance(file, str | os.PathLike) or Path(file).exists():
        return file
    before = _before.get(learn, {}).get("path")
    path = Path(file)
    if before is None or not path.is_relative_to(reporting.folder()):
        return file
    there = before / path.relative_to(reporting.folder())
    return there if there.exists() else file


def _load_learner(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def load_learner(fname: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(fname, str | os.PathLike) and is_lost(Path(fname)):
            _wait()
            own = _elsewhere(Path(fname).absolute())
            fname = own if own.exists() else fname
        learn = original(fname, *args, **kwargs)
        # Unpickling sets no attributes, and it may have been exported elsewhere.
        learn.path, learn.model_dir = learn.path, learn.model_dir
        return learn

    return load_learner


def _logging(original: Callable[..., Any]) -> Callable[..., Any]:
    """Extend a method of a callback that writes the file ``fname``."""

    @functools.wraps(original)
    def use(self: Any) -> Any:
        self.fname = _target(self.fname)
        return original(self)

    return use


def _tokenizing(original: Callable[..., Any]) -> Callable[..., Any]:
    """Extend the function that writes tokens to ``FOLDER_tok``, beside the folder of texts."""

    @functools.wraps(original)
    def tokenize(func: Any, files: Any, path: Any, output_dir: Any = None, **kwargs: Any) -> Any:
        beside = Path(path).absolute().parent / f"{Path(path).name}_tok"
        # Written last, so the tokens are complete.
        if output_dir is None and not (beside / "counter.pkl").exists():
            output_dir = _target(beside)
        return original(func, files, path, output_dir=output_dir, **kwargs)

    return tokenize


_EXTEND: dict[str, Callable[[Any], None]] = {
    "fastai.learner": _learner,
    "fastai.callback.progress": _csv_logger,
    "fastai.text.core": _text_core,
    "fastai.text.learner": _text_learner,
}
