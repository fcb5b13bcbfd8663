"""What a container sees of itself: GPUs, mounts, data; and what it must not guess."""

import dataclasses

import pytest

from samerun.core import content, contract, hardware, lifecycle
from samerun.core.errors import DataError
from samerun.core.placement import NodePlacement
from samerun.train.standalone import probe, record, supervise
from samerun.train.standalone.kubernetes import Answer
from samerun.train.standalone.supervise import End

GPU = hardware.Gpu(index=0, name="NVIDIA L4", driver="580.65.06", capability="8.9")
MODEL = "Model: \t\t NVIDIA L4\nIRQ:   \t\t 42\n"
VERSION = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release\n"


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """The driver's files of one GPU, and the container's devices, none yet."""
    (tmp_path / "gpus" / "0000:00:1e.0").mkdir(parents=True)
    (tmp_path / "gpus" / "0000:00:1e.0" / "information").write_text(MODEL)
    (tmp_path / "version").write_text(VERSION)
    devices = tmp_path / "dev"
    devices.mkdir()
    monkeypatch.setattr(probe, "DRIVER", tmp_path)
    monkeypatch.setattr(probe, "DEVICES", devices)
    monkeypatch.setattr(hardware, "probe", lambda: ())
    return devices


def test_gpus_are_named_as_the_host_names_them(driver, monkeypatch):
    """nvidia-smi is in the container where the capability `utility` is asked for."""
    (driver / "nvidia0").touch()
    monkeypatch.setattr(hardware, "probe", lambda: (GPU,))

    found, _ = probe.describe_hardware("", Answer())

    assert found.gpus == hardware.describe([GPU], "").gpus == ("NVIDIA L4 (8.9)",)
    assert found.driver == "580.65.06"


def test_without_nvidia_smi_the_driver_s_files_name_them(driver):
    """All but the capability, which torch tells later."""
    (driver / "nvidia0").touch()

    found, unknown = probe.describe_hardware("", Answer(node="gpu-a"))

    assert (found.gpus, found.driver, unknown) == (("NVIDIA L4",), "580.65.06", ())


def test_a_container_on_the_cpu_has_no_gpu_and_no_driver(driver):
    """The driver's files are seen in every container of the machine."""
    found, _ = probe.describe_hardware("", Answer())

    assert (found.gpus, found.driver) == ((), None)


def test_gpus_without_a_name_are_said_to_be_unknown(driver):
    """Two devices and one name: which is which?"""
    (driver / "nvidia0").touch()
    (driver / "nvidia1").touch()

    found, unknown = probe.describe_hardware("", Answer(node="a"))

    assert found.gpus == ()
    assert "GPUs' names" in unknown[0]
    assert probe.describe_topology(1, NodePlacement()).gpus == "2"


@pytest.mark.parametrize(
    ("own", "engine", "host"),
    [
        ("0f2a4c6e8b1d", "", ""),
        ("digits-x7k2p", "kubernetes", ""),
        ("gpu-a", "skypilot", "gpu-a"),
    ],
)
def test_a_container_s_own_name_is_not_the_machine_s(driver, monkeypatch, own, engine, host):
    """Random, or the pod's; on the machine's own network it is the machine's."""
    monkeypatch.setattr(probe.platform, "node", lambda: own)

    found, unknown = probe.describe_hardware(engine, Answer())

    assert found.host == host
    assert ("the name of the machine" in unknown) == (not host)


def test_a_script_on_a_mount_is_in_no_image(monkeypatch):
    """Wherever it is mounted; what is under no mount is the image's."""
    monkeypatch.setattr(probe.os.path, "ismount", lambda path: str(path) in {"/output", "/"})

    mounted, unknown = probe.describe_code("/output/train.py", "")
    code, known = probe.describe_code("/code/train.py", "c" * 40)

    assert (mounted.where, code.where) == ("mounted", "image")
    assert any("it is not in the image" in sentence for sentence in unknown)
    assert known == ()


def test_a_commit_says_whether_the_checkout_had_changes():
    """As `git describe --dirty` would."""
    clean, _ = probe.describe_code("digits", "c" * 40)
    dirty, _ = probe.describe_code("digits", "c" * 40 + "-dirty")
    none, unknown = probe.describe_code("digits", "")

    assert (clean.git_commit, clean.git_dirty) == ("c" * 40, False)
    assert (dirty.git_commit, dirty.git_dirty) == ("c" * 40, True)
    assert (none.git_commit, none.git_dirty, unknown) == (
        None,
        None,
        ("the commit of the checkout",),
    )


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder in the place of /data."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.csv").write_text("a")
    monkeypatch.setattr(contract, "DATA", str(folder))
    return folder


def test_data_are_read_unless_switched_off(data):
    """Then it is known that there were some, and said that nobody looked."""
    ((told,), unknown) = probe.describe_data({"SAMERUN_DATA_SOURCE": "s3://photos"})
    ((off,), sentences) = probe.describe_data({"SAMERUN_FINGERPRINT": "0"})

    assert told.fingerprint.startswith("sha256:")
    assert (told.source, told.files, unknown) == ("s3://photos", 1, ())
    assert (off.fingerprint, off.files) == (None, None)
    assert any("turned off with SAMERUN_FINGERPRINT=0" in sentence for sentence in sentences)


def test_a_file_that_can_not_be_read_does_not_end_the_run(data, monkeypatch):
    """The training may never touch it; the record says which it is."""

    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(probe.content, "hash_file", refused)
    ((found,), unknown) = probe.describe_data({})

    assert found.fingerprint is None
    assert any("a.csv" in sentence for sentence in unknown)


def test_other_data_are_not_gone_on_with(run):
    """A record that began with one content does not end with another."""
    was = dataclasses.replace(run, written_by="container")
    entry = dataclasses.replace(run.data[0], fingerprint="sha256:2")
    unseen = dataclasses.replace(run.data[0], fingerprint=None)

    with pytest.raises(record.DataError, match=r"sha256:1.*sha256:2"):
        record._again(was, dataclasses.replace(run, data=(entry,)))
    kept = record._again(was, dataclasses.replace(run, data=(unseen,)))

    assert kept.data == run.data


GONE = "the data vanished: /data"


@pytest.mark.parametrize(
    ("mounted", "found"),
    [
        ((), [""]),
        (("",), [""]),
        (("photos", "labels"), ["labels", "photos"]),
        (("", "photos"), [""]),
    ],
)
def test_each_mount_in_data_is_data_of_its_own(tmp_path, monkeypatch, mounted, found):
    """As with `train --data NAME=FOLDER`; a mount at /data itself is one, whatever is in it."""
    for name in ("photos", "labels", "plain"):
        (tmp_path / name).mkdir()
    mounts = {str(tmp_path / name) for name in mounted}
    monkeypatch.setattr(probe.os.path, "ismount", lambda path: str(path) in mounts)
    monkeypatch.setattr(contract, "DATA", str(tmp_path))

    assert probe.data_folders() == [tmp_path / name for name in found]


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("s3://photos", {"/data": "s3://photos"}),
        ("/my photos/a=b", {"/data": "/my photos/a=b"}),
        ("it's", {"/data": "it's"}),
        ("", {}),
        (
            "photos=s3://p labels='/a b'",
            {"/data/photos": "s3://p", "/data/labels": "/a b"},
        ),
    ],
)
def test_where_data_is_from_is_told_for_each(text, sources):
    """As `invoke cloud` writes it, and for one as a user types it."""
    assert probe._sources(text) == sources


def test_pointers_of_git_lfs_are_no_data(tmp_path):
    """A training would read three lines of text for each picture."""
    (tmp_path / "p.jpg").write_bytes(content.POINTER + b"oid sha256:1\nsize 2\n" + b" " * 40)

    with pytest.raises(DataError, match="Git LFS"):
        probe.read_data(tmp_path, "")


@pytest.mark.parametrize(
    ("end", "state", "reason"),
    [
        (End(duration_s=1, code=137, signal=None, out_of_memory=True), "killed", "out of memory"),
        (End(duration_s=1, code=137, signal=None, out_of_memory=False), "killed", "SIGKILL"),
        (End(duration_s=1, code=75, signal="SIGINT", out_of_memory=False), "preempted", "SIGINT"),
        (End(duration_s=1, code=0, signal=None, out_of_memory=True), "finished", None),
        (
            End(duration_s=1, code=1, signal=None, out_of_memory=False),
            "failed",
            "the data vanished: /data",
        ),
    ],
)
def test_how_it_ended_is_told_as_the_host_would(run, tmp_path, monkeypatch, end, state, reason):
    """A worker that the kernel stopped, a signal, data that are not there any more."""
    monkeypatch.setattr(probe, "has_data", lambda: False)

    outcome = lifecycle.close(run, record.ending_of(run, end, tmp_path)).outcome

    assert (outcome.state, outcome.reason) == (state, reason)


def test_memory_kills_are_counted_in_both_kinds_of_cgroup(tmp_path, monkeypatch):
    """The kernel's own numbers, and none where they are hidden."""
    for text in ("low 0\noom 3\noom_kill 2\n", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"):
        (tmp_path / "counter").write_text(text)
        monkeypatch.setattr(supervise, "COUNTERS", (tmp_path / "no", tmp_path / "counter"))
        assert supervise.out_of_memory_kills() == 2
    monkeypatch.setattr(supervise, "COUNTERS", ())

    assert supervise.out_of_memory_kills() == 0
