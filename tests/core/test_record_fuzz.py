"""Records with damage at any place: read as they are, or one clear error."""

import contextlib
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samerun.core import parts, record
from samerun.core.errors import RecordError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
SHARED = settings(
    deadline=None,
    max_examples=150,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def places(value, path=()):
    """Every place of a JSON value, as the keys that lead there."""
    yield path
    pairs = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in pairs:
        yield from places(inner, (*path, key))


def put(value, path, new):
    """Return *value* with *new* at *path*."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = put(copy[path[0]], path[1:], new)
    return copy


@SHARED
@given(data=st.data(), new=JSON, schema=st.sampled_from([1, 2]))
def test_a_value_anywhere_is_read_or_refused(run, data, new, schema):
    """Nothing but our own error comes out, and what is read can be written again."""
    raw = json.loads(record.to_json(run)) | {"schema": schema}
    path = data.draw(st.sampled_from(list(places(raw))))

    with contextlib.suppress(RecordError):
        read = record.from_json(json.dumps(put(raw, path, new)))
        assert record.from_json(record.to_json(read)) == read


@SHARED
@given(text=st.text() | st.binary().map(lambda b: b.decode("latin-1")))
def test_any_text_is_refused_in_one_way(text):
    """Whatever it is."""
    with contextlib.suppress(RecordError):
        record.from_json(text)


@SHARED
@given(
    name=st.sampled_from(
        [
            "environment",
            "result",
            "config",
            "nodes",
            "rounds",
            "starts",
            "first_batch",
            "wandb-a",
            "failure-0",
            "checkpoints",
        ]
    ),
    value=JSON,
)
def test_any_part_is_assembled_or_left_out(running, tmp_path, name, value):
    """The host assembles what a container reported, whatever it is, into a record that is read."""
    parts.report(tmp_path, name, value)

    whole = parts.assemble(tmp_path, running)

    with contextlib.suppress(RecordError):
        record.from_json(record.to_json(whole))
