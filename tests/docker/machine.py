"""
A machine that has nothing but Debian and cloud-init, as clouds rent them out.

It has a file system and namespaces of its own, and so its own processes, network, firewall
and engine; systemd is its first process. It reaches the outside by slirp4netns. Cutting the
power kills all that runs in it; the disk stays.
"""

import contextlib
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from samerun.core.errors import RecordError

# What a cloud's image has. That cloud-init is here keeps it off the machine of the tests.
PACKAGES = "ca-certificates,cloud-init,dbus,iproute2,systemd-sysv"
TOOLS = ("mmdebstrap", "slirp4netns", "unshare", "nsenter")
CA = Path("/etc/ssl/certs/ca-certificates.crt")
SEED = Path("var/lib/cloud/seed/nocloud")
# The kernel is shared: the machine sees its settings, and may change those of networks.
# Of devices there are those that every container has.
BOOT = """
set -e
echo $$ >{cgroup}/cgroup.procs
exec unshare {spaces} --fork --kill-child sh -ec '
mount --make-rprivate /
mount --bind {root} {root}
cd {root}
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
for name in null zero full random urandom tty; do
    touch dev/$name
    mount --bind /dev/$name dev/$name
done
mkdir dev/shm dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
ip link set lo up
until ip address show tap0 2>&1 | grep -q 10.0.2.100; do sleep 0.05; done
mkdir -p mnt
pivot_root . mnt
umount -l /mnt
exec env -i container=samerun PATH=/usr/sbin:/usr/bin /lib/systemd/systemd --log-target=journal
'
"""
# The registry on the host's loopback is at 10.0.2.2 there; Docker trusts 127.0.0.1 without TLS.
HOST = "10.0.2.2"
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
# Where user data comes from, and what this file system is not asked to have.
CLOUD = """\
datasource_list: [NoCloud]
network: {config: disabled}
apt: {preserve_sources_list: true}
locale: C.UTF-8
ssh_genkeytypes: []
"""
# They reach into the kernel that all share, or take their time for nothing.
MASKED = (
    *("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount"),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_reap.service"),
)
# What is said by a machine that is about to come up, and by a run that is about to begin.
NOT_YET = (OSError, IndexError, subprocess.CalledProcessError, RecordError)
SPACES = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup")


@dataclass
class Machine:
    """The disk, and while there is power the processes that hold the machine up."""

    root: Path
    cgroup: Path
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
        inside = ["env", "-i", path, "HOME=/root", *command]
        return list(map(str, ["nsenter", "--target", self.first(), *SPACES, *inside]))

    def first(self):
        """Return the host's number of the machine's first process."""
        parent = self.processes[0].pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return int(children[0])

    def is_booted(self):
        return Path(f"/proc/{self.first()}/comm").read_text() == "systemd\n"

    def power_on(self):
        """Boot; systemd runs and the network is up when this returns."""
        self.cgroup.mkdir(exist_ok=True)
        script = BOOT.format(root=self.root, cgroup=self.cgroup, spaces=" ".join(SPACES))
        self.processes.append(subprocess.Popen(["sh", "-c", script]))
        wait_for(lambda: Path(f"/proc/{self.first()}/comm").read_text() in ("sh\n", "sleep\n"))
        network = ["slirp4netns", "--configure", "--mtu=65520", str(self.first()), "tap0"]
        log = (self.root.parent / "network.txt").open("w")
        self.processes.append(subprocess.Popen(network, stdout=log, stderr=log))
        wait_for(self.is_booted)
        self.processes.append(self.start("python3", "-c", FORWARD, str(self.port)))

    def cut_power(self):
        """Kill everything at once: the first process of a PID namespace takes all along."""
        os.kill(self.first(), 9)
        self._gone()

    def shut_down(self):
        """Do as a cloud does that takes a machine back: say so, and wait until it is off."""
        self.run("systemctl", "--no-block", "poweroff")
        # What was started from outside would hold up the end: systemd stops, then kills it.
        forward = self.processes.pop()
        forward.kill()
        forward.wait()
        self.processes[0].wait(timeout=120)
        self._gone()

    def _gone(self):
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()
        remove_groups(self.cgroup)

    def give(self, user_data, instance):
        """Lay out *user_data* as a cloud would; another *instance* is a machine that is new."""
        seed = self.root / SEED
        seed.mkdir(parents=True, exist_ok=True)
        (seed / "user-data").write_text(user_data)
        (seed / "meta-data").write_text(f"instance-id: {instance}\n")


def wait_for(ready, patience_s=10.0, what="the machine"):
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        with contextlib.suppress(*NOT_YET):
            if ready():
                return
        time.sleep(0.1)
    pytest.fail(f"Waited {patience_s} s for {what}.")


def remove_groups(cgroup):
    """Remove a cgroup with all below it, once its processes are gone."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            for folder, _names, _files in os.walk(cgroup, topdown=False):
                os.rmdir(folder)
            return
        time.sleep(0.05)


def unified_groups():
    """Return where the kernel shows its second version of control groups."""
    lines = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    found = [Path(words[1]) for words in lines if words[2] == "cgroup2"]
    if not found:
        pytest.skip("a machine needs control groups of version 2")
    return found[0]


@contextlib.contextmanager
def made(folder, port):
    """Make a machine under *folder*, switched off; it reaches the host's *port* as its own."""
    missing = [name for name in TOOLS if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"a machine needs root, and `apt-get install {' '.join(TOOLS[:2])}`: {missing}")
    root = folder / "root"
    make = ["mmdebstrap", "--variant=minbase", "--mode=root", f"--include={PACKAGES}"]
    done = subprocess.run([*make, "bookworm", root], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"Debian's packages can't be reached: {done.stderr[-300:]}")
    settle(root)
    cgroup = unified_groups() / f"samerun-vm-{os.getpid()}"
    machine = Machine(root=root, cgroup=cgroup, port=port, processes=[])
    try:
        yield machine
    finally:
        if machine.processes:
            machine.cut_power()
        shutil.rmtree(root, ignore_errors=True)


def settle(root):
    """Let the machine resolve names, trust whom the host trusts, and know its cloud."""
    (root / "etc" / "resolv.conf").write_text("nameserver 10.0.2.3\n")
    (root / "etc" / "hostname").write_text("vm\n")
    (root / "etc" / "cloud" / "cloud.cfg.d" / "99_test.cfg").write_text(CLOUD)
    for name in MASKED:
        (root / "etc" / "systemd" / "system" / name).symlink_to("/dev/null")
    if CA.is_file():
        shutil.copy(CA, root / CA.relative_to("/"))
        (root / "etc" / "pip.conf").write_text(f"[global]\ncert={CA}\n")
