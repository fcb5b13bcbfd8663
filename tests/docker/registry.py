"""A real registry on loopback: Debian's docker-registry, fetched where it is not installed."""

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

USER, PASSWORD = "someone", "not-a-secret"
# bcrypt of PASSWORD, which the registry insists on.
HTPASSWD = "someone:$2b$05$rWkfYz8pAcDsbv/zZYtsX.UO9UCicqnFGAQh/BpYBWOZ4E6nItkMa\n"
CONFIG = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: {root}/storage}}, delete: {{enabled: true}}}}
http:
  addr: {host}:{port}
{tls}{auth}"""


@dataclass(frozen=True)
class Registry:
    """Where it listens; *name* goes in front of an image's name."""

    host: str
    port: int
    root: Path

    @property
    def name(self):
        return f"{self.host}:{self.port}"

    @property
    def storage(self):
        return self.root / "storage"


def find_program(folder):
    """Return the registry's program: installed, or unpacked from Debian's package."""
    for name in ("docker-registry", "registry"):
        if shutil.which(name):
            return shutil.which(name)
    fetch = ["apt-get", "download", "-o", "APT::Sandbox::User=root", "docker-registry"]
    done = subprocess.run(fetch, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"No registry to test with: {done.stderr}")
    package = next(folder.glob("docker-registry_*.deb"))
    subprocess.run(["dpkg", "-x", package, folder / "unpacked"], check=True)
    return str(folder / "unpacked" / "usr" / "bin" / "docker-registry")


@contextlib.contextmanager
def running(program, root, *, host="127.0.0.1", tls=None, login=False):
    """Run a registry; *tls* is the pair of its certificate and key, *login* asks for one."""
    root.mkdir(parents=True, exist_ok=True)
    registry = Registry(host, free_port(host), root)
    auth = ""
    if login:
        (root / "htpasswd").write_text(HTPASSWD)
        auth = f"auth: {{htpasswd: {{realm: test, path: {root}/htpasswd}}}}\n"
    secure = f"  tls: {{certificate: {tls[0]}, key: {tls[1]}}}\n" if tls else ""
    config = root / "config.yml"
    config.write_text(
        CONFIG.format(root=root, host=host, port=registry.port, tls=secure, auth=auth)
    )
    with (root / "log.txt").open("w") as log:
        process = subprocess.Popen([program, "serve", config], stdout=log, stderr=log)
        try:
            wait_for(host, registry.port)
            yield registry
        finally:
            process.terminate()
            process.wait()
            forget_all(registry)


def forget_all(registry):
    """Remove every name that images got of *registry* here."""
    form = "{{.Repository}} {{.Tag}} {{.Digest}}"
    listed = ["docker", "images", "--digests", "--format", form]
    lines = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split() for line in lines if line.startswith(registry.name)]
    names = [f"{r}@{digest}" if tag == "<none>" else f"{r}:{tag}" for r, tag, digest in rows]
    if names:
        subprocess.run(["docker", "rmi", "--force", *names], check=False, capture_output=True)


def free_port(host):
    with socket.socket() as server:
        server.bind((host, 0))
        return server.getsockname()[1]


def wait_for(host, port, patience_s=5):
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return
        time.sleep(0.05)
    pytest.fail(f"Nothing listens at {host}:{port}.")


def certificate(folder, host):
    """Make a certificate for the address *host*, its own authority; return it and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subject = ["-subj", f"/CN={host}", "-addext", f"subjectAltName=IP:{host}"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*make, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


class CuttingProxy:
    """Passes connections on to a registry, and cuts the first *cuts* large ones midway."""

    def __init__(self, target, *, cuts, after=200_000):
        self.target, self.after = target, after
        self.cuts = cuts
        self.done = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.name = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                upstream = socket.create_connection((self.target.host, self.target.port))
                for pair in ((client, upstream), (upstream, client)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source, sink):
        passed = 0
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                passed += len(chunk)
                if passed > self.after and self.done < self.cuts:
                    self.done += 1
                    break
                sink.sendall(chunk)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._server.close()
