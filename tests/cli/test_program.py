"""A word where a number belongs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "words", [("train", "--procs", "two"), ("cloud", "k8s", "--shm-size", "1g", "--nodes", "2x")]
)
def test_a_word_for_a_number_is_an_error_in_two_lines(words):
    """With the option and what was typed, and no traceback of Invoke's."""
    done = subprocess.run(
        [sys.executable, "-m", "invoke", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 64
    assert done.stderr.splitlines() == [
        f"UsageError: {words[-2]} {words[-1]!r} is no whole number.",
        "Write e.g. 2.",
    ]
