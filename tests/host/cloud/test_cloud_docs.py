"""The lines of docs/cloud.md that start with `invoke`, given to the real tasks."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from asking import IMAGE
from invoke import Collection, Context, FilesystemLoader
from invoke.exceptions import Exit
from invoke.parser import Parser

from samerun.cli import cloud
from samerun.host.cloud import write

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "cloud.md").read_text()


def commands(page):
    """Return the words of every command of the kit's in *page*'s blocks, comments left out."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    text = "".join(blocks).replace("\\\n", " ")
    lines = re.sub(r"\$\(.*?\)", "said", text).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("invoke ")]


LINES = commands(PAGE)


def parsed(words):
    """Let Invoke read *words* up to ``--``; return the task's name and arguments."""
    tasks, _ = FilesystemLoader(start=str(ROOT)).load("tasks")
    collection = Collection.from_module(tasks)
    own = words[1 : words.index("--")] if "--" in words else words[1:]
    (context,) = Parser(contexts=collection.to_contexts()).parse_argv(own)
    return context.name, context.as_kwargs


@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_invoke_reads_every_line(words):
    """There is such a task, and it has these options."""
    name, _ = parsed(words)

    assert name == words[1]


def test_a_line_with_an_option_that_is_none_is_seen():
    """Else the test above would prove nothing."""
    with pytest.raises(Exit, match="no-such-option"):
        parsed(["invoke", "cloud", "vm", "--no-such-option", "1"])


@pytest.mark.parametrize("words", [w for w in LINES if w[1] == "cloud"], ids=" ".join)
def test_every_line_for_a_cloud_writes_its_file(words, monkeypatch, tmp_path):
    """The whole verb but the registry's answer and the launch."""
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(write, "_image", lambda *_: IMAGE)
    file = tmp_path / "file.yaml"
    _, arguments = parsed(words)
    here = {"file": str(file), "launch": False, "source": "https://host/kit.git"}

    cloud.cloud.body(Context(), **{**arguments, **here})

    assert IMAGE in file.read_text()
