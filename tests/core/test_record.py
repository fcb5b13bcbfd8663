import dataclasses
import json
import os

import pytest

from samerun.core import contract, files, parts, record
from samerun.core.errors import RecordError


def test_record_survives_json(run):
    """Reading what was written gives the same record, nested parts and tuples included."""
    assert run == record.from_json(record.to_json(run))


def test_unknown_fields_of_a_record_are_ignored(run):
    """A later version of the same schema may add fields."""
    raw = json.loads(record.to_json(run))
    raw["color"] = raw["image"]["color"] = "red"

    assert run == record.from_json(json.dumps(raw))


def test_newer_schema_is_refused(run):
    """A record that we could misread is not read."""
    raw = json.loads(record.to_json(run)) | {"schema": record.SCHEMA + 1}

    with pytest.raises(RecordError, match=f"schema {record.SCHEMA + 1}"):
        record.from_json(json.dumps(raw))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}'])
def test_damaged_record_is_one_clear_error(text):
    """Whatever is wrong with the file, the error is ours."""
    with pytest.raises(RecordError):
        record.from_json(text)


def test_parts_are_assembled_into_the_record(tmp_path, running):
    """What the container reported stands in its place in the record."""
    parts.report(tmp_path, "environment", {"torch": "2"})
    parts.report(tmp_path, "result", {"metrics": {"accuracy": 1.0}})
    parts.report(tmp_path, "first_batch", {"seconds": 2.5})
    for name in ("b", "a"):
        entry = {"id": name, "mode": "offline", "dir": "wandb/x", "url": None}
        parts.report(tmp_path, f"wandb-{name}", entry)

    whole = parts.assemble(tmp_path, running)

    assert whole.environment == {"torch": "2"}
    assert whole.result == {"metrics": {"accuracy": 1.0}}
    assert whole.outcome.first_batch_s == 2.5
    assert [entry.id for entry in whole.wandb] == ["a", "b"]


def test_torn_part_counts_as_absent(tmp_path, running):
    """A container killed while it reported does not cost the rest of the record."""
    parts.report(tmp_path, "environment", {"torch": "2"})
    (tmp_path / contract.PARTS / "result.json").write_text('{"metrics": ')

    whole = parts.assemble(tmp_path, running)

    assert whole.result == {}
    assert whole.environment == {"torch": "2"}


def test_writing_leaves_no_other_file(tmp_path, run):
    """The temporary name is gone once the record is there."""
    record.write(tmp_path, run)

    assert [path.name for path in tmp_path.iterdir()] == [contract.RECORD]
    assert run == record.read(tmp_path)


def test_missing_record_is_named(tmp_path):
    """The error says where the record was looked for."""
    with pytest.raises(RecordError, match=str(tmp_path)):
        record.read(tmp_path)


def lay(tmp_path, name, text="{}"):
    """Put a part where the container would."""
    (tmp_path / contract.PARTS).mkdir(exist_ok=True)
    path = tmp_path / contract.PARTS / name
    path.write_text(text)
    return path


def test_links_in_the_parts_are_not_followed(tmp_path, running):
    """A container could point one at any file of the user's."""
    secret = tmp_path / "secret.json"
    secret.write_text('{"secret": 1}')
    lay(tmp_path, "config.json").unlink()
    (tmp_path / contract.PARTS / "config.json").symlink_to(secret)

    assert parts.assemble(tmp_path, running).config == {}


def test_link_in_place_of_the_folder_of_parts_is_not_followed(tmp_path, running):
    """Neither is the folder itself."""
    lay(tmp_path / "..", "config.json", '{"secret": 1}')
    (tmp_path / contract.PARTS).symlink_to(tmp_path.parent / contract.PARTS)

    assert parts.assemble(tmp_path, running).config == {}


def test_pipe_among_the_parts_does_not_hang_the_host(tmp_path, running):
    """Opened plainly it would wait for a writer for ever."""
    lay(tmp_path, "result.json").unlink()
    os.mkfifo(tmp_path / contract.PARTS / "result.json")

    assert parts.assemble(tmp_path, running).result == {}


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000])
def test_bottomless_json_counts_as_absent(tmp_path, running, text):
    """Python gives up on it; the record does not."""
    lay(tmp_path, "environment.json", text)

    assert parts.assemble(tmp_path, running).environment == {}


def test_part_without_end_counts_as_absent(tmp_path, running, monkeypatch):
    """It would fill the host's memory."""
    monkeypatch.setattr(files, "LARGEST_PART", 10)
    lay(tmp_path, "environment.json", json.dumps({"torch": "2" * 10}))

    assert parts.assemble(tmp_path, running).environment == {}


def test_garbage_about_a_wandb_run_is_left_out(tmp_path, running):
    """The host's own lines need its ID, mode and folder."""
    lay(tmp_path, "wandb-a.json", '{"id": 1}')

    assert parts.assemble(tmp_path, running).wandb == ()


def test_record_is_not_written_through_a_link(tmp_path, run):
    """A link that a container laid in its place is replaced, what it points at is not."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / contract.RECORD).symlink_to(victim)
    for pid in range(os.getpid() - 5, os.getpid() + 5):
        (tmp_path / f".{contract.RECORD}.{pid}").symlink_to(victim)

    record.write(tmp_path, run)

    assert victim.read_text() == "untouched"
    assert run == record.read(tmp_path)
    assert not (tmp_path / contract.RECORD).is_symlink()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "../up"),
        ("name", ""),
        ("name", 5),
        ("seed", "abc"),
        ("seed", True),
        ("seed", -1),
        ("seed", 1.5),
        ("command", "digits"),
        ("command", [1]),
        ("image", None),
        ("image", []),
        ("image.digest", "a" * 63),
        ("image.store", "purple"),
        ("image.packages", {"torch": 2}),
        ("topology.procs", ["x"]),
        ("topology.procs", 0),
        ("topology.node_rank", -1),
        ("data", [{}]),
        ("data", {"source": "/"}),
        ("hardware", "x"),
        ("hardware.cores", None),
        ("outcome.state", "purple"),
        ("outcome.created", "2026-01-01T00:00:00"),
        ("outcome.created", "yesterday"),
        ("outcome.exit_code", 256),
        ("outcome.duration_s", float("nan")),
        ("wandb", [{"id": 1}]),
        ("rounds", [{"nodes": "01"}]),
        ("launch", {"target": "digits", "mounts": [{"source": "/"}]}),
        ("environment", []),
        ("schema", 0),
        ("schema", True),
        ("schema", 1.5),
        ("schema", "2"),
        ("schema", None),
    ],
)
def test_a_value_of_another_type_or_range_is_refused_by_name(run, path, value):
    """A hostile container may have written the record; each value is checked when it is read."""
    raw = json.loads(record.to_json(run))
    *parents, last = path.split(".")
    inner = raw
    for name in parents:
        inner = inner[name]
    inner[last] = value

    with pytest.raises(RecordError, match=last):
        record.from_json(json.dumps(raw))


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        "\ufeff{}".encode(),
        "{}".encode("utf-16"),
        b"[" * 200_000,
        b'{"schema": 2, "name": ' + b"[" * 200_000,
        b"",
    ],
)
def test_any_bytes_as_a_record_are_one_clear_error(tmp_path, content):
    """Not UTF-8, another encoding, nested without end, empty."""
    (tmp_path / contract.RECORD).write_bytes(content)

    with pytest.raises(RecordError):
        record.read(tmp_path)


def test_what_is_no_plain_file_is_no_record(tmp_path):
    """A pipe would hang its reader, a link lead anywhere, a file of 20 GB fill the memory."""
    path = tmp_path / contract.RECORD
    os.mkfifo(path)
    with pytest.raises(RecordError):
        record.read(tmp_path)
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(RecordError):
        record.read(tmp_path)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(20 * 2**30)
    with pytest.raises(RecordError, match="large"):
        record.read(tmp_path)


@pytest.mark.parametrize("target", ["/etc", "/data/..", "/data/a/b", "/output", "data"])
def test_data_of_a_record_lie_at_data_only(run, target):
    """A later start mounts there; a hostile container may have written the record."""
    entry = dataclasses.replace(run.data[0], target=target)
    text = record.to_json(dataclasses.replace(run, data=(entry,)))

    with pytest.raises(RecordError, match=r"data\[0\]\.target"):
        record.from_json(text)


def test_only_a_record_with_named_data_needs_the_new_schema(run):
    """Images of earlier versions read all others, and are run again with today's host."""
    named = dataclasses.replace(run.data[0], target="/data/photos")
    several = dataclasses.replace(run, data=(named,))

    assert json.loads(record.to_json(run))["schema"] == 2
    assert json.loads(record.to_json(several))["schema"] == record.SCHEMA == 3
    assert record.from_json(record.to_json(several)) == several


def test_fingerprints_of_several_folders_are_one_text_in_any_order(run):
    """With the names, so that two folders that are swapped are other data."""
    a, b = (
        dataclasses.replace(run.data[0], target=f"/data/{name}", fingerprint=f"sha256:{name}")
        for name in "ab"
    )
    swapped = dataclasses.replace(a, target="/data/b"), dataclasses.replace(b, target="/data/a")

    assert record.fingerprints((a, b)) == record.fingerprints((b, a)) == "a sha256:a, b sha256:b"
    assert record.fingerprints(swapped) != record.fingerprints((a, b))
    assert record.fingerprints(run.data) == "sha256:1"
    assert record.fingerprints((a, dataclasses.replace(b, fingerprint=None))) is None
