"""cuDNN's dropout between the layers of an RNN: what is promised of it, and what is not."""

from conftest import ON_CPU
from resuming import outcome
from starting import beside, script, train


def test_dropout_inside_cudnn(tmp_path, table):
    names = {"whole": [], "twin": [], "logged": [], "killed": ["--kill", 8]}

    def job(name):
        kind = "rnn_dropout_logged" if name == "logged" else "rnn_dropout"
        return lambda: train(tmp_path / name, script("trainings"), kind, *names[name])

    codes = beside([job(name) for name in names])
    assert codes[:3] == [0, 0, 0], (tmp_path / "whole" / "log.txt").read_text()
    assert train(tmp_path / "killed", script("trainings"), "rnn_dropout") == 0
    whole = outcome(tmp_path / "whole")["weights"]
    same = {name: outcome(tmp_path / name)["weights"] == whole for name in names}
    for name in ("twin", "logged", "killed"):
        table(f"RNN dropout: {name}", "same bits" if same[name] else "different")
    assert same["twin"]
    assert same["logged"]
    assert same["killed"] or not ON_CPU
