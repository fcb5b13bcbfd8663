"""`invoke test`: every check, the fast ones first."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from samerun.core import hardware
from samerun.core.errors import NotAudited, Vulnerable
from samerun.host.checkout.project import Project
from samerun.host.develop import audit, side_by_side
from samerun.host.develop.side_by_side import Outcome, Part
from samerun.host.image import base, build, buildkit
from samerun.host.image.buildkit import Build
from samerun.host.machine import engine

# The tests of the container side that need no framework.
_TRAIN_ON_HOST = (
    "tests/train/standalone/test_kubernetes.py",
    "tests/train/standalone/test_probe.py",
    "tests/train/nodes/test_decision.py",
)
_FOLDERS = ("core", "cli", "host", "house", "standin")
HOST_TESTS = (*(f"tests/{name}" for name in _FOLDERS), *_TRAIN_ON_HOST)
LINTED = ("src", "tests", "benchmarks", "docker", "docs", "examples", "tasks.py")
PROSE = "docs/prose.py"
# The tests also run the examples and the commands in the documents. Those of sync need the host's
# side too, which the image does not have.
_TESTED = ("tests", "docs", "examples", "src")
_COVERAGE = ("--cov", "--cov-report=term")
# The order of files is that of tests/docker/conftest.py, the longest first.
_SPREAD = ("--dist=loadfile", "--no-loadscope-reorder")
_MOST_WORKERS = 6
_UNIT = ("--numprocesses=auto",)


def run(
    project: Project,
    say: Callable[[str], None],
    *,
    fast: bool,
    coverage: bool,
    select: Sequence[str],
) -> int:
    """
    Run the checks; return the exit code of the first that fails, else 0.

    Those without an engine run while the image is built, then those with an engine beside
    those in the image, because either waits much of the time. *fast* runs the first alone,
    one after the other.
    """
    python = [sys.executable, "-m"]
    unit = [*python, "pytest", *HOST_TESTS, *_UNIT, *(_COVERAGE if coverage else ()), *select]
    if fast:
        return _first_failure(project, say, [*_static(python), unit])
    times: list[Outcome] = []
    try:
        return _all(project, say, times, unit, select)
    finally:
        say("")
        for outcome in times:
            say(outcome.line())


def run_on_gpu(project: Project, say: Callable[[str], None]) -> int:
    """
    Run the checks that need a GPU, in the image and with the commands; return the exit code.

    Without a GPU they are skipped, with the reason.
    """
    build_test_image(project, say)
    flags = ("--gpus=all",) if hardware.probe() else ()
    commands = [sys.executable, "-m", "pytest", "tests/docker/test_gpus.py"]
    return _first_failure(project, say, [_inside(project, "gpu", *flags), commands])


def _all(
    project: Project,
    say: Callable[[str], None],
    times: list[Outcome],
    unit: Sequence[str],
    select: Sequence[str],
) -> int:
    python = [sys.executable, "-m"]
    parts = [
        Part(name="style, prose and types", commands=tuple(map(tuple, _static(python)))),
        Part(name="unit tests", commands=(tuple(unit),)),
        Part(name="image", commands=((*python, "invoke", "build"),)),
    ]
    times += _side_by_side(project, say, parts)
    code = _code(times)
    if code:
        return code
    _timed(times, "test image", lambda: build_test_image(project, say))
    # One more than cores: the tests wait for containers most of their time.
    workers = min(len(os.sched_getaffinity(0)) + 1, _MOST_WORKERS)
    spread = (f"--numprocesses={workers}", *_SPREAD)
    docker = (*python, "pytest", "tests/docker", *spread, "--durations=10", *select)
    inside = [
        Part(name=f"{name} tests in the image", commands=(_inside(project, name),))
        for name in ("train", "callback")
    ]
    parts = [Part(name="tests with the engine", commands=(docker,)), *inside]
    # Threads that wait spin, which takes five times as long where trainings share the cores.
    times += _side_by_side(project, say, parts, OMP_WAIT_POLICY="PASSIVE")
    return _code(times) or _timed(times, "audit", lambda: _audit(project, say))


def _side_by_side(
    project: Project, say: Callable[[str], None], parts: Sequence[Part], **variables: str
) -> list[Outcome]:
    return side_by_side.run(
        parts, root=project.root, logs=project.state / "test", say=say, variables=variables
    )


def _code(outcomes: Sequence[Outcome]) -> int:
    return next((outcome.code for outcome in outcomes if outcome.code), 0)


def _timed(times: list[Outcome], name: str, action: Callable[[], int | None]) -> int:
    began = time.monotonic()
    code = action() or 0
    times.append(Outcome(name=name, code=code, seconds=time.monotonic() - began))
    return code


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
    """Check for vulnerabilities; without a network, print that and return 0."""
    say("\n$ invoke audit")
    try:
        audit.vulnerabilities(project, say)
    except NotAudited as error:
        say(f"{error.what.splitlines()[0]} This does not count as a failure.")
    except Vulnerable as error:
        say(str(error))
        return error.exit_code
    return 0


def _first_failure(
    project: Project, say: Callable[[str], None], commands: Sequence[Sequence[str]]
) -> int:
    codes = (_call(project, say, command) for command in commands)
    return next((code for code in codes if code), 0)


def _inside(project: Project, folder: str, *extra: str) -> tuple[str, ...]:
    """Return the command for the tests in *folder* in the image, as hardened as a run is."""
    mounts = [
        f"--mount=type=bind,source={project.root}/{name},target=/{name},readonly"
        for name in _TESTED
    ]
    flags = ["--init", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    flags += ["--user=12345:12345", "--tmpfs=/tmp:rw,nosuid,nodev,mode=1777", "--shm-size=1g"]
    # Of several threads on little data all but one wait, and burn a core each as they do so.
    flags += ["--network=none", "--workdir=/tests", "--env=OMP_NUM_THREADS=1", *extra]
    return (
        "docker",
        "run",
        "--rm",
        *flags,
        *mounts,
        test_tag(project),
        folder,
        "-q",
        "--durations=10",
    )


def test_tag(project: Project) -> str:
    """Return the name of this checkout's image with pytest."""
    return project.own_tag("test")


def build_test_image(project: Project, say: Callable[[str], None]) -> None:
    """Build the image's `test` target: the image with pytest added."""
    client = engine.connect()
    build.ensure(client, project, cuda="13", say=say)
    base_tag, under = base.provide(client, project, say=say)
    plan = build.plan(project, base_tag, under, "13", no_cache=False)
    target = Build(
        context=plan.context,
        tag=test_tag(project),
        target="test",
        arguments=plan.arguments,
        ca=plan.ca,
    )
    buildkit.run(client, target, project.state / "test-build.log", say)


def _call(project: Project, say: Callable[[str], None], command: Sequence[str]) -> int:
    say(f"\n$ {' '.join(command)}")
    return subprocess.run(command, cwd=project.root, env=os.environ, check=False).returncode
