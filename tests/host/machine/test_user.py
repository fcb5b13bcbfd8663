import os

import pytest

from samerun.host.machine import user


@pytest.fixture
def root(monkeypatch):
    """The caller is root."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_run_is_its_callers(monkeypatch):
    """Whoever is not root is oneself in the container too."""
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(os, "getegid", lambda: 5678)

    assert user.of_container({"SUDO_UID": "1"}) == (1234, 5678)


def test_run_is_never_roots(root):
    """Behind sudo it is the person's who called it, else nobody's."""
    assert user.of_container({"SUDO_UID": "1000", "SUDO_GID": "1001"}) == (1000, 1001)
    assert user.of_container({"SUDO_UID": "0", "SUDO_GID": "0"}) == (65532, 65532)
    assert user.of_container({"SUDO_UID": "1000", "SUDO_GID": "0"}) == (1000, 1000)
    assert user.of_container({}) == (65532, 65532)


@pytest.mark.parametrize("text", ["", "-1", "x", "1000 0", "٣"])
def test_odd_number_of_sudo_is_nobody(root, text):
    """Only a plain positive number counts."""
    assert user.of_container({"SUDO_UID": text}) == (65532, 65532)


def test_set_uid_bits_are_taken_off(tmp_path):
    """Of files at any depth; other bits, and what links point at, stay."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "sh").touch()
    (tmp_path / "deep" / "sh").chmod(0o6755)
    outside = tmp_path.parent / "outside"
    outside.touch()
    outside.chmod(0o4711)
    (tmp_path / "link").symlink_to(outside)

    user.disarm(tmp_path)

    assert (tmp_path / "deep" / "sh").stat().st_mode & 0o7777 == 0o755
    assert outside.stat().st_mode & 0o7777 == 0o4711
