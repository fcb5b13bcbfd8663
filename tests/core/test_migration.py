"""Records of schema 1, as samerun wrote them, read as today's."""

from pathlib import Path

import pytest

from samerun.core import contract, record
from samerun.core.errors import RecordError

FOLDER = Path(__file__).parent / "schema1"


def read(name):
    return record.from_json((FOLDER / f"{name}.json").read_text())


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_a_record_of_schema_1_is_read_as_one_of_today(path):
    """And survives being written."""
    run = record.from_json(path.read_text())

    assert run.schema == record.SCHEMA
    assert record.from_json(record.to_json(run)) == run


def test_the_command_line_becomes_the_launch():
    """All that a next start takes over: what runs, with what, in which room."""
    launch = read("recipe").launch

    assert (launch.target, launch.arguments, launch.ranks) == ("tabular", ("--epochs", "1"), 2)
    assert launch.memory == "3g"
    assert launch.environment[contract.ENV_STOP_ON_NAN] == "1"
    assert launch.environment["WANDB_TAGS"].startswith("a,b,")
    mounts = {mount.target: mount for mount in launch.mounts}
    assert mounts[contract.DATA].source == "/home/ada/data"
    assert mounts[contract.DATA].read_only
    assert not mounts[contract.OUTPUT].read_only


def test_the_users_own_flags_and_quoted_arguments_survive():
    """They stood last, and in one piece."""
    launch = read("script").launch

    assert launch.docker_args == ("--cpus=1",)
    assert launch.arguments == ("--a", "x y")
    assert launch.target == "/code/steps.py"


def test_mounted_code_and_no_network_are_known():
    """The code's folder is a mount like any other."""
    launch = read("mounted").launch

    assert launch.network == "none"
    assert [m.source for m in launch.mounts if m.target == contract.CODE] == ["/home/ada/proj"]


def test_a_container_s_own_record_has_what_it_knew():
    """Its variables; no engine's flags."""
    launch = read("own").launch

    assert (launch.target, launch.arguments) == ("tabular", ("--epochs", "1"))
    assert launch.environment[contract.ENV_CHECKPOINTS] == contract.DEFAULT_CHECKPOINTS
    assert (launch.network, launch.mounts) == (None, ())


def test_a_run_that_never_started_has_no_launch(run):
    """Its command line was empty."""
    text = record.to_json(run).replace('"schema": 2', '"schema": 1')

    assert record.from_json(text).launch is None


@pytest.mark.parametrize(
    "damage",
    [
        ('"arguments": [', '"arguments": [5,'),
        ("source=/home/ada/data,", ""),
        ('"command": [', '"command": {}, "x": ['),
    ],
)
def test_a_damaged_record_of_schema_1_is_one_clear_error(damage):
    """As one of today's."""
    text = (FOLDER / "recipe.json").read_text()
    assert damage[0] in text

    with pytest.raises(RecordError):
        record.from_json(text.replace(*damage, 1))
