"""What `invoke load` is given: one clear error, whatever is in it, before the engine reads it."""

import io
import json
import os
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samerun.core.errors import TransferFailed
from samerun.host.image import archive

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
IDENTITY = {"reference": "samerun:x", "digest": "a" * 64, "layers_digest": "b" * 64}


def packed(path, members, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@settings(
    deadline=None,
    max_examples=100,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    identity=st.just(IDENTITY) | JSON,
    manifest=JSON | st.lists(st.fixed_dictionaries({"RepoTags": JSON, "Config": JSON}), max_size=2),
    index=JSON | st.fixed_dictionaries({"manifests": st.lists(JSON, max_size=2)}),
)
def test_any_description_of_an_image_is_refused_in_one_way(tmp_path, identity, manifest, index):
    """The members of an archive are what somebody sent."""
    members = {"manifest.json": manifest, "index.json": index, "samerun.json": identity}
    content = {name: json.dumps(value).encode() for name, value in members.items()}

    with pytest.raises(TransferFailed):
        archive.check_archive(packed(tmp_path / "a.tar", content))


@pytest.mark.parametrize("content", [b"[" * 60_000, b"\xff", b"", b"5"])
def test_what_is_no_description_is_refused(tmp_path, content):
    """Without a bottom, not UTF-8, empty, of another shape."""
    with pytest.raises(TransferFailed):
        archive.check_archive(packed(tmp_path / "a.tar", {"samerun.json": content}))


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2"])
def test_damage_in_a_compressed_archive_is_an_error_of_the_file(tmp_path, mode):
    """The decompressors have exceptions of their own."""
    file = packed(tmp_path / "a.tar", {"x": os.urandom(50_000), "samerun.json": b"{}"}, mode)
    raw = bytearray(file.read_bytes())
    raw[25_000:25_040] = bytes(40)
    file.write_bytes(raw)

    with pytest.raises(TransferFailed):
        archive.check_archive(file)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    """Opening it would block until somebody writes."""
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(TransferFailed, match="not a plain file"):
        archive.check_archive(tmp_path / "pipe")
