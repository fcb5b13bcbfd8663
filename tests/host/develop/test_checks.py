"""`invoke test`: which checks run, in which order."""

import pytest

from samerun.host.develop import checks


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
