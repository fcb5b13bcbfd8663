"""A training that was killed, and started again, ends with the same bits."""

import shutil
import signal

import pytest
from resuming import EVERY_EPOCH, checkpoints, fork, outcome, part, train

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
    "torch_optimiser": 8,
    "tracked": 12,
    "table": 23,
    "found_rate": 12,
}


@pytest.fixture
def folders(folder, tmp_path):
    """Two folders of one run: one is killed, the other is not."""
    other = tmp_path / "whole"
    shutil.copytree(folder, other)
    return folder, other


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
    log = (top / name / "killed" / "log.txt").read_text()

    assert codes[number : number + 3] == [0, -signal.SIGKILL, 0], log
    assert "going on from checkpoint" in log
    assert part(top / name / "killed", "starts")["starts"][-1]["resumed"]
    assert outcome(top / name / "killed") == outcome(top / name / "whole")


@pytest.mark.parametrize("how", [["--kill", "8", "--validating"], ["--writing"]])
def test_killed_while_validating_or_writing(folders, how):
    """Neither loses more than the batch; a torn file is no checkpoint."""
    killed, whole = folders
    train(whole, "plain", policy=EVERY_EPOCH)
    first = train(killed, "plain", *how, policy=EVERY_EPOCH)
    again = train(killed, "plain", policy=EVERY_EPOCH)

    assert first.returncode == -signal.SIGKILL
    assert again.returncode == 0, again.stderr
    assert outcome(killed) == outcome(whole)


def test_damaged_checkpoint_is_passed_over(folders):
    """It is named, and the one before it used."""
    killed, whole = folders
    train(whole, "plain")
    train(killed, "plain", "--kill", "8")
    newest = killed / "checkpoints" / f"{checkpoints(killed)[-1]}.pt"
    newest.write_bytes(newest.read_bytes()[:-100] + bytes(100))
    again = train(killed, "plain")

    assert f"{newest.name} is not used: its checksum differs" in again.stderr
    assert f"going on from checkpoint {checkpoints(whole)[0][:3]}" in again.stderr
    assert outcome(killed) == outcome(whole)


def test_last_two_and_the_ends_of_fits_are_kept(folder):
    """Old checkpoints go; the end of a fit stays, because later ones build on it."""
    train(folder, "two_fits")

    assert checkpoints(folder) == ["000-end", "001-end", "002-end"]
    assert part(folder, "checkpoints")["last"] == "002-end.pt"


def test_finished_training_trains_nothing_again(folder):
    """Started once more, it ends with what it had."""
    train(folder, "fine_tune")
    before = outcome(folder)
    again = train(folder, "fine_tune")

    assert again.returncode == 0, again.stderr
    assert outcome(folder) == before
    assert "train_loss" not in again.stdout


def test_checkpoint_of_another_training_is_refused(folder):
    """Exit code 110, with what differs."""
    train(folder, "plain", "--kill", "7")
    again = train(folder, "table")

    assert again.returncode == 110
    assert "was made with" in again.stderr


def test_nothing_is_written_unless_asked_for(folder):
    """Without the policy there is no folder, and no handler for signals."""
    done = train(folder, "plain", policy="")

    assert done.returncode == 0
    assert not (folder / "checkpoints").exists()


def test_disk_that_is_full_does_not_end_the_training(folder):
    """What can't be written is said, once for each checkpoint."""
    (folder / "checkpoints").write_text("no folder")
    done = train(folder, "plain", policy=EVERY_EPOCH)

    assert done.returncode == 0
    assert "could not write a checkpoint" in done.stderr
