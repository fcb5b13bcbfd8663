"""A release: one version, and a changelog that names it."""

import re
import tomllib
from pathlib import Path

import samerun

ROOT = Path(__file__).resolve().parents[2]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
HEADINGS = re.findall(r"^## (.+)$", CHANGELOG, re.MULTILINE)


def test_changelog_names_the_version():
    """`samerun.__version__` is the last release in the changelog."""
    released = [heading.split(" - ")[0] for heading in HEADINGS[1:]]

    assert samerun.__version__ == released[0]


def test_changelog_starts_with_what_is_unreleased():
    """Changes have a place to go, and every release below it has its date."""
    assert HEADINGS[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", line) for line in HEADINGS[1:])


def test_changelog_uses_the_groups_of_keep_a_changelog():
    """Each change is in one of the format's groups."""
    groups = set(re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE))

    assert groups <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_version_stands_once():
    """pyproject.toml reads it from the package, so that no two numbers can differ."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    assert pyproject["project"]["dynamic"] == ["version"]
    assert pyproject["tool"]["hatch"]["version"]["path"] == "src/samerun/__init__.py"
