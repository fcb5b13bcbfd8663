"""A learner that is changed during a fit: a resume restores the change, or is refused by name."""

import signal

import pytest
from changing import REFUSED, RESTORED
from resuming import fork, log, outcome

# Steps of an epoch being 4 and the change in the second one: in that epoch, at the start of the
# next, within it, and in the next fit.
DEATHS = (7, 9, 11, 15)
TRAIN = ["changing", "--change", ",".join(RESTORED)]


@pytest.fixture(scope="module")
def restored(tmp_path_factory):
    """All changes of values in one training: once to its end, and killed and started again."""
    top = tmp_path_factory.mktemp("restored")
    jobs = [(top / "whole", TRAIN)]
    for death in DEATHS:
        jobs += [(top / str(death), [*TRAIN, "--kill", death]), (top / str(death), TRAIN)]
    return top, fork(jobs)


@pytest.mark.parametrize("death", DEATHS)
def test_changed_values_are_restored(restored, death):
    """Frozen layers, the order, rates, weights of the loss, a callback's switch."""
    top, codes = restored
    number = 1 + 2 * DEATHS.index(death)
    folder = top / str(death)

    assert codes[number : number + 2] == [-signal.SIGKILL, 0], log(folder)
    assert "resuming from checkpoint" in log(folder)
    assert outcome(folder) == outcome(top / "whole")


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """All changes of objects in one training, which was killed and started again."""
    folder = tmp_path_factory.mktemp("refused")
    train = ["changing", "--change", ",".join(REFUSED)]
    return folder, fork([(folder, [*train, "--kill", 11]), (folder, train)])


@pytest.mark.parametrize("name", REFUSED)
def test_changed_objects_are_refused_by_name(refused, name):
    """Other loaders, another loss or optimizer, callbacks: 110, and no training."""
    folder, codes = refused
    (line,) = [line for line in log(folder).splitlines() if "the fit had changed" in line]

    assert codes == [-signal.SIGKILL, 110]
    assert REFUSED[name] in line


def test_a_change_is_made_again_in_its_own_epoch(tmp_path):
    """The new start begins that epoch with the same change, so nothing is refused."""
    train = ["changing", "--change", "lose_otherwise,load_others,add_callback"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    codes = fork([(whole, train), (killed, [*train, "--kill", 7]), (killed, train)])

    assert codes == [0, -signal.SIGKILL, 0], log(killed)
    assert outcome(killed) == outcome(whole)
