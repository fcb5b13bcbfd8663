"""A second Docker Engine beside the machine's, with the classic store or on a small disk."""

import contextlib
import itertools
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

# Workers that run side by side have networks of their own.
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_numbers = itertools.count(77 + 16 * _worker)


@contextlib.contextmanager
def running(root, *, containerd_store, size=None, prefix=()):
    """
    Run an engine under *root*; yield what to set so that clients find it.

    With *size* its data lie on a tmpfs of so many bytes; *prefix* is a command that starts it.
    It makes no network and changes no firewall rule of the machine.
    """
    if os.geteuid() != 0:
        pytest.skip("a second engine needs root")
    if shutil.which("ip") is None:
        pytest.skip("a second engine needs `ip` (package iproute2)")
    # Unix sockets and network interfaces have short names.
    number = next(_numbers)
    run = Path(f"/run/srt{os.getpid()}-{number}")
    run.mkdir()
    socket = run / "docker.sock"
    bridge = f"srt{os.getpid() % 10**6}-{number}"
    data = root / "data"
    data.mkdir(parents=True)
    if size:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", data], check=True)
    config = root / "daemon.json"
    store = str(containerd_store).lower()
    config.write_text(f'{{"features": {{"containerd-snapshotter": {store}}}}}')
    command = [*prefix, "dockerd", "--host", f"unix://{socket}", "--config-file", config]
    command += ["--data-root", data, "--exec-root", run / "exec", "--pidfile", run / "pid"]
    # A bridge of its own: an engine told to have none removes docker0, which is another's.
    command += [f"--bridge={bridge}", "--iptables=false", "--ip6tables=false"]
    with (root / "log.txt").open("w") as log, bridged(bridge, f"10.213.{number}.1/24"):
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
        try:
            host = {"DOCKER_HOST": f"unix://{socket}", "XDG_CACHE_HOME": str(root / "cache")}
            wait_for(host, root / "log.txt")
            yield host
        finally:
            process.terminate()
            process.wait(30)
            for folder in (run, root):
                unmount(folder)
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def bridged(name, address):
    link = ["ip", "link"]
    subprocess.run([*link, "add", name, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "address", "add", address, "dev", name], check=True)
        yield
    finally:
        subprocess.run([*link, "delete", name], check=False)


def wait_for(host, log):
    for _ in range(100):
        asked = ["docker", "version", "--format", "{{.Server.Version}}"]
        done = subprocess.run(asked, env=os.environ | host, capture_output=True, check=False)
        if done.returncode == 0:
            return
        time.sleep(0.2)
    pytest.fail(f"The second engine does not answer: {log.read_text()[-2000:]}")


def unmount(root):
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for path in sorted((m for m in mounted if m.startswith(str(root))), reverse=True):
        subprocess.run(["umount", "--lazy", path], check=False)
