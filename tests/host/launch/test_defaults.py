"""What a project sets counts where nothing was given."""

import pytest

from samerun.host.launch import defaults
from samerun.host.launch.request import Request

TEXT = """
project = "flowers"
entity = "team"
gpus = "all"
data = ["photos", "labels=/mnt/labels"]
checkpoints = "epochs=2"
env = ["STYLE=b"]
"""


@pytest.fixture
def script(tmp_path):
    (tmp_path / "samerun.toml").write_text(TEXT)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "train.py").write_text("")
    return tmp_path / "scripts" / "train.py"


def test_settings_are_taken_and_are_not_taken_for_given(script, tmp_path):
    """Folders are relative to the project, wherever the command is typed."""
    found = defaults.with_settings(Request(target=str(script)))

    assert (found.project, found.entity, found.gpus) == ("flowers", "team", "all")
    assert found.data == (str(tmp_path / "photos"), "labels=/mnt/labels")
    assert (found.checkpoints, found.env) == ("epochs=2", ("STYLE=b",))
    assert found.given == frozenset()
    assert found.other_options() == ()


def test_options_and_variables_of_the_host_count_more(script, monkeypatch):
    monkeypatch.setenv("WANDB_ENTITY", "me")
    given = frozenset({"gpus", "data"})
    found = defaults.with_settings(Request(target=str(script), gpus="0", data=("x",), given=given))

    assert (found.gpus, found.data, found.entity, found.project) == ("0", ("x",), None, "flowers")


def test_recipes_and_resumed_runs_have_no_project(script):
    for request in (Request(target="digits"), Request(target=str(script), resume="one")):
        assert defaults.with_settings(request) == request
