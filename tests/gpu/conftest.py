"""
Checks that need a GPU. Each adds its rows to the table that is printed at the end.

They run where torch is: in the image (`invoke test --gpu`), or on a machine without Docker
(`python -m pytest tests/gpu`). Without a GPU they are skipped; ``SAMERUN_GPU_TESTS=cpu`` runs
them on the CPU as far as that is possible, which checks the checks.
"""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "train")]
ON_CPU = os.environ.get("SAMERUN_GPU_TESTS") == "cpu"
# Where the table is written as well, for docs/status.md.
TABLE = os.environ.get("SAMERUN_GPU_TABLE")
ROWS = pytest.StashKey[list]()


def number_of_gpus():
    """Return how many GPUs torch can use; 0 without torch."""
    try:
        import torch
    except ImportError:
        return 0
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def pytest_configure(config):
    config.stash[ROWS] = []
    config.addinivalue_line("markers", "gpus(n): needs at least n GPUs, on which nothing is faked")


def pytest_collection_modifyitems(items):
    there = number_of_gpus()
    for item in items:
        if HERE not in item.path.parents:
            continue
        marker = item.get_closest_marker("gpus")
        least = marker.args[0] if marker else 1
        if there < least and not (ON_CPU and marker is None):
            reason = f"needs {least} GPU{'s' * (least > 1)}; torch can use {there} here"
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def table(request):
    """Call with a check and what came out."""
    rows = request.config.stash[ROWS]

    def add(check, *found):
        rows.append((check, " ".join(map(str, found))))
        # At once, because the machine may be taken back before the end.
        write(rows)

    return add


def write(rows):
    """Return the table of *rows*, and write it where that was asked for."""
    lines = ["| check | found |", "|---|---|", *(f"| {check} | {found} |" for check, found in rows)]
    text = "\n".join(lines) + "\n"
    if TABLE:
        Path(TABLE).write_text(text, encoding="utf-8")
    return text


def pytest_runtest_logreport(report):
    """Show a failure at once: the machine may be taken back before the end."""
    if report.failed:
        sys.__stderr__.write(f"\n{report.nodeid}\n{report.longreprtext[-3000:]}\n")


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash[ROWS]
    if not rows:
        return
    terminalreporter.section("for docs/status.md")
    terminalreporter.write(write(rows))


@pytest.fixture(autouse=True)
def quiet_wandb(monkeypatch, tmp_path):
    """Offline, in the test's own folder, without any call home."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_SILENT", "true")
