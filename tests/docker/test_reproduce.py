"""A run again from its record: the verdict, and what stands in the way of one."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import images
import pytest
from driving import ROOT, invoke

from samerun.core import contract, record

sys.path.insert(0, str(ROOT / "tests" / "standin"))
import wbserver

KEY = "5ec2e7" * 7
# What a training of a second does, for an image without a framework.
ENTRY = """
import json, pathlib
parts = pathlib.Path("/output/.samerun")
parts.mkdir()
result = {"epochs": [{"loss": 0.5}], "metric_history_sha256": "0", "weights_sha256": "1"}
(parts / "result.json").write_text(json.dumps(result))
line = {"fit": 0, "epoch": 0, "metrics": {"loss": 0.5.hex()}, "losses": [1.0.hex(), 0.5.hex()]}
(parts / "epochs.jsonl").write_text(json.dumps(line | {"tensors": {"weight": "0" * 16}}) + "\\n")
"""
SCRIPT = """\
from fastai.basics import *

x = torch.randn(64, 4)
sets = [[(row, row.sum(0, keepdim=True)) for row in part] for part in (x[:48], x[48:])]
loaders = DataLoaders.from_dsets(*sets, bs=16)
learn = Learner(loaders, nn.Linear(4, 1), loss_func=nn.MSELoss(), lr=0.1)
learn.fit(EPOCHS)
"""


@pytest.fixture(scope="module")
def wandb(tmp_path_factory):
    """A W&B stand-in on loopback, and the environment that leads to it."""
    folder = tmp_path_factory.mktemp("server")
    with wbserver.make_server(folder, entity="ent", api_keys=[KEY]) as server:
        env = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
        yield SimpleNamespace(store=server.store, env=env)


@pytest.fixture(scope="module")
def original(image, wandb, tmp_path_factory):
    """A run with data, logged to W&B, on one core of this machine's."""
    folder = tmp_path_factory.mktemp("original")
    (folder / "data").mkdir(mode=0o755)
    (folder / "data" / "a.txt").write_text("a")
    folder.chmod(0o755)
    options = ["--gpus", "0", "--output", folder / "runs", "--name", "judge-first"]
    options += ["--data", folder / "data", "--network", "host", "--project", "proj"]
    options += ["--docker-arg=--cpuset-cpus=0", "--seed", "5"]
    done = invoke("train", "tabular", *options, "--", "--epochs", "2", **wandb.env)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "judge-first"


@pytest.fixture
def edited(original, tmp_path):
    """Return a copy of the original whose record was changed."""
    return lambda change: edit(original, tmp_path / "edited", change)


@pytest.fixture
def reproduce(tmp_path):
    """Reproduce a run into a folder of the test's own; return process, record and verdict."""

    def run(original, *options, name="judge-again", **env):
        into = ["--output", tmp_path / "runs", "--name", name]
        done = invoke("reproduce", original, *into, *options, **env)
        folder = tmp_path / "runs" / name
        made = record.read(folder) if (folder / "run.json").is_file() else None
        file = folder / "verdict.json"
        return done, made, json.loads(file.read_text()) if file.is_file() else None

    return run


def test_a_run_of_wandb_is_read_from_there_and_linked(original, wandb, reproduce):
    """The record comes through the API; the new run lies beside it, with tag and config."""
    path = f"ent/proj/{record.read(original).wandb[0].id}"
    before = set(wandb.store.runs)

    refused, _, _ = reproduce(path, "--network", "host", **wandb.env)
    assert refused.returncode == 95
    assert "as --data" in refused.stderr

    data = original.parents[1] / "data"
    done, again, verdict = reproduce(path, "--data", data, "--network", "host", **wandb.env)

    assert done.returncode == 0, done.stdout + done.stderr
    assert verdict["where"] == "W&B"
    assert again.reproduces == path
    (new,) = set(wandb.store.runs) - before
    made = wandb.store.runs[new]
    assert new.startswith("ent/proj/")
    assert {f"reproduces:{path}"[:64], again.image.digest} <= set(made.tags)
    assert made.config["samerun"]["value"]["reproduces"] == path
    assert KEY not in done.stdout + done.stderr


def test_a_record_that_names_another_seed_is_found_out(edited, reproduce):
    """Exit 94, with the epoch and the step or metric where the two first part."""
    folder = edited(lambda raw: raw.update(seed=6))

    done, _, verdict = reproduce(folder)

    exact = (folder / contract.STEPS).is_file()
    assert done.returncode == 94, done.stdout + done.stderr
    assert verdict["first"]["epoch"] == 0
    assert verdict["first"]["kind"] == ("loss" if exact else "metric")
    assert ("epoch 0, loss of step" if exact else "epoch 0, metric train_loss") in done.stderr
    assert "Likely cause" in done.stderr


@pytest.fixture(scope="module")
def served(base_tag, registry, tmp_path_factory):
    """An image without a framework whose training takes no second, in the registry."""
    entry = ["python3", "-c", ENTRY]
    folder = tmp_path_factory.mktemp("judged")
    built = images.build("samerun-judge-small:x", folder, base_tag, runs=True, entry=entry)
    return images.push_to(registry, built, "team/judged")


@pytest.fixture(scope="module")
def brief(served, tmp_path_factory):
    """A run in that image."""
    output = tmp_path_factory.mktemp("brief")
    options = ["--gpus", "0", "--output", output, "--name", "judge-small"]
    done = invoke("train", "tabular", *options, "--image", served["pull_reference"])
    assert done.returncode == 0, done.stderr
    return output / "judge-small"


def edit(original, folder, change):
    """Copy a run to *folder*, and change its record there; return the folder."""
    shutil.copytree(original, folder, symlinks=True)
    raw = json.loads((folder / "run.json").read_text())
    change(raw)
    (folder / "run.json").write_text(json.dumps(raw))
    return folder


def test_a_small_difference_is_within_a_tolerance(brief, reproduce, tmp_path):
    """Exit 93 with the size of the difference: another last bit is not another result."""

    def change(raw):
        raw["result"]["epochs"][0]["loss"] += 1e-4
        raw["result"]["metric_history_sha256"] = "f" * 64

    folder = edit(brief, tmp_path / "edited", change)
    (folder / contract.STEPS).unlink()

    done, _, verdict = reproduce(folder, "--tolerance", "1e-3")

    assert done.returncode == 93, done.stdout + done.stderr
    assert verdict["largest"] == pytest.approx(1e-4)
    assert verdict["first"]["name"] == "loss"


def test_without_its_image_a_run_is_refused(edited, reproduce):
    """Exit 95 with the digest and the two ways to get it; no other image is tried."""

    def change(raw):
        for field in ("reference", "digest", "manifest_digest", "config_digest"):
            name, at, _ = raw["image"][field].rpartition(":")
            raw["image"][field] = f"{name}{at}{'0' * 64}"
        raw["image"] |= {"repo_digests": [], "pull_reference": None}

    done, again, _ = reproduce(edited(change))

    assert (done.returncode, again) == (95, None)
    assert "0" * 64 in done.stderr
    assert "invoke push" in done.stderr
    assert "invoke load" in done.stderr


def test_an_image_with_other_layers_is_refused(edited, reproduce):
    """Exit 95: the digest was found, and what is in it is not what the record says."""
    folder = edited(lambda raw: raw["image"].update(layers_digest="sha256:" + "0" * 64))

    done, again, _ = reproduce(folder)

    assert (done.returncode, again) == (95, None)
    assert "layers" in done.stderr


def test_other_data_is_refused_and_named_data_is_taken(original, reproduce, tmp_path):
    """Exit 95 with both fingerprints; the same content elsewhere is the same data."""
    for name, content in (("moved", "a"), ("changed", "b")):
        (tmp_path / name).mkdir(mode=0o755)
        (tmp_path / name / "a.txt").write_text(content)
    tmp_path.chmod(0o755)

    done, again, _ = reproduce(original, "--data", tmp_path / "changed")
    moved = invoke("reproduce", original, "--data", tmp_path / "moved", "--check")

    assert (done.returncode, again) == (95, None)
    assert record.read(original).data[0].fingerprint in done.stderr
    assert moved.returncode == 0, moved.stderr


def test_check_tells_what_is_needed_and_trains_nothing(original, edited, tmp_path):
    """Exit 0 with all there, 95 with something missing; no folder appears."""
    folder = edited(lambda raw: raw["data"][0].update(source="/nonexistent/data"))
    output = tmp_path / "checked"
    good = invoke("reproduce", original, "--check", "--output", output)
    bad = invoke("reproduce", folder, "--check", "--output", output)

    assert (good.returncode, bad.returncode) == (0, 95), good.stderr + bad.stderr
    assert good.stdout.count(" here ") == 4
    assert "/nonexistent/data" in bad.stdout
    assert not output.exists()


def test_the_same_run_comes_out_identical(image, reproduce, tmp_path):
    """
    Exit 0, also with another number of cores: the threads are those of the record.

    A script's code is in its image, so its folder may be gone.
    """
    folders = [tmp_path / name for name in ("code", "data")]
    for folder in (tmp_path, *folders):
        folder.mkdir(mode=0o755, exist_ok=True)
        folder.chmod(0o755)
    (folders[0] / "judge.py").write_text(SCRIPT.replace("EPOCHS", "2"))
    (folders[1] / "a.txt").write_text("a")
    options = ["--gpus", "0", "--output", tmp_path / "runs", "--name", "judge-script"]
    options += ["--data", folders[1], "--seed", "5", "--docker-arg=--cpuset-cpus=0"]
    told = invoke("train", folders[0] / "judge.py", *options)
    assert told.returncode == 0, told.stderr
    first = record.read(tmp_path / "runs" / "judge-script")
    shutil.rmtree(folders[0])

    done, again, verdict = reproduce(tmp_path / "runs" / "judge-script")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Verdict: identical" in done.stdout
    assert "judge-again/verdict.json" in done.stdout
    assert verdict["outcome"] == "identical"
    assert again.result["weights_sha256"] == first.result["weights_sha256"]
    assert again.environment["threads"] == first.environment["threads"] == 1
    assert (again.reproduces, again.seed, again.command) == (first.name, 5, first.command)
    assert again.image.digest == first.image.digest
    assert again.data[0].fingerprint == first.data[0].fingerprint


def test_mounted_code_is_rebuilt_from_its_patch_or_refused(image, reproduce, tmp_path):
    """From commit and patch, whatever lies in the folder today; without them exit 95."""
    folder = tmp_path / "code"
    folder.mkdir(mode=0o755)
    tmp_path.chmod(0o755)
    script = folder / "judge.py"
    script.write_text(SCRIPT.replace("EPOCHS", "1"))
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.invalid"]
        subprocess.run(["git", *identity, *command], cwd=folder, check=True)
    script.write_text(SCRIPT.replace("EPOCHS", "2"))
    options = ["--gpus", "0", "--mount-code", "--output", tmp_path / "runs"]
    first = invoke("train", script, *options, "--name", "judge-mounted")
    assert first.returncode == 0, first.stderr
    script.write_text("raise SystemExit(3)")

    done, _, verdict = reproduce(tmp_path / "runs" / "judge-mounted")
    shutil.rmtree(folder / ".git")
    refused, again, _ = reproduce(tmp_path / "runs" / "judge-mounted", name="judge-refused")
    today, _, none = reproduce(tmp_path / "runs" / "judge-mounted", "--anyway", name="judge-today")

    assert done.returncode == 0, done.stdout + done.stderr
    assert verdict["outcome"] == "identical"
    assert (refused.returncode, again) == (95, None)
    assert "--mount-code" in refused.stderr
    assert (today.returncode, none) == (95, None)
    assert "ended with exit code 3" in today.stderr


def test_an_image_that_is_gone_is_pulled_by_its_digest(client, served, brief, reproduce, tmp_path):
    """Removed here, served by a registry: the run gets that image, and is judged by its steps."""
    images.forget(client, served)
    original = edit(brief, tmp_path / "judge-small", lambda raw: None)
    checked = invoke("reproduce", original, "--check")
    done, again, verdict = reproduce(original)
    steps = original / contract.STEPS
    steps.write_text(steps.read_text().replace((1.0).hex(), (2.0).hex()))
    other, _, _ = reproduce(original, name="judge-other")

    assert checked.returncode == 0, checked.stderr
    assert "to be pulled" in checked.stdout
    assert done.returncode == 0, done.stdout + done.stderr
    assert verdict["outcome"] == "identical"
    assert again.image.digest == served["digest"]
    assert other.returncode == 94
    assert "epoch 0, loss of step 0: 2 and 1" in other.stderr


def test_compare_shows_what_differs(original, edited):
    """Seed, weights and the first difference; a missing image is told, and stops nothing."""

    def change(raw):
        raw.update(seed=6, name="judge-other")
        raw["image"].update(layers_digest="sha256:" + "0" * 64, packages={"torch": "1.0"})
        raw["result"]["epochs"][1]["valid_loss"] += 1.0

    folder = edited(change)
    (folder / contract.STEPS).unlink(missing_ok=True)

    done = invoke("compare", original, folder)

    assert done.returncode == 0, done.stderr
    for text in ("seed", "package.torch", "epoch 1", "valid_loss per epoch", "not on this machine"):
        assert text in done.stdout


def test_without_a_result_there_is_no_verdict(brief, reproduce, tmp_path):
    """Exit 95 before the training; with --anyway it is trained, and still not judged."""
    folder = edit(brief, tmp_path / "edited", lambda raw: raw.update(result={}))
    (folder / contract.STEPS).unlink()

    refused, none, _ = reproduce(folder)
    done, again, verdict = reproduce(folder, "--anyway")

    assert (refused.returncode, none) == (95, None)
    assert (done.returncode, again.outcome.exit_code, verdict) == (95, 0, None)
    assert "no verdict" in done.stderr
