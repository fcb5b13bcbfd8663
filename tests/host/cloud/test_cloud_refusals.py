"""What `invoke cloud` refuses before a file is written, and how it hands one over."""

import pytest
from asking import DIGEST, IMAGE, asked

from samerun.core.errors import (
    CloudEngineMissing,
    DataError,
    KeyFileError,
    NoCredentials,
    NotPullable,
    OutputError,
    UnknownAccelerator,
    UsageError,
)
from samerun.host.cloud import check, request, sky, write
from samerun.host.cloud.request import Gpus, Location
from samerun.host.image import registry


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("A100:8", Gpus(name="A100", number=8)),
        ("L4", Gpus(name="L4", number=1)),
        ("2", Gpus(number=2)),
        (None, Gpus()),
    ],
)
def test_gpus_are_read_as_clouds_write_them(text, gpus):
    """A name, a number, or both."""
    assert request.parse_gpus(text) == gpus


def test_no_gpus_of_a_kind_are_a_contradiction():
    """Nothing falls back to the CPU in silence."""
    with pytest.raises(UsageError, match=r"A100:0.*zero"):
        request.parse_gpus("A100:0")


@pytest.mark.parametrize("text", ["A100:", ":8", "A100:eight", "8:A100"])
def test_gpus_that_are_none_are_refused(text):
    """With examples."""
    with pytest.raises(UsageError, match="A100:8"):
        request.parse_gpus(text)


@pytest.mark.parametrize(
    ("engine", "changes", "said"),
    [
        ("sky", {"output": None}, "disk"),
        ("sky", {"data": (Location(kind="pvc", name="x"),)}, "only Kubernetes"),
        ("k8s", {"output": Location(kind="s3", name="runs")}, "pvc://"),
        ("k8s", {"data": (Location(kind="path", name="./photos"),)}, "must start with /"),
        ("sky", {"output": Location(kind="path", name="./runs")}, r"--output \./runs: .*disk"),
        (
            "sky",
            {"output": Location(kind="s3", name="My_Runs")},
            "'My_Runs' is not a valid bucket name",
        ),
        ("vm", {"nodes": 2}, "one machine"),
        ("vm", {"source": None}, "--source"),
        ("k8s", {"target": "train.py"}, "/code/train.py"),
        ("k8s", {"name": "Has_Capitals"}, "lower-case letters"),
        ("k8s", {"nodes": 0}, "--nodes 0, --procs 1"),
        ("k8s", {"nodes": 2, "name": "n" * 49}, "it has 49 characters.\nUse up to 48"),
        ("k8s", {"nodes": 11, "name": "n" * 48}, "it has 48 characters.\nUse up to 47"),
        ("sky", {"memory": "32"}, "as in 32g"),
        ("k8s", {"shm_size": "much"}, "--shm-size: 'much'"),
        ("sky", {"cpus": -1}, "--cpus: -1"),
        ("vm", {"cpus": 4}, "provider"),
        ("sky", {"pull_secret": "x"}, "Kubernetes only"),
        ("vm", {"runtime_class": "nvidia"}, "Kubernetes only"),
        ("k8s", {"runtime_class": "N V"}, "kubectl get runtimeclasses"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(engine, changes, said):
    """With what to do instead."""
    with pytest.raises(UsageError, match=said):
        request.check_cloud_request(asked(engine, **changes))


@pytest.mark.parametrize("text", ["https://host/x.zip", "s3:/bucket/x", "S3://bucket"])
def test_an_address_that_nothing_mounts_is_refused(text):
    """With the forms that can be."""
    with pytest.raises(UsageError, match="s3://BUCKET"):
        request.parse_place("--data", text)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (f"samerun@sha256:{DIGEST}", "has no registry"),
        (f"localhost:5000/x@sha256:{DIGEST}", "others can't reach it"),
        (f"127.0.0.1:5000/x@sha256:{DIGEST}", "others can't reach it"),
    ],
)
def test_an_image_that_is_only_here_is_refused(reference, said):
    """With how to push it; no registry is asked."""
    with pytest.raises(NotPullable, match=said) as raised:
        check.pullable(None, reference)

    assert "invoke push" in str(raised.value)


def test_a_tag_is_no_image_for_elsewhere():
    """It may be another image tomorrow."""
    with pytest.raises(UsageError, match="has no digest"):
        check.pullable(None, "ghcr.io/you/samerun:latest")


@pytest.mark.parametrize(("answer", "said"), [(False, "does not serve"), (None, "did not respond")])
def test_a_registry_without_the_image_is_named(monkeypatch, answer, said):
    """And how to push there."""
    monkeypatch.setattr(registry, "ask", lambda *_: answer)

    with pytest.raises(NotPullable, match=f"ghcr.io .*{said}") as raised:
        check.pullable(None, IMAGE)

    assert "invoke push --registry ghcr.io/you/samerun" in str(raised.value)


def test_skypilots_own_catalog_is_the_list(tmp_path):
    """Where it is on this machine; the newest version of it."""
    for version, name in (("v8", "OLD"), ("v10", "NEW9000")):
        table = tmp_path / version / "common" / "accelerators.csv"
        table.parent.mkdir(parents=True)
        table.write_text(f"AcceleratorName,Clouds\n{name},x\n")

    assert check.known_accelerators("sky", tmp_path) == {"NEW9000"}
    assert "A100" in check.known_accelerators("sky", tmp_path / "none")


def test_an_unknown_accelerator_is_told_the_nearest():
    """Capitals and typing errors."""
    with pytest.raises(UnknownAccelerator, match=r"Nearest: .*\bA100\..*`sky gpus list`"):
        check.accelerator("a10O", check.COMMON)


def test_capitals_of_an_accelerator_do_not_matter():
    """The file has the engine's own spelling."""
    assert check.accelerator("h100", check.COMMON) == "H100"
    assert check.accelerator("", check.COMMON) == ""


@pytest.mark.parametrize(
    ("image", "error", "said"),
    [
        (f"samerun@sha256:{DIGEST}", NotPullable, "has no registry"),
        (f"ghcr.io/You/Kit@sha256:{DIGEST}", UsageError, "ghcr.io/you/kit@sha256"),
        ("ghcr.io/you/kit@sha256:abc", UsageError, "incomplete digest"),
    ],
)
def test_an_image_that_no_registry_has_is_refused_unasked(image, error, said):
    """With --no-check too: it could never be pulled."""
    with pytest.raises(error, match=said):
        check.reference(image)


def test_a_folder_that_skypilot_uploads_is_there_and_named_in_full(tmp_path, monkeypatch):
    """It would look for it from wherever the file is launched."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()

    assert write.uploaded("photos").name == str(tmp_path / "photos")
    with pytest.raises(DataError, match=f"--data nowhere: .*{tmp_path}/nowhere"):
        write.uploaded("nowhere")


def test_a_file_that_cannot_be_written_is_an_error_of_ours(tmp_path):
    """With its path, and no traceback."""
    with pytest.raises(OutputError, match=f"{tmp_path} can't be written: Is a directory"):
        write.write(asked("k8s"), str(tmp_path), None)


def test_without_the_engine_it_says_what_to_install(monkeypatch, tmp_path):
    """Nothing of the name on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(CloudEngineMissing, match="pip install 'skypilot"):
        check.engine("sky")


@pytest.mark.parametrize(
    ("program", "said", "code"),
    [
        ("sky", "No cloud is enabled. SkyPilot will not be able to run any task.", 1),
        ("sky", "No cloud is enabled.", 0),
        ("sky", "Enabled infra\n  No infra to check/enabled.", 0),
        ("kubectl", "no", 1),
        ("kubectl", "The connection to the server localhost:8080 was refused", 1),
        ("kubectl", "E1125 04:07:28.91 memcache.go:265] Unhandled\nThe connection", 1),
    ],
)
def test_without_access_it_says_what_the_engine_says(monkeypatch, tmp_path, program, said, code):
    """The engine's own words, and its own login."""
    command = tmp_path / program
    command.write_text(f"#!/bin/sh\necho '{said}'\nexit {code}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    with pytest.raises(NoCredentials, match=said.splitlines()[-1]) as raised:
        check.engine(program)

    assert "memcache" not in str(raised.value)


def test_an_enabled_cloud_is_access(monkeypatch, tmp_path):
    """Whatever is said of the others."""
    command = tmp_path / "sky"
    command.write_text("#!/bin/sh\necho '  Notes: none'; echo '  AWS [compute, storage]'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert check.engine("sky") is None


def test_skypilot_is_not_started_without_a_key(monkeypatch, tmp_path):
    """What to do is said before SkyPilot would refuse in words of its own."""
    command = tmp_path / "sky"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))

    with pytest.raises(KeyFileError, match="--offline"):
        write.launch(asked("sky"), tmp_path / "f.yaml", lambda _: None)


def test_a_registry_s_login_goes_along_by_name(monkeypatch, tmp_path):
    """Where it is in the environment."""
    monkeypatch.setenv("SAMERUN_REGISTRY_USER", "me")
    monkeypatch.setenv("SAMERUN_REGISTRY_PASSWORD", "not-a-password")

    line = write.command(asked("sky", offline=True), tmp_path / "f.yaml")

    assert line[5:-1] == ["--secret", sky.REGISTRY_LOGIN[0], "--secret", sky.REGISTRY_LOGIN[1]]


def test_launch_hands_the_file_over_and_the_key_by_name(monkeypatch, tmp_path):
    """The key is in the command's environment, never among its arguments."""
    command = tmp_path / "sky"
    command.write_text(
        f'#!/bin/sh\n[ "$1" = check ] && exit 0\necho "$@" >{tmp_path}/said\n'
        f'echo "$WANDB_API_KEY" >{tmp_path}/key\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)

    write.launch(asked("sky"), tmp_path / "f.yaml", lambda _: None)

    said = (tmp_path / "said").read_text()
    assert said.split() == [
        *("jobs", "launch", "--yes", "--detach-run", "--secret", "WANDB_API_KEY"),
        str(tmp_path / "f.yaml"),
    ]
    assert (tmp_path / "key").read_text().strip() == "k" * 40


def test_a_vm_is_launched_by_its_provider(tmp_path):
    """There is no engine to hand it to; the line for one provider is said."""
    with pytest.raises(UsageError, match="gcloud compute instances create"):
        write.launch(asked("vm"), tmp_path / "f", lambda _: None)
