"""A new project is complete, and an existing one keeps its files."""

import ast
import json

import pytest

from samerun.core.errors import OutputError, UsageError
from samerun.host.checkout import settings
from samerun.host.develop import new_project


def test_a_new_project_has_all_that_it_needs(tmp_path):
    lines = list(new_project.create(str(tmp_path / "flowers")))

    folder = tmp_path / "flowers"
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == {
        *(".github/workflows/train.yml", ".gitignore", "README.md", "notebook.ipynb"),
        *("requirements.txt", "samerun.toml", "tests/test_train.py", "train.py"),
    }
    assert settings.read(folder).project == "flowers"
    ast.parse((folder / "train.py").read_text())
    assert json.loads((folder / "notebook.ipynb").read_text())["nbformat"] == 4
    assert "{name}" not in (folder / "README.md").read_text()
    assert lines[-1].endswith("samerun train train.py")


@pytest.mark.parametrize("name", ["", "1a", "a b", "ä", "a" * 65])
def test_a_name_that_is_none_is_refused(tmp_path, name):
    with pytest.raises(UsageError):
        list(new_project.create(f"{tmp_path}/x/{name}" if name else ".."))


def test_what_exists_is_not_written_over(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "train.py").write_text("mine")
    with pytest.raises(OutputError):
        list(new_project.create(str(tmp_path / "own")))
    assert (tmp_path / "own" / "train.py").read_text() == "mine"


def test_an_existing_project_gets_what_it_lacks(tmp_path):
    """Its script is found; a second time changes nothing."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "train.py").write_text("mine")
    (tmp_path / ".gitignore").write_text("*.pt")
    first = list(new_project.fit(tmp_path))
    content = {p: p.read_text() for p in tmp_path.rglob("*") if p.is_file()}

    assert first[-1] == "Train it with: samerun train scripts/train.py"
    assert (tmp_path / ".gitignore").read_text() == "*.pt\nruns/\nwandb/\n.samerun/\n"
    assert "train scripts/train.py" in (tmp_path / ".github/workflows/train.yml").read_text()
    assert not (tmp_path / "README.md").exists()
    list(new_project.fit(tmp_path))
    assert {p: p.read_text() for p in tmp_path.rglob("*") if p.is_file()} == content
