"""`invoke test`: which checks run, in which order."""

import pytest

from samerun.host.develop import checks
from samerun.host.develop.side_by_side import Outcome


@pytest.fixture
def called(project, monkeypatch):
    """Run the checks that need no engine; the commands, none of which runs, and the code."""

    def run(*, fails="", **options):
        commands = []

        def call(project, say, command):
            commands.append(" ".join(command))
            return int(bool(fails) and fails in commands[-1])

        monkeypatch.setattr(checks, "_call", call)
        code = checks.run(project, print, fast=True, **{"coverage": False, "select": (), **options})
        return commands, code

    return run


def test_style_and_prose_come_before_the_tests(called):
    """The checks of a second do not wait for those of a minute."""
    commands, code = called()

    tools = ("ruff check", "ruff format", "codespell", "docs/prose.py", "mypy", "pytest tests/core")
    assert code == 0
    assert len(commands) == len(tools)
    assert all(tool in command for tool, command in zip(tools, commands, strict=True))


def test_first_failure_ends_the_checks(called):
    """Its exit code is the command's."""
    commands, code = called(fails="codespell")

    assert code == 1
    assert "codespell" in commands[-1]


def test_coverage_is_measured_on_request(called):
    """It slows the tests down, so that it is an option."""
    assert "--cov" not in called()[0][-1]
    assert "--cov" in called(coverage=True)[0][-1]


def test_selection_reaches_pytest(called):
    """`invoke test -k record` runs the tests of that name."""
    assert called(select=["-k", "record"])[0][-1].endswith("-k record")


@pytest.fixture
def whole(project, monkeypatch):
    """Run all checks, none of which runs; the parts that run at once, what is said, the code."""

    def run(*, fails=""):
        rounds, said = [], []

        def at_once(parts, **options):
            rounds.append([part.name for part in parts])
            return [Outcome(name=p.name, code=int(p.name == fails), seconds=61) for p in parts]

        monkeypatch.setattr(checks.side_by_side, "run", at_once)
        monkeypatch.setattr(checks, "_call", lambda *_: 0)
        monkeypatch.setattr(checks, "build_test_image", lambda *_: None)
        monkeypatch.setattr(checks, "_audit", lambda *_: 0)
        code = checks.run(project, said.append, fast=False, coverage=False, select=())
        return rounds, said, code

    return run


def test_slow_checks_run_at_once(whole):
    """The unit tests while the image is built; those with an engine beside those in the image."""
    rounds, _, code = whole()

    assert code == 0
    assert rounds == [
        ["style, prose and types", "unit tests", "image"],
        ["tests with the engine", "train tests in the image", "callback tests in the image"],
    ]


def test_seconds_of_each_part_are_told_at_the_end(whole):
    """Also after a failure, behind which nothing else begins."""
    rounds, said, code = whole(fails="unit tests")

    assert code == 1
    assert len(rounds) == 1
    assert said[-2:] == ["     61 s  unit tests: exit code 1", "     61 s  image: passed"]
    assert len(said) == 1 + 3
