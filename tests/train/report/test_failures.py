"""Why a training failed: in the exit code, on the screen, and in the record."""

import os

from resuming import EVERY_EPOCH, fork, log, part, train

from samerun.core import parts, record


def test_kinds_of_failure_are_told_apart(tmp_path, monkeypatch):
    """Python's own code for an exception, codes of ours for memory and for a loss of NaN."""
    names = ["broken", "memory", "nan"]
    monkeypatch.setenv("SAMERUN_STOP_ON_NAN", "1")
    codes = fork([(tmp_path / name, [name]) for name in names], EVERY_EPOCH)
    told = {name: part(tmp_path / name, "failure-0") for name in names}

    assert codes == [1, 112, 111]
    assert [told[name]["kind"] for name in names] == ["exception", "out of memory", "not finite"]
    assert "a bug of the user's" in told["broken"]["what"]
    assert "learners.py:" in told["broken"]["where"]
    assert "ValueError" in log(tmp_path / "broken")
    assert "epoch 0, batch 0" in told["nan"]["what"]
    assert "a smaller batch" in log(tmp_path / "memory")


def test_one_dead_rank_ends_the_job_and_is_named(folder):
    """The launcher reports the rank that was killed; the others end with it, then all go on."""
    whole = folder.parent / "whole"
    whole.mkdir()
    done = train(folder, "distributed", "--kill", 5, "--rank", 1, procs=2)
    failure = parts.assemble(folder, record.read(folder)).outcome.failure
    again = train(folder, "distributed", procs=2)
    alone = train(whole, "distributed", procs=2)

    assert done.returncode == 137
    assert "rank 1 failed first: killed by signal 9" in done.stderr
    assert (failure["kind"], failure["rank"]) == ("killed", 1)
    assert (again.returncode, alone.returncode) == (0, 0), again.stderr
    assert "resuming from checkpoint" in again.stderr
    for name in ("weights_sha256", "metric_history_sha256"):
        assert part(folder, "result")[name] == part(whole, "result")[name]
    assert os.listdir(whole / "checkpoints") == os.listdir(folder / "checkpoints")
