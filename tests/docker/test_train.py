"""Recipes, end to end, as a user types them."""

import json

import pytest
from driving import HERE, containers, invoke, read_wandb

from samerun.core import record
from samerun.host.machine import user


def test_digits_reach_95_percent_on_the_cpu(train, image, tmp_path):
    """The main job: the record, the summary and the W&B run are complete and carry the digest."""
    done, run = train("digits", "--tags", "a,b")

    assert done.returncode == 0, done.stderr
    assert run.result["metrics"]["accuracy"] > 0.95
    assert image["digest"] in done.stdout
    assert "invoke sync" in done.stdout
    assert (run.outcome.state, run.outcome.exit_code) == ("finished", 0)
    assert 0 < run.outcome.first_batch_s < run.outcome.duration_s + 60
    assert len(run.result["weights_sha256"]) == 64
    assert run.config["arch"] == "resnet18"
    assert run.environment["threads"] == run.topology.threads

    (logged,) = read_wandb(image, tmp_path / "runs" / "run-train")
    assert ["a", "b", image["digest"]] == logged["tags"]
    assert image["reference"] == logged["docker"]
    assert image["layers_digest"] == logged["config"]["samerun"]["layers_digest"]
    assert "run-record" in logged["artifacts"].values()
    assert logged["complete"]
    assert logged["rows"] >= 88


FLAGS = ("--epochs", "3", "--lr", "0.002")


@pytest.fixture(scope="module")
def single(image, tmp_path_factory):
    """Train a recipe with flags on one process; return the record and the folder of all runs."""
    output = tmp_path_factory.mktemp("single")
    options = ["--gpus", "0", "--output", output, "--name", "train-a", "--seed", "1"]
    done = invoke("train", "tabular", *options, "--", *FLAGS)
    assert done.returncode == 0, done.stderr
    return record.read(output / "train-a"), output


def test_two_processes_are_one_run_on_one_model(train, single, client, image, tmp_path):
    """DDP over gloo: one W&B run, the same bits again, no orphans."""
    arguments = ("tabular", "--gpus", "0", "--procs", "2", "--seed", "1", "--", *FLAGS)
    done, run = train(*arguments)
    repeated, again = train(*arguments, name="train-again")

    assert done.returncode == 0, done.stderr
    assert repeated.returncode == 0, repeated.stderr
    assert run.topology.world_size == 2
    assert len(run.wandb) == 1
    assert image["digest"] in read_wandb(image, tmp_path / "runs" / "run-train")[0]["tags"]
    assert run.result["weights_sha256"] == again.result["weights_sha256"]
    assert run.result["metric_history_sha256"] == again.result["metric_history_sha256"]
    assert run.result["weights_sha256"] != single[0].result["weights_sha256"]
    assert containers(client, "run") == []


def test_metrics_are_over_all_ranks(train):
    """A script with `distrib_ctx`: each rank validates its half, both record the whole."""
    done, run = train(HERE / "script" / "ddp.py", "--gpus", "0", "--procs", "2")
    lines = [line for line in done.stdout.splitlines() if "RANK " in line]
    ranks = [json.loads(line.split("RANK ", 1)[1]) for line in lines]

    assert len(ranks) == 2, done.stderr
    assert [rank["items"] for rank in ranks] == [32, 32]
    whole = sum(rank["hits"] for rank in ranks) / 64
    assert [whole, whole] == [rank["metric"] for rank in ranks]
    assert whole == run.result["metrics"]["accuracy"]
    assert ranks[0]["weights"] == ranks[1]["weights"]


def test_another_seed_is_another_result(train, single):
    """The seed reaches the split and the weights."""
    _, other = train("tabular", "--gpus", "0", "--seed", "2", "--", *FLAGS, name="train-b")

    assert (single[0].seed, other.seed) == (1, 2)
    assert single[0].result["weights_sha256"] != other.result["weights_sha256"]


def test_recipe_flags_reach_the_training(single):
    """Flags after -- are in the record, and the epochs were run."""
    run, _ = single

    assert (run.config["epochs"], run.config["lr"]) == (3, 0.002)
    assert len(run.result["epochs"]) == 3
    assert run.command == ("tabular", *FLAGS)


def test_files_belong_to_the_caller(single):
    """All that host and container made has the caller's uid; never root's."""
    owners = {p.lstat().st_uid for p in single[1].rglob("*")}

    assert {user.of_container()[0]} == owners
