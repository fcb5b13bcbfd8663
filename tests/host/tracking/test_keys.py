import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from samerun.core.errors import KeyFileError, UsageError
from samerun.host.tracking import keys, server

KEY = "0123456789" * 4


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No key anywhere."""
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def test_no_key_is_none():
    """A run without a key is recorded offline."""
    assert keys.find() is None


def test_file_wins_over_environment_and_netrc(monkeypatch, tmp_path):
    """The most explicit source is taken."""
    monkeypatch.setenv("WANDB_API_KEY", "e" * 40)
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {'n' * 40}\n")
    (tmp_path / "key").write_text(KEY + "\n")

    assert keys.find(tmp_path / "key").value == KEY
    assert keys.find().value == "e" * 40
    monkeypatch.delenv("WANDB_API_KEY")
    assert keys.find().value == "n" * 40


def test_netrc_entry_of_the_server_in_use(monkeypatch, tmp_path):
    """A key for another server is not sent to this one."""
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.com/x")

    assert keys.find() is None


@pytest.mark.parametrize("content", ["", "two words", None])
def test_bad_key_file_is_an_error_without_its_content(tmp_path, content):
    """The message names the file, never what is in it."""
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content)

    with pytest.raises(KeyFileError) as caught:
        keys.find(path)
    assert "two words" not in str(caught.value)


def test_lent_key_is_private_and_gone_afterwards():
    """One netrc file, mode 0400, on tmpfs where there is one."""
    key = keys.Key(value=KEY, source="test")

    with keys.lent(key, os.getuid(), os.getgid()) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o400
        assert KEY in path.read_text()
        assert path.is_relative_to(keys.TMPFS) or not os.access(keys.TMPFS, os.W_OK)
    assert not path.exists()


LENDER = f"""
import os, signal
from samerun.host.container import foreground
from samerun.host.tracking import keys
with foreground.interruptible():
    with keys.lent(keys.Key(value="{KEY}", source="test"), os.getuid(), os.getgid()) as path:
        print(path, flush=True)
        signal.pause()
"""


@pytest.fixture
def lend():
    """Start commands that lend a key and wait; return them and the paths of their keys."""
    commands = []

    def start():
        commands.append(
            subprocess.Popen([sys.executable, "-c", LENDER], stdout=subprocess.PIPE, text=True)
        )
        return commands[-1], Path(commands[-1].stdout.readline().strip())

    yield start
    for command in commands:
        command.kill()
        command.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_lent_key_is_gone_after_a_signal(lend, number):
    """`timeout`, a closed terminal and Ctrl-C leave no key behind."""
    command, path = lend()
    assert path.exists()

    command.send_signal(number)

    assert command.wait(10) != 0
    assert not path.parent.exists()


def test_key_of_a_killed_command_is_removed_by_the_next(lend):
    """After SIGKILL the kernel frees its lock; the keys of living commands stay."""
    (killed, left), (_, held), (gone, mounted) = lend(), lend(), lend()
    for command in (killed, gone):
        command.kill()
        command.wait()
    assert left.exists()

    keys.remove_leftovers({mounted})

    assert not left.parent.exists()
    assert held.exists()
    assert mounted.exists(), "a container still uses it"
    keys.remove_leftovers(set())
    assert not mounted.parent.exists()


def test_other_folders_are_no_leftovers():
    """Only a folder with nothing but a key file is one."""
    other = keys._parent() / f"samerun-other-{os.getpid()}"
    other.mkdir()
    (other / "data").touch()

    keys.remove_leftovers(set())

    (other / "data").unlink()
    other.rmdir()


def test_key_is_not_in_its_repr():
    """A traceback that shows it shows nothing."""
    assert KEY not in repr(keys.Key(value=KEY, source="test"))


def test_server_with_a_port_is_named_with_it(monkeypatch):
    """As wandb itself writes and reads its netrc entries."""
    monkeypatch.setenv("WANDB_BASE_URL", "http://localhost:8080")

    assert server.host() == "localhost:8080"


def test_key_is_starred_out_of_logs(tmp_path):
    """As often as it is there, at any depth; the length stays, other files too."""
    (tmp_path / "wandb" / "logs").mkdir(parents=True)
    log = tmp_path / "wandb" / "logs" / "debug-internal.log"
    log.write_text(f"a {KEY} b {KEY}{KEY}")
    (tmp_path / "log.txt").write_text(KEY)
    (tmp_path / "empty.log").touch()
    (tmp_path / "model.bin").write_text(KEY)

    keys.redact(tmp_path, keys.Key(value=KEY, source="test"))

    stars = "*" * len(KEY)
    assert log.read_text() == f"a {stars} b {stars}{stars}"
    assert (tmp_path / "log.txt").read_text() == stars
    assert (tmp_path / "model.bin").read_text() == KEY


def test_starring_out_follows_no_link(tmp_path):
    """A run could lay one to a file of the user's."""
    victim = tmp_path / "victim"
    victim.write_text(KEY)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x.log").symlink_to(victim)
    os.mkfifo(tmp_path / "run" / "y.log")

    keys.redact(tmp_path / "run", keys.Key(value=KEY, source="test"))

    assert victim.read_text() == KEY


@pytest.mark.parametrize("value", ["", "  ", None])
def test_an_empty_server_is_wandbs_own(monkeypatch, value):
    """Exported and empty is not an address: the netrc key would not be found."""
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    if value is not None:
        monkeypatch.setenv("WANDB_BASE_URL", value)

    assert server.base_url() == "https://api.wandb.ai"
    assert server.host() == "api.wandb.ai"


def test_a_path_is_no_part_of_the_servers_name():
    """netrc knows host and port alone."""
    assert server.host({"WANDB_BASE_URL": "https://me@wandb.example:8080/wandb/"}) == (
        "wandb.example:8080"
    )


def test_what_is_no_address_is_refused():
    """Before anything is asked of it."""
    with pytest.raises(UsageError, match="WANDB_BASE_URL"):
        server.base_url({"WANDB_BASE_URL": "localhost:8080"})


@pytest.mark.parametrize(
    ("url", "network", "is_hinted"),
    [
        ("http://127.0.0.1:8080", "samerun", True),
        ("http://localhost:8080", None, True),
        ("http://[::1]:8080", "bridge", True),
        ("http://127.0.0.1:8080", "host", False),
        ("https://wandb.example.com", "samerun", False),
        ("http://10.0.0.4", "samerun", False),
        ("", "samerun", False),
    ],
)
def test_a_loopback_address_is_reached_only_from_the_hosts_network(url, network, is_hinted):
    """In any other network it is the container itself."""
    text = server.unreachable(network, {"WANDB_BASE_URL": url})

    assert ("--network host" in text) == is_hinted
