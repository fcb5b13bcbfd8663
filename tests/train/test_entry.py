"""The image's entry and the launcher of several processes."""

import subprocess
import sys
import time

import pytest

from samerun.core import contract
from samerun.core.placement import NodePlacement


def entry(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "samerun.train", *arguments],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_wrong_flag_is_found_before_any_framework_is_loaded():
    """The container too checks first, for images that the host's sources do not match."""
    began = time.monotonic()
    done = entry("digits", "--epoch", "1")

    assert done.returncode == 64
    assert "--epochs" in done.stderr
    assert time.monotonic() - began < 10


def test_unknown_recipe_names_the_nearest():
    """As on the host."""
    done = entry("tabulr")

    assert done.returncode == 64
    assert "Did you mean tabular?" in done.stderr


@pytest.mark.parametrize("procs", ["1", "2"])
@pytest.mark.parametrize(
    ("code", "expected"), [("import sys; sys.exit(9)", 9), ("raise ValueError('why')", 1)]
)
def test_exit_code_of_the_training_comes_out(tmp_path, procs, code, expected):
    """One process or several."""
    script = tmp_path / "train.py"
    script.write_text(code)

    done = entry("--procs", procs, str(script), cwd=tmp_path)

    assert done.returncode == expected
    assert "why" in done.stderr or expected != 1


def test_killed_rank_ends_the_job_with_its_signal(tmp_path):
    """128 + 9, and the other rank does not wait for ever."""
    script = tmp_path / "train.py"
    script.write_text(
        "import os, signal, time\n"
        "os.environ['RANK'] == '1' and os.kill(os.getpid(), signal.SIGKILL)\n"
        "time.sleep(60)\n"
    )

    began = time.monotonic()
    done = entry("--procs", "2", str(script), cwd=tmp_path)

    assert done.returncode == 137
    assert "rank 1" in done.stderr
    assert time.monotonic() - began < 45


@pytest.mark.parametrize("place", [NodePlacement(), NodePlacement(count=2, endpoint="10.0.0.4:1")])
def test_workers_have_nearly_the_container_s_time_to_write_a_checkpoint(monkeypatch, place):
    """torch's launcher kills its workers before the container ends; by default after 30 s."""
    from samerun.train import launcher

    monkeypatch.delenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", raising=False)
    given = launcher.configure(2, place).shutdown_timeout
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "7")

    assert 30 < given < contract.STOP_TIMEOUT_S
    assert launcher.configure(2, place).shutdown_timeout == 7


def test_script_sees_its_own_arguments_and_folder(tmp_path):
    """sys.argv and the first entry of sys.path are as under plain Python."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "train.py").write_text("import sys, near; print(sys.argv[1:], near.X)")
    (tmp_path / "lib" / "near.py").write_text("X = 1")

    done = entry(str(tmp_path / "lib" / "train.py"), "--a", "b c", cwd=tmp_path)

    assert done.stdout.strip() == "['--a', 'b c'] 1"


def test_seed_is_set_for_scripts(tmp_path):
    """The same seed gives the same numbers in python, numpy and torch."""
    script = tmp_path / "train.py"
    script.write_text(
        "import random, numpy, torch; print(random.random(), numpy.random.rand(), torch.rand(1))"
    )

    first, second, other = (
        entry("--seed", seed, str(script), cwd=tmp_path).stdout for seed in ("1", "1", "2")
    )

    assert first == second != other
