"""The scripts of a VM, and its buckets, as shell and systemd read them."""

import subprocess

import pytest
from asking import IMAGE, arguments_on_the_vm, asked, rendered

from samerun.core.errors import UsageError
from samerun.host.checkout import git
from samerun.host.cloud import buckets, request, vm
from samerun.host.cloud.request import Location


def test_a_vm_goes_on_where_its_run_is_there_already(tmp_path):
    """First `--name`, and once the record is there `--resume`: a power cut is a start."""
    place = Location(kind="path", name=str(tmp_path))
    script = vm.train(asked("vm", output=place))

    first = arguments_on_the_vm(script)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "run.json").touch()
    second = arguments_on_the_vm(script)

    (tmp_path / "demo" / "run.json").write_text('{"outcome": {\n "state": "finished"}}')
    third = arguments_on_the_vm(script)

    assert third == []
    assert first[:4] == ["train", "digits", "--name", "demo"]
    assert IMAGE in first
    assert second[:3] == ["train", "--resume", "demo"]


def test_a_key_is_asked_of_the_cloud_at_each_start():
    """Into memory, readable by root alone, before the run begins."""
    fetched = asked("vm", key_command="gcloud secrets versions access latest --secret=wandb")

    script = vm.train(fetched)

    assert "(umask 077; gcloud" in script
    assert "--secret=wandb >/run/samerun/wandb-key)" in script
    assert "RuntimeDirectoryMode=0700" in vm.unit(fetched)


def test_docker_is_logged_in_before_the_image_is_pulled():
    """As the user that the training runs as too, and after there is an engine."""
    lines = vm.prepare(asked("vm", login_command="token | docker login host")).splitlines()
    at = lines.index("token | docker login host")

    assert lines[at - 1].endswith("/invoke setup")
    assert lines[at + 1].endswith(f"/invoke pull {IMAGE}")
    assert lines.index("export HOME=/root") < at


def test_a_machine_may_say_which_s3_it_is():
    """Its own file comes after ours, and no option in a remote's name wins over both."""
    place = Location(kind="s3", name="runs", path="my runs")
    unit = vm.unit(asked("vm", output=place)).splitlines()
    text = rendered("vm", data=(place,), output=place)

    assert unit.index('Environment="RCLONE_S3_PROVIDER=AWS"') < unit.index(
        f"EnvironmentFile=-{buckets.ACCESS}"
    )
    assert "':s3:runs/my runs/demo'" in text
    assert ":s3," not in text


def test_without_buckets_a_vm_knows_nothing_of_them():
    """Neither the program nor units."""
    assert "rclone" not in rendered("vm")
    assert "samerun-upload" not in rendered("vm")


def test_checkpoints_are_noted_first_and_sent_last(tmp_path):
    """Whatever else is in the bucket reaches at least as far as the checkpoints there."""
    folder = tmp_path / "demo"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "old.pt").touch()
    script = buckets.upload(asked("vm", output=Location(kind="s3", name="runs")), str(folder), "u")
    # Training goes on meanwhile: a checkpoint comes after the first rclone has begun.
    stub = f"""
    flock() {{ :; }}
    systemctl() {{ echo "systemctl $*" >&2; echo inactive; }}
    rclone() {{
        echo "$1 $(ls {folder}.snapshot | tr '\n' ' ')"
        touch {folder}/checkpoints/new.pt
    }}
    """
    script = script.replace("/run/samerun-upload.lock", str(tmp_path / "lock"))
    done = subprocess.run(["sh", "-c", stub + script], capture_output=True, text=True, check=True)

    assert [line.strip() for line in done.stdout.splitlines()[:2]] == ["copy old.pt", "sync old.pt"]
    assert f"systemctl stop --no-block {buckets.TIMER}" in done.stderr
    assert not (tmp_path / "demo.snapshot").exists()


@pytest.mark.parametrize(
    ("rclone", "code", "fetched"),
    [
        ("mkdir $7; touch $7/run.json", 0, True),
        ("mkdir $7; touch $7/run.json; return 5", 5, False),
        ("mkdir $7; touch $7/log.txt", 0, False),
        ("true", 0, False),
    ],
    ids=["whole", "broken off", "without a record", "nothing there"],
)
def test_a_run_is_fetched_whole_or_not_at_all(tmp_path, rclone, code, fetched):
    """Half a folder would be taken for the run; where there is none yet, the run begins."""
    folder = tmp_path / "demo"
    lines = buckets.fetch_run(asked("vm", output=Location(kind="s3", name="runs")), str(folder))
    script = "\n".join(["set -eu", "chown() { :; }", f"rclone() {{ {rclone}; }}", *lines])

    done = subprocess.run(["sh", "-c", script], check=False)

    assert (done.returncode, (folder / "run.json").is_file()) == (code, fetched)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://host/kit.git", "https://host/kit.git"),
        ("https://me:password@host/kit.git", None),
    ],
)
def test_a_checkout_s_origin_is_told_without_a_password(tmp_path, url, found):
    """It would stand in the user data, which the whole machine can read."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", url], check=True)

    assert git.origin(tmp_path) == found


def test_a_vm_always_takes_the_fingerprint():
    """It runs `invoke train`; a switch without effect would be a lie."""
    with pytest.raises(UsageError, match="no-fingerprint"):
        request.check_cloud_request(asked("vm", fingerprint=False))
