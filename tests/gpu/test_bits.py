"""The same bits: trained twice, and killed and resumed, in each precision."""

import signal

import pytest
from conftest import ON_CPU
from resuming import outcome
from starting import beside, script, train

# Name of the training: the step to die at. An epoch has 5 steps; the U-Net's has 4.
DEATHS = {
    "fp32": 7,
    "fp16": 8,
    "bf16": 7,
    "channels_last": 8,
    "accumulated": 8,
    "ranger": 7,
    "sgd": 9,
    "torch_adamw": 8,
    "fine_tune": 8,
    "unet": 6,
}
NAMES = ["fp32", "accumulated"] if ON_CPU else list(DEATHS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Each training to its end twice, and once killed and started again: folder, exit codes."""
    top = tmp_path_factory.mktemp("bits")

    def killed(name):
        first = train(top / name / "killed", script("trainings"), name, "--kill", DEATHS[name])
        return first, train(top / name / "killed", script("trainings"), name)

    def job(name, kind):
        if kind == "killed":
            return lambda: killed(name)
        return lambda: train(top / name / kind, script("trainings"), name)

    cases = [(name, kind) for name in NAMES for kind in ("whole", "twin", "killed")]
    return top, dict(zip(cases, beside([job(*case) for case in cases]), strict=True))


def log(folder):
    return (folder / "log.txt").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_training_twice_gives_the_same_bits(trained, table, name):
    top, codes = trained
    assert codes[name, "whole"] == 0, log(top / name / "whole")
    assert codes[name, "twin"] == 0, log(top / name / "twin")
    found = outcome(top / name / "whole")
    equal = outcome(top / name / "twin") == found
    table(f"{name}: trained twice", "same bits" if equal else "DIFFERENT", found["weights"][:12])
    assert equal


@pytest.mark.parametrize("name", NAMES)
def test_killed_and_resumed_training_gives_the_same_bits(trained, table, name):
    top, codes = trained
    assert codes[name, "killed"] == (-signal.SIGKILL, 0), log(top / name / "killed")
    assert "resuming from checkpoint" in log(top / name / "killed")
    equal = outcome(top / name / "killed") == outcome(top / name / "whole")
    table(f"{name}: killed and resumed", "same bits" if equal else "DIFFERENT")
    assert equal
