"""The decision records under docs/decisions: numbered, dated and listed."""

import re
from datetime import date
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "decisions"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))
INDEX = (FOLDER / "README.md").read_text(encoding="utf-8")
HEAD = re.compile(r"# (\d+)\. (.+)\n\n- Date: (\S+)\n- Status: (.+)\n")


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name)
def test_decision_is_in_the_index(path):
    """With the number of its file, its title, date and status."""
    number, title, day, status = HEAD.match(path.read_text(encoding="utf-8")).groups()
    line = f"| {path.name[:4]} | [{title}]({path.name}) | {day} | {status} |"

    assert int(path.name[:4]) == int(number)
    assert date.fromisoformat(day)
    assert line in INDEX


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name)
def test_decision_has_all_parts(path):
    """Context, decision and consequences, in this order."""
    parts = re.findall(r"^## (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)

    assert parts == ["Context", "Decision", "Consequences"]


def test_decisions_are_numbered_without_gaps():
    """So that the next number is plain."""
    assert [int(path.name[:4]) for path in RECORDS] == list(range(1, len(RECORDS) + 1))
