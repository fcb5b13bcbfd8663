"""A training that was killed, and started again, ends with the same bits."""

import signal

import pytest
from resuming import EVERY_EPOCH, checkpoints, fork, log, outcome, part

# Name of the training, steps of an epoch being 5: the step to die at.
DEATHS = {
    "plain": 7,
    "one_cycle": 9,
    "workers": 8,
    "fine_tune": 12,
    "two_fits": 13,
    "mixup": 7,
    "half": 7,
    "accumulation": 8,
    "sgd": 7,
    "torch_optimizer": 8,
    "tracked": 12,
    "table": 23,
    "found_rate": 12,
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Each training once to its end, and once killed and started again; folder and exit codes."""
    top = tmp_path_factory.mktemp("resumed")
    jobs = []
    for name, death in DEATHS.items():
        jobs += [(top / name / "whole", [name]), (top / name / "killed", [name, "--kill", death])]
        jobs += [(top / name / "killed", [name])]
    return top, fork(jobs)


@pytest.mark.parametrize("name", DEATHS)
def test_resumed_training_ends_with_the_same_bits(ended, name):
    """Weights, metric history, each step's loss and each tensor of each epoch."""
    top, codes = ended
    number = 3 * list(DEATHS).index(name)

    assert codes[number : number + 3] == [0, -signal.SIGKILL, 0], log(top / name / "killed")
    assert "resuming from checkpoint" in log(top / name / "killed")
    assert part(top / name / "killed", "starts")["starts"][-1]["resumed"]
    assert outcome(top / name / "killed") == outcome(top / name / "whole")


@pytest.mark.parametrize("how", ["validating", "writing"])
def test_killed_while_validating_or_writing(tmp_path, how):
    """Neither loses more than the batch; a torn file is no checkpoint."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    death = ["--writing"] if how == "writing" else ["--kill", 8, "--validating"]
    jobs = [(whole, ["plain"]), (killed, ["plain", *death]), (killed, ["plain"])]

    assert fork(jobs, EVERY_EPOCH) == [0, -signal.SIGKILL, 0], log(killed)
    assert outcome(killed) == outcome(whole)


def test_damaged_checkpoint_is_passed_over(tmp_path):
    """It is named, and the one before it used."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    fork([(whole, ["plain"]), (killed, ["plain", "--kill", 8])])
    before, newest = checkpoints(killed)
    file = killed / "checkpoints" / f"{newest}.pt"
    file.write_bytes(file.read_bytes()[:-100] + bytes(100))

    assert fork([(killed, ["plain"])]) == [0]
    assert f"ignoring checkpoint {newest}.pt: its checksum differs" in log(killed)
    assert f"resuming from checkpoint {before}" in log(killed)
    assert outcome(killed) == outcome(whole)


def test_finished_training_trains_nothing_again(tmp_path):
    """Started once more, it ends with what it had; only the ends of the fits are kept."""
    fork([(tmp_path, ["two_fits"])])
    before, printed = outcome(tmp_path), log(tmp_path)
    first_model = (tmp_path / "models" / "first.pth").read_bytes()

    assert checkpoints(tmp_path) == ["000-end", "001-end", "002-end"]
    assert part(tmp_path, "checkpoints")["last"] == "002-end.pt"
    progress = part(tmp_path, "progress")
    assert (progress["fit"], progress["done"], progress["epochs"]) == (2, 1, 1)
    assert progress["metrics"]["accuracy"] >= 0
    assert fork([(tmp_path, ["two_fits"])]) == [0]
    assert outcome(tmp_path) == before
    assert (tmp_path / "models" / "first.pth").read_bytes() == first_model
    assert "train_loss" not in log(tmp_path)[len(printed) :]


def test_trainings_that_do_not_fit_their_checkpoints(tmp_path):
    """Another model is refused with 110 and what differs; a folder that is none is said."""
    refused, blocked = tmp_path / "refused", tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "checkpoints").write_text("no folder")
    codes = fork([(refused, ["plain", "--kill", 7]), (refused, ["table"]), (blocked, ["plain"])])

    assert codes == [-signal.SIGKILL, 110, 0]
    assert "was written with" in log(refused)
    assert "could not write a checkpoint" in log(blocked)


def test_nothing_is_written_unless_asked_for(tmp_path):
    """Without the policy there is no folder."""
    assert fork([(tmp_path, ["plain"])], policy="") == [0]
    assert not (tmp_path / "checkpoints").exists()
