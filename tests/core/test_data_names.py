"""Names of data: `--data photos=FOLDER`."""

import pytest

from samerun.core import data_names
from samerun.core.errors import UsageError


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("photos", ("", "photos")),
        ("/mnt/a=b", ("", "/mnt/a=b")),
        ("./a=b", ("", "./a=b")),
        ("~/a=b", ("", "~/a=b")),
        ("s3://bucket/x=1", ("", "s3://bucket/x=1")),
        ("photos=/mnt/a=b", ("photos", "/mnt/a=b")),
        ("v1.2_x-y=s3://bucket", ("v1.2_x-y", "s3://bucket")),
    ],
)
def test_what_is_before_the_first_equals_sign_is_the_name(text, pair):
    """Unless it is a path; and `shown` gives back what was typed."""
    assert data_names.split(text) == pair
    assert data_names.split(data_names.shown(*pair)) == pair


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["=x"], "''"),
        (["a b=x"], "'a b'"),
        (["..=x"], r"'\.\.'"),
        ([f"{'n' * 65}=x"], "nnn"),
        (["photos="], "no folder"),
        (["a=x", "a=y"], "'a' is given to two"),
        (["x", "y"], "has no name"),
        (["x", "a=y"], "has no name"),
    ],
)
def test_names_that_would_have_one_place_or_none_are_refused(texts, words):
    """Before anything is read."""
    with pytest.raises(UsageError, match=words):
        data_names.parse(texts)


def test_data_lie_at_data_or_below_it():
    """The record may hold no other place: a later start mounts there."""
    assert (data_names.target(""), data_names.target("a.b")) == ("/data", "/data/a.b")
    for target in ("/data", "/data/a.b"):
        assert data_names.TARGET.fullmatch(target)
    for target in ("/etc", "/data/", "/data/..", "/data/a/b", "/database", ""):
        assert not data_names.TARGET.fullmatch(target)
