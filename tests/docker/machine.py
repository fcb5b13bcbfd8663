"""
A machine that has nothing but Debian: a file system, and namespaces of its own.

It has its own processes, network, firewall and engine, and reaches the outside by
slirp4netns. Cutting the power kills all that runs in it; the disk stays.
"""

import contextlib
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGES = "ca-certificates,git,iproute2,python3,python3-venv"
TOOLS = ("mmdebstrap", "slirp4netns", "unshare", "nsenter")
CA = Path("/etc/ssl/certs/ca-certificates.crt")
# What a kernel and systemd would have mounted; the last process is the machine's first.
BOOT = """
set -e
mount --make-rprivate /
mount --bind {root} {root}
mount -t proc proc {root}/proc
mount -t sysfs sysfs {root}/sys
mount -t cgroup2 cgroup {root}/sys/fs/cgroup
mount -t devtmpfs dev {root}/dev
mount -t tmpfs tmpfs {root}/dev/shm
mount -t devpts devpts {root}/dev/pts
mount -t tmpfs tmpfs {root}/run
mount -t tmpfs tmpfs {root}/tmp
ip link set lo up
exec sleep infinity
"""
# The registry on the host's loopback is at 10.0.2.2 there; Docker trusts 127.0.0.1 without TLS.
FORWARD = """
import socket, sys, threading
port = int(sys.argv[1])
def pump(a, b):
    try:
        while data := a.recv(1 << 20):
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    except OSError:
        pass
server = socket.create_server(("127.0.0.1", port))
while True:
    near, far = server.accept()[0], socket.create_connection(("10.0.2.2", port))
    for pair in ((near, far), (far, near)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""
SPACES = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup")


@dataclass
class Machine:
    """The disk, and while there is power the processes that hold the machine up."""

    root: Path
    port: int
    processes: list

    def run(self, *command, check=False):
        """Run *command* on the machine as root; return the finished process."""
        return subprocess.run(self.line(*command), capture_output=True, text=True, check=check)

    def start(self, *command):
        """Start *command* on the machine, and do not wait."""
        log = (self.root.parent / "started.txt").open("a")
        return subprocess.Popen(self.line(*command), stdout=log, stderr=log)

    def line(self, *command):
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        inside = ["chroot", self.root, "env", "-i", path, "HOME=/root", *command]
        return list(map(str, ["nsenter", "--target", self.first(), *SPACES, *inside]))

    def first(self):
        """Return the host's number of the machine's first process."""
        parent = self.processes[0].pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return int(children[0])

    def power_on(self):
        """Boot; the network is up when this returns."""
        script = BOOT.format(root=self.root)
        unshare = ["unshare", *SPACES, "--fork", "--kill-child", "sh", "-c", script]
        self.processes.append(subprocess.Popen(unshare))
        wait_for(lambda: Path(f"/proc/{self.first()}/comm").read_text() == "sleep\n")
        network = ["slirp4netns", "--configure", "--mtu=65520", str(self.first()), "tap0"]
        log = (self.root.parent / "network.txt").open("w")
        self.processes.append(subprocess.Popen(network, stdout=log, stderr=log))
        wait_for(lambda: "10.0.2.100" in self.run("ip", "address", check=True).stdout)
        self.processes.append(self.start("python3", "-c", FORWARD, str(self.port)))

    def cut_power(self):
        """Kill everything at once: the first process of a PID namespace takes all along."""
        os.kill(self.first(), 9)
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()


def wait_for(ready):
    for _ in range(100):
        with contextlib.suppress(OSError, IndexError, subprocess.CalledProcessError):
            if ready():
                return
        time.sleep(0.1)
    pytest.fail("The machine does not come up.")


@contextlib.contextmanager
def running(folder, port):
    """Make a machine under *folder* and switch it on; it reaches the host's *port* as its own."""
    missing = [name for name in TOOLS if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"a machine needs root, and `apt-get install {' '.join(TOOLS[:2])}`: {missing}")
    root = folder / "root"
    make = ["mmdebstrap", "--variant=minbase", "--mode=root", f"--include={PACKAGES}"]
    done = subprocess.run([*make, "bookworm", root], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"Debian's packages can't be reached: {done.stderr[-300:]}")
    settle(root)
    machine = Machine(root=root, port=port, processes=[])
    try:
        machine.power_on()
        yield machine
    finally:
        if machine.processes:
            machine.cut_power()
        shutil.rmtree(root, ignore_errors=True)


def settle(root):
    """Let the machine resolve names, and trust whom the host trusts."""
    (root / "etc" / "resolv.conf").write_text("nameserver 10.0.2.3\n")
    if CA.is_file():
        shutil.copy(CA, root / CA.relative_to("/"))
        (root / "etc" / "pip.conf").write_text(f"[global]\ncert={CA}\n")
