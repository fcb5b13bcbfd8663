import dataclasses

import pytest

from samerun.cli import verb
from samerun.core import contract, hardware
from samerun.core.errors import TagError, UsageError
from samerun.core.record import Launch
from samerun.host.launch import request
from samerun.host.launch.request import Request
from samerun.host.machine import memory
from samerun.host.run.summary import again
from samerun.host.tracking import tags


def test_arguments_after_the_dashes_stay_as_typed():
    """Invoke would join them into one string and lose the quoting."""
    argv = ["invoke", "train", "x.py", "--seed", "1", "--", "--a", "x y", "it's", "--", "-v"]

    assert verb.after_dashes(argv) == ("--a", "x y", "it's", "--", "-v")
    assert verb.after_dashes(["invoke", "train"]) == ()


def test_tag_of_64_characters_is_taken_and_65_refused():
    """W&B's limit, checked before anything starts."""
    tags.check_tag("x" * 64)

    with pytest.raises(TagError, match="65 characters"):
        tags.check_tag("x" * 65)


@pytest.mark.parametrize("text", ["", "a,,b", "a, ,b", "a,"])
def test_empty_tag_is_refused(text):
    """W&B refuses it too, but only in the container."""
    with pytest.raises(TagError, match="empty"):
        request.check_request(Request(tags=text))


@pytest.mark.parametrize(
    "asked",
    [
        Request(data=("a=x", "a=y")),
        Request(data=("x", "a=y")),
        Request(data=("..=x",)),
        Request(follow_links=True),
    ],
)
def test_data_that_would_have_one_place_or_none_are_refused(asked):
    """Before a folder is read; and --follow-links without data would be ignored."""
    with pytest.raises(UsageError, match="data"):
        request.check_request(asked)


def test_digest_follows_the_users_tags(monkeypatch):
    """The digest is added once, whatever else is there."""
    monkeypatch.delenv("WANDB_TAGS", raising=False)

    assert request.all_tags(Request(tags="a,b"), "d") == ("a", "b", "d")
    assert request.all_tags(Request(tags="d,a"), "d") == ("a", "d")


def test_tags_of_the_environment_count_without_the_option(monkeypatch):
    """WANDB_TAGS is what W&B's users know."""
    monkeypatch.setenv("WANDB_TAGS", "x, y")

    assert request.all_tags(Request(), "d") == ("x", "y", "d")
    assert request.all_tags(Request(tags="a"), "d") == ("a", "d")


@pytest.mark.parametrize(
    "asked",
    [
        Request(procs=0),
        Request(seed=-1),
        Request(seed=2**32),
        Request(shm_size="lots"),
        Request(name="../up"),
        Request(name="a/b"),
    ],
)
def test_impossible_options_are_refused(asked):
    """Each is a usage error, found without an engine."""
    with pytest.raises(UsageError):
        request.check_request(asked)


def test_options_win_over_the_environment(monkeypatch):
    """W&B's variables are taken over, and the options override them; no key is among them."""
    monkeypatch.setenv("WANDB_PROJECT", "from-env")
    monkeypatch.setenv("WANDB_ENTITY", "team")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)

    settings = Request(project="mine").wandb_settings()

    assert settings["WANDB_PROJECT"] == "mine"
    assert settings["WANDB_ENTITY"] == "team"
    assert "WANDB_API_KEY" not in settings


def test_line_to_run_again_names_the_image(run):
    """The summary's line runs the same recipe with the same options in the same image."""
    variables = {"STYLE": "a b", contract.ENV_VARIABLES: "STYLE"}
    line = again(dataclasses.replace(run, launch=Launch(target="digits", environment=variables)))

    assert line.startswith(f"invoke train digits --gpus 0 --image {run.image.reference}")
    assert line.endswith("--procs 2 --seed 1 --env 'STYLE=a b' --data /d -- --epochs 1")


@pytest.mark.parametrize(
    "asked",
    [
        Request(memory="lots"),
        Request(memory="-1"),
        Request(memory="1.5g"),
        Request(pids_limit=0),
        Request(pids_limit=-1),
        Request(network="container:other"),
        Request(network="none", no_network=True),
        Request(docker_arg=("--privileged",)),
        Request(env=("WANDB_API_KEY=x",)),
    ],
)
def test_limits_can_be_set_but_not_taken_off_by_a_slip(asked):
    """Each is a usage error, found without an engine."""
    with pytest.raises(UsageError):
        request.check_request(asked)


def test_no_network_means_offline(monkeypatch):
    """Whatever WANDB_MODE says; a run that shall not be logged at all stays so."""
    monkeypatch.setenv("WANDB_MODE", "online")
    assert Request(no_network=True).wandb_settings()["WANDB_MODE"] == "offline"
    assert Request().wandb_settings()["WANDB_MODE"] == "online"

    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert Request(no_network=True).wandb_settings()["WANDB_MODE"] == "disabled"


def test_memory_is_limited_unless_said():
    """By default nine tenths of the machine; 0 is no limit."""
    limit = memory.memory_limit(None)

    assert limit.endswith("m")
    assert 0.85 < int(limit[:-1]) * 2**20 / hardware.memory_bytes() < 0.91
    assert memory.memory_limit("8g") == "8g"
    assert memory.memory_limit("10g") == "10g"
    assert memory.memory_limit("0") is None
    assert memory.memory_limit("0m") is None


def test_proxies_are_handed_on_without_logins(monkeypatch):
    """A login is a secret, and a variable of a container is not the place for one."""
    for name in contract.PROXIES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("http_proxy", "http://me:secret@proxy.example:3128")

    assert Request().proxies() == {"HTTPS_PROXY": "http://proxy.example:3128"}


def test_variables_of_the_option_win_over_the_host_s(monkeypatch):
    """Both reach the container; the names of those that were given are listed for its record."""
    monkeypatch.setenv("NCCL_DEBUG", "WARN")
    monkeypatch.setenv("NCCL_P2P_DISABLE", "1")

    assert Request(env=("NCCL_DEBUG=INFO", "STYLE=a b")).variables() == {
        "NCCL_DEBUG": "INFO",
        "NCCL_P2P_DISABLE": "1",
        "STYLE": "a b",
        contract.ENV_VARIABLES: "NCCL_DEBUG,STYLE",
    }


def test_the_line_to_run_it_again_has_every_option_that_was_given(run):
    """Those in the record as data once; of this start only: the name, and --dry."""
    given = {
        "network": "host", "memory": "4g", "stop_on_nan": True, "docker_arg": ("--cpus=2", "-v"),
        "seed": 7, "name": "x", "gpus": "0", "image": "kit@sha256:1", "project": "it's",
    }  # fmt: skip
    asked = Request(target="train.py", given=frozenset(given), **given)
    options = asked.other_options()
    assert options == (
        *("--docker-arg=--cpus=2", "--docker-arg=-v", "--image=kit@sha256:1", "--memory=4g"),
        *("--network=host", "--project=it's", "--stop-on-nan"),
    )

    recipe = again(dataclasses.replace(run, options=options))
    code = dataclasses.replace(run.code, kind="script", target="train.py")
    script = again(dataclasses.replace(run, options=options, code=code))

    for line in (recipe, script):
        assert "--memory=4g --network=host '--project=it'\"'\"'s' --stop-on-nan" in line
        assert line.count("--image") == line.count("--seed") == 1
    assert f"--image {run.image.reference}" in recipe
    assert "--image=kit@sha256:1" in script
