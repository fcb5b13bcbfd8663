"""`invoke test`: every check, the fast ones first."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from samerun.core.errors import NotAudited, Vulnerable
from samerun.host.checkout.project import Project
from samerun.host.develop import audit
from samerun.host.image import base, build, buildkit
from samerun.host.image.buildkit import Build
from samerun.host.machine import engine

# Of the training's side, what needs no framework.
_TRAIN_ON_HOST = (
    "tests/train/standalone/test_kubernetes.py",
    "tests/train/standalone/test_probe.py",
    "tests/train/nodes/test_decision.py",
)
HOST_TESTS = ("tests/core", "tests/cli", "tests/host", "tests/house", *_TRAIN_ON_HOST)
TEST_TAG = "samerun:test"
LINTED = ("src", "tests", "benchmarks", "docker", "docs", "examples", "tasks.py")
PROSE = "docs/prose.py"
# The tests run examples and what the documents say, so both are there beside them.
_TESTED = ("tests", "docs", "examples")
_COVERAGE = ("--cov", "--cov-report=term")


def run(
    project: Project,
    say: Callable[[str], None],
    *,
    fast: bool,
    coverage: bool,
    select: Sequence[str],
) -> int:
    """Run the checks in turn; return the exit code of the first that fails, else 0."""
    python = [sys.executable, "-m"]
    unit = [*python, "pytest", *HOST_TESTS, *(_COVERAGE if coverage else ()), *select]
    code = _first_failure(project, say, [*_static(python), unit])
    if code or fast:
        return code
    # Built here, so that its steps are seen while they take their minutes.
    build.ensure(engine.connect(), project, cuda="13", say=say)
    docker = [[*python, "pytest", "tests/docker", "--durations=10", *select]]
    code = _first_failure(project, say, docker) or _inside(project, say)
    return code or _audit(project, say)


def _static(python: Sequence[str]) -> list[list[str]]:
    """Return the checks that run nothing of ours: style, spelling, prose and types."""
    return [
        [*python, "ruff", "check", *LINTED],
        [*python, "ruff", "format", "--check", *LINTED],
        [*python, "codespell_lib", "."],
        [sys.executable, PROSE],
        [*python, "mypy"],
    ]


def _audit(project: Project, say: Callable[[str], None]) -> int:
    """Ask for vulnerabilities; a machine without a network is told so, and no failure."""
    say("\n$ invoke audit")
    try:
        audit.vulnerabilities(project, say)
    except NotAudited as error:
        say(f"{error.what.splitlines()[0]} This is no failure, and no proof either.")
    except Vulnerable as error:
        say(str(error))
        return error.exit_code
    return 0


def _first_failure(
    project: Project, say: Callable[[str], None], commands: Sequence[Sequence[str]]
) -> int:
    codes = (_call(project, say, command) for command in commands)
    return next((code for code in codes if code), 0)


def _inside(project: Project, say: Callable[[str], None]) -> int:
    """Run the callback's and training's tests in the image, as hardened as a run is."""
    build_test_image(project, say)
    mounts = [
        f"--mount=type=bind,source={project.root}/{name},target=/{name},readonly"
        for name in _TESTED
    ]
    flags = ["--init", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    flags += ["--user=12345:12345", "--tmpfs=/tmp:rw,nosuid,nodev,mode=1777", "--shm-size=1g"]
    flags += ["--network=none", "--workdir=/tests"]
    command = ["docker", "run", "--rm", *flags, *mounts, TEST_TAG, "callback", "train", "-q"]
    return _call(project, say, command)


def build_test_image(project: Project, say: Callable[[str], None]) -> None:
    """Build the image's `test` target: the image itself, and pytest on top."""
    client = engine.connect()
    build.ensure(client, project, cuda="13", say=say)
    base_tag, under = base.provide(client, project, say=say)
    plan = build.plan(project, base_tag, under, "13", no_cache=False)
    target = Build(
        context=plan.context,
        tag=TEST_TAG,
        target="test",
        arguments=plan.arguments,
        ca=plan.ca,
    )
    buildkit.run(client, target, project.state / "test-build.log", say)


def _call(project: Project, say: Callable[[str], None], command: Sequence[str]) -> int:
    say(f"\n$ {' '.join(command)}")
    return subprocess.run(command, cwd=project.root, env=os.environ, check=False).returncode
