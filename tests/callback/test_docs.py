"""The snippets of the documents run, their pictures are there, and what they list is so."""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from pathlib import Path

import fastai.vision.all
import pytest
import wandb

import samerun.callback.wandb as ours
from samerun.callback.wandb import WandbCallback
from samerun.callback.warn import LoggingWarning

from .applications import make

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("callback.md", "coming-from-fastai.md")


def snippets(page):
    """Return the Python blocks of a page, with the line they begin at."""
    text = (DOCS / page).read_text()
    for found in re.finditer(r"```python\n(.*?)```", text, re.DOTALL):
        yield pytest.param(found[1], id=f"{page}:{text[: found.start()].count(chr(10)) + 2}")


@pytest.fixture
def names(tmp_path):
    """Return what a reader of the page has at hand: fastai, data and a learner."""
    folder = tmp_path / "shapes"
    folder.mkdir()
    (folder / "1.txt").write_text("one")
    learn = make("classification", tmp_path)
    names = {k: v for k, v in vars(fastai.vision.all).items() if not k.startswith("__")}
    names |= {name: getattr(ours, name) for name in ours.__all__}
    return names | {"wandb": wandb, "learn": learn, "dls": learn.dls, "folder": folder}


@pytest.mark.parametrize("code", [s for page in PAGES for s in snippets(page)])
def test_snippet_runs(code, names, resnets, monkeypatch):
    """Each block runs, and the callback that it ends with logs a fit without a warning."""
    tree = ast.parse(code)
    last = tree.body[-1]
    ends_with_value = isinstance(last, ast.Expr)
    if ends_with_value:
        tree.body[-1] = ast.Assign([ast.Name("value", ast.Store())], last.value)
    if wandb.run is None and "wandb.init" not in code:
        wandb.init(project="test")

    with warnings.catch_warnings():
        warnings.simplefilter("error", LoggingWarning)
        exec(compile(ast.fix_missing_locations(tree), "snippet", "exec"), names)
        if isinstance(names.get("value"), WandbCallback):
            names["learn"].fit(1, cbs=names["value"])

    assert wandb.run is not None


@pytest.mark.parametrize("page", PAGES)
def test_pictures_and_links_are_there(page):
    """Whatever the page shows or links to is in the repository, and each picture is small."""
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", (DOCS / page).read_text())

    files = [(DOCS / target).resolve() for target in targets]
    assert [file for file in files if not file.is_file()] == []
    assert [file for file in files if file.suffix == ".png" and file.stat().st_size > 150_000] == []


def test_every_picture_is_shown():
    """No picture is left over."""
    text = (DOCS / "callback.md").read_text()

    assert [file.name for file in (DOCS / "images").iterdir() if file.name not in text] == []


def test_every_argument_is_documented_with_its_default():
    """The table of arguments is that of the signature."""
    rows = re.findall(
        r"^\| `(\w+)` \| `([^`]+)` \|", (DOCS / "callback.md").read_text(), re.MULTILINE
    )
    parameters = list(inspect.signature(WandbCallback.__init__).parameters.values())[1:]

    assert [(name, ast.literal_eval(value)) for name, value in rows] == [
        (p.name, p.default) for p in parameters
    ]
