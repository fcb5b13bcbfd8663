"""`samerun new` and `samerun init`: a project that trains at once."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from samerun.core.errors import OutputError, UsageError
from samerun.host.checkout import user_code

TEMPLATE = Path(__file__).with_name("template")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
# In the template, some names would be taken for files of this repository.
_PLACES: Mapping[str, str] = {
    "gitignore": ".gitignore",
    "train.py.txt": "train.py",
    "tests/test_train.py.txt": "tests/test_train.py",
}
# What an existing project gets, if it has none of it.
_FOR_EXISTING = ("samerun.toml", ".github/workflows/train.yml")
_IGNORED = ("runs/", "wandb/", ".samerun/")
_SCRIPTS = ("train.py", "main.py", "scripts/train.py", "src/train.py")


def create(name: str) -> Iterator[str]:
    """
    Write a project to the new folder *name*; yield what to do next.

    Raises:
        UsageError: The name is invalid.
        OutputError: The folder exists, and is not empty.
    """
    folder = Path(name).expanduser()
    if not _NAME.fullmatch(folder.name):
        raise UsageError(
            f"Invalid name: {folder.name!r}.",
            "Use up to 64 letters, digits, - and _, starting with a letter.",
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(
            f"{folder} exists already.", "Choose another name, or run `samerun init` in it."
        )
    for place, text in _files(folder.name):
        _write(folder / place, text)
    yield f"Wrote {folder}/."
    yield f"Train it with: cd {folder} && samerun train train.py"


def fit(folder: Path) -> Iterator[str]:
    """Fit samerun into the project in *folder*; of the files there, only .gitignore changes."""
    name = re.sub(r"[^A-Za-z0-9_-]", "-", folder.resolve().name) or "project"
    script = next((one for one in _SCRIPTS if (folder / one).is_file()), "train.py")
    for place, text in _files(name):
        if place not in _FOR_EXISTING:
            continue
        if (folder / place).exists():
            yield f"{place} is there already."
            continue
        _write(folder / place, text.replace("train.py", script))
        yield f"Wrote {place}."
    yield from _ignore(folder / ".gitignore")
    if (folder / script).is_file():
        files = user_code.list_files(user_code.find(folder / script))
        yield f"{len(files)} files go into the image."
    yield f"Train it with: samerun train {script}"


def _files(name: str) -> Iterator[tuple[str, str]]:
    for path in sorted(TEMPLATE.rglob("*")):
        if path.is_file():
            place = path.relative_to(TEMPLATE).as_posix()
            text = path.read_text(encoding="utf-8").replace("{name}", name)
            yield _PLACES.get(place, place), text


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)


def _ignore(path: Path) -> Iterator[str]:
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    missing = [line for line in _IGNORED if line not in before.splitlines()]
    if missing:
        end = "" if not before or before.endswith("\n") else "\n"
        path.write_text(before + end + "\n".join(missing) + "\n", encoding="utf-8")
        yield f"Added {', '.join(missing)} to .gitignore."
