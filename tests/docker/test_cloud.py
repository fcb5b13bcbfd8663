"""The image without the kit's host side: by hand, and by SkyPilot's script; on the real engine."""

import os
import subprocess

import pytest
import yaml
from driving import invoke, read_wandb

from samerun.core import record
from samerun.host.cloud import sky

HARDENED = ("--read-only", "--cap-drop=ALL", "--tmpfs=/tmp", "--shm-size=512m", "--network=none")


@pytest.fixture
def output(tmp_path):
    """A folder that the container's user may write."""
    path = tmp_path / "output"
    path.mkdir()
    path.chmod(0o777)
    return path


def by_hand(image, *arguments, output=None, variables=()):
    mounts = [f"--mount=type=bind,source={output},target=/output"] if output else []
    flags = ["--rm", "--user=12345:12345", *HARDENED, *mounts, *variables]
    command = ["docker", "run", *flags, image["reference"], *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_container_by_hand_signs_its_run_with_the_digest_it_was_told(image, output):
    """Record and W&B run are complete, and say that nothing confirmed the digest."""
    told = f"--env=SAMERUN_IMAGE=host/name@sha256:{image['digest']}"

    done = by_hand(image, "tabular", "--epochs", "1", output=output, variables=[told])
    made = record.read(output)

    assert done.returncode == 0, done.stderr
    assert (made.written_by, made.outcome.state) == ("container", "finished")
    assert made.image.packages == image["packages"]
    assert made.result["weights_sha256"]
    assert any("no cluster was asked" in sentence for sentence in made.unknown)
    assert [image["digest"]] == [run["tags"][-1] for run in read_wandb(image, output)]


def test_without_a_folder_the_run_goes_on_without_a_record(image):
    """One line says so; the training's exit code is its own."""
    done = by_hand(image, "digits", "--no-such-flag", "1")

    assert done.returncode == 64

    script = by_hand(image, "/nowhere/train.py")

    assert script.returncode == 1
    assert "this run has no record" in script.stderr


def test_the_image_s_first_process_passes_sigterm_on(image, output):
    """It is PID 1 here, which the kernel does not stop unless it asks for it."""
    code = "import pathlib, time; pathlib.Path('ready').touch(); time.sleep(60)"
    (output / "wait.py").write_text(code)
    name = f"samerun-cloud-term-{os.getpid()}"
    flags = [f"--name={name}", "--user=12345:12345", *HARDENED]
    mount = f"--mount=type=bind,source={output},target=/output"
    line = ["docker", "run", "--rm", *flags, mount, image["reference"], "/output/wait.py"]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    for _ in range(300):
        if (output / "ready").exists():
            break
        subprocess.run(["sleep", "0.1"], check=True)
    subprocess.run(["docker", "kill", "--signal=TERM", name], check=True, capture_output=True)

    assert process.wait(30) == 143
    assert record.read(output).outcome.state == "killed"


@pytest.mark.parametrize("key", [False, True])
def test_skypilots_script_trains_on_a_machine(image, registry, tmp_path, key):
    """Run as SkyPilot runs it, in the image by digest from a registry; the key is nowhere."""
    # The note of where it was pushed goes with the registry.
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    to = ["--registry", f"{registry.name}/sky", "--json"]
    pushed = invoke("push", image["reference"], *to, **cache)
    reference = yaml.safe_load(pushed.stdout)["pull_reference"]
    file = tmp_path / "task.yaml"
    name = f"cloud-sky-{os.getpid()}-{int(key)}"
    options = ["--image", reference, "--no-check", "--output", "s3://runs", "--name", name]
    options += ["--shm-size", "512m", "--file", file, *([] if key else ["--offline"])]
    # Nothing answers there, so with a key W&B can't be reached either.
    line = ["cloud", "sky", "--recipe", "tabular", *options, "--", "--epochs", "1"]
    done = invoke(*line, WANDB_BASE_URL="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    script = yaml.safe_load(file.read_text())["run"].replace(sky.OUTPUT, str(tmp_path))

    secret = {"WANDB_API_KEY": "0" * 40} if key else {}
    ran = subprocess.run(
        ["bash", "-c", script], env=os.environ | secret, capture_output=True, text=True, check=False
    )
    made = record.read(tmp_path / name)

    assert ran.returncode == 0, ran.stderr
    assert made.hardware.engine == "skypilot"
    assert made.image.reference == reference
    assert made.secrets == (("WANDB_API_KEY",) if key else ())
    assert "0" * 40 not in ran.stdout + ran.stderr + (tmp_path / name / "run.json").read_text()
