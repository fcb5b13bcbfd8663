import json

import pytest

from samerun import contract, record
from samerun.errors import RecordError


def test_record_survives_json(run):
    """Reading what was written gives the same record, nested parts and tuples included."""
    assert run == record.from_json(record.to_json(run))


def test_unknown_fields_of_a_record_are_ignored(run):
    """A later version of the same schema may add fields."""
    raw = json.loads(record.to_json(run))
    raw["colour"] = raw["image"]["colour"] = "red"

    assert run == record.from_json(json.dumps(raw))


def test_newer_schema_is_refused(run):
    """A record that we could misread is not read."""
    raw = json.loads(record.to_json(run)) | {"schema": record.SCHEMA + 1}

    with pytest.raises(RecordError, match="schema 2"):
        record.from_json(json.dumps(raw))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}'])
def test_damaged_record_is_one_clear_error(text):
    """Whatever is wrong with the file, the error is ours."""
    with pytest.raises(RecordError):
        record.from_json(text)


def test_parts_are_assembled_into_the_record(tmp_path, running):
    """What the container reported stands in its place in the record."""
    record.report(tmp_path, "environment", {"torch": "2"})
    record.report(tmp_path, "result", {"metrics": {"accuracy": 1.0}})
    record.report(tmp_path, "first_batch", {"seconds": 2.5})
    record.report(tmp_path, "wandb-b", {"id": "b"})
    record.report(tmp_path, "wandb-a", {"id": "a"})

    whole = record.assemble(tmp_path, running)

    assert whole.environment == {"torch": "2"}
    assert whole.result == {"metrics": {"accuracy": 1.0}}
    assert whole.outcome.first_batch_s == 2.5
    assert [entry["id"] for entry in whole.wandb] == ["a", "b"]


def test_torn_part_counts_as_absent(tmp_path, running):
    """A container killed while it reported does not cost the rest of the record."""
    record.report(tmp_path, "environment", {"torch": "2"})
    (tmp_path / contract.PARTS / "result.json").write_text('{"metrics": ')

    whole = record.assemble(tmp_path, running)

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
