"""`invoke sync` asks a container whether it reaches W&B before wandb tries for ever."""

import http.server
import os
import socket
import subprocess
import sys
import threading

import pytest

from samerun.core import contract
from samerun.host.machine import network
from samerun.host.run import sync


@pytest.fixture
def url():
    """A server that answers everything with 404."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Silent(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)

    def log_message(self, *_):
        pass


def probe(url):
    # Also where this machine has a proxy.
    kept = {name: value for name, value in os.environ.items() if name not in contract.PROXIES}
    command = [sys.executable, "-c", sync.PROBE, url]
    done = subprocess.run(command, env=kept, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.strip()


def test_a_server_that_answers_anything_is_reached(url):
    """Also one that has another protocol than the address says."""
    assert probe(url) == (0, "")
    assert probe(url.replace("http:", "https:"))[0] == 0


def test_a_server_that_does_not_answer_is_named_with_the_reason():
    """As in a network that has no way to it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        code, reason = probe(f"http://127.0.0.1:{taken.getsockname()[1]}")

    assert code == sync.UNREACHABLE
    assert "refused" in reason
    assert probe("http://no-such-host.invalid")[0] == sync.UNREACHABLE


def test_the_hosts_proxies_are_used_without_a_login():
    """The container reaches the server as this machine does."""
    given = {"HTTPS_PROXY": "http://proxy:3128", "HTTP_PROXY": "http://me:pw@proxy:3128"}

    assert network.proxies(given) == {"HTTPS_PROXY": "http://proxy:3128"}
