"""The documents: what they link to and name is in the repository."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob(".github/*.md"), *ROOT.glob("docs/**/*.md")})
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    for heading in re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """Each relative link to a file, and to a heading if it names one."""
    links = LINK.findall(FENCED.sub("", page.read_text()))
    targets = [(page.parent / path if path else page, anchor) for path, anchor in links]

    assert [str(target) for target, _ in targets if not target.exists()] == []
    assert [(t.name, a) for t, a in targets if a and a not in anchors(t)] == []


def test_paths_that_contributors_are_sent_to_exist():
    """What CONTRIBUTING.md names as a path of the repository is one."""
    text = FENCED.sub("", (ROOT / "CONTRIBUTING.md").read_text())
    named = re.findall(r"`((?:src|tests|docs|docker|\.github)/[\w./-]*)`", text)

    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_policies_are_linked_from_the_readme_or_from_contributing():
    """A newcomer finds them."""
    text = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()

    assert all(f"]({name})" in text for name in ("CODE_OF_CONDUCT.md", "SECURITY.md", "LICENSE"))
