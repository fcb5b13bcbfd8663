"""The glossary: sorted, and complete where a list of words exists."""

import re
from pathlib import Path
from typing import get_args

import pytest

from samerun.core import record

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "glossary.md").read_text(encoding="utf-8")
SECTIONS = PAGE.split("\n## ")[1:]


def terms(text):
    return [
        term
        for line in re.findall(r"^(?:- )?\*\*(.+?)\*\*", text, re.MULTILINE)
        for term in line.split(", ")
    ]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda text: text.splitlines()[0])
def test_entries_are_in_alphabetical_order(section):
    """Within each section, so that a word is found."""
    entries = re.findall(r"^\*\*(.+?)\*\*", section, re.MULTILINE)

    assert entries == sorted(entries, key=str.lower)


def test_every_state_of_a_run_is_explained():
    """`outcome.state` has no word that the glossary lacks."""
    assert set(get_args(record.State)) <= set(terms(PAGE))


def test_every_digest_of_an_image_is_explained():
    """`image` in a record has no digest that the glossary lacks."""
    fields = [name for name in record.Image.__annotations__ if name.endswith("_digest")]

    assert {name.replace("_", " ") for name in fields} <= set(terms(PAGE))
