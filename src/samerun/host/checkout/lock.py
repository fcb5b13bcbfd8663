"""`invoke lock`: refresh uv.lock, the locks read off it, and the base's pin."""

import re
import shutil
import subprocess
from collections.abc import Callable

from samerun.core.errors import EngineMissing, EnginePermission, SetupFailed
from samerun.host.checkout.project import Project

# The groups of pyproject.toml that have a lock of their own: the image's first layer,
# which no other package's change touches, and what the build itself uses.
EXPORTS = {
    "cuda12": "docker/torch/cuda12.txt",
    "cuda13": "docker/torch/cuda13.txt",
    "image-tools": "docker/tools.txt",
}
CPU_LOCK = "docker/torch/cpu.txt"


def lock(
    project: Project,
    say: Callable[[str], None],
    *,
    upgrade: bool = False,
    cpu_index: str | None = None,
) -> None:
    """Resolve again (all packages to their newest with *upgrade*), then export and pin."""
    _uv(project, "lock", *(["--upgrade"] if upgrade else []))
    for group, path in EXPORTS.items():
        (project.root / path).write_text(export(project, group), encoding="utf-8")
    if cpu_index:
        lock_cpu(project, cpu_index)
        say(f"{CPU_LOCK}: torch without CUDA from {cpu_index}")
    say(pin_base(project))


def export(project: Project, group: str, *more: str) -> str:
    """Return the part of uv.lock that *group* is, with hashes."""
    flags = ["--frozen", "--no-emit-project", "--no-header", "--no-annotate", "--quiet"]
    return _uv(project, "export", *flags, "--only-group", group, *more)


def lock_cpu(project: Project, index: str) -> None:
    """
    Write the lock of the CPU-only variant from *index*, which has torch's CPU builds.

    Its other packages keep the versions of uv.lock. PyTorch's own index of CPU builds
    is https://download.pytorch.org/whl/cpu.

    Raises:
        SetupFailed: The index can't be reached, or has no such build.
    """
    if "@" in index:
        raise SetupFailed(
            "The index's URL holds a user name: it would stay in the lock and in the image.",
            "Give its plain URL, and keep the password in ~/.netrc.",
        )
    rest = project.state / "cpu-constraints.txt"
    pruned = ("--no-hashes", "--prune", "torch", "--prune", "torchvision")
    rest.write_text(export(project, "image", *pruned), encoding="utf-8")
    asked = project.state / "cpu-requirements.txt"
    asked.write_text("\n".join(project.group("cuda13")) + "\n", encoding="utf-8")
    flags = ["--python-version", "3.13", "--python-platform", "x86_64-unknown-linux-gnu"]
    # 2.15.0+cpu is a higher version than 2.15.0, so the best match is the CPU build.
    flags += ["--index", index, "--index-strategy", "unsafe-best-match"]
    flags += ["--generate-hashes", "--no-header", "--no-annotate", "--quiet", "--no-build"]
    text = _uv(project, "pip", "compile", *flags, "--constraints", str(rest), str(asked))
    if not re.search(r"^torch==\S+\+cpu\b", text, re.MULTILINE):
        raise SetupFailed(
            f"{index} has no CPU build of {', '.join(project.group('cuda13'))}.",
            "PyTorch's own index is https://download.pytorch.org/whl/cpu.",
        )
    header = f"--extra-index-url {index}\n"
    (project.root / CPU_LOCK).write_text(header + text, encoding="utf-8")


def pin_base(project: Project) -> str:
    """
    Resolve the tag of the pulled base to today's digest, and write it to docker/base.toml.

    The engine asks the registry, with its own logins and certificates. Returns what was
    done; a registry that can't be reached leaves the pin as it is.
    """
    from docker.errors import DockerException

    from samerun.host.machine import engine

    reference = project.base_pins()["pulled"]["reference"]
    name, pinned = reference.split("@")
    try:
        client = engine.connect()
        digest = client.api.inspect_distribution(name)["Descriptor"]["digest"]
    except (DockerException, EngineMissing, EnginePermission) as error:
        reason = str(error).splitlines()[0].rsplit(": ", 1)[-1]
        return f"The base's pin stays {reference}: the registry was not reached ({reason})."
    if digest == pinned:
        return f"The base's pin is current: {reference}."
    path = project.root / "docker" / "base.toml"
    text = path.read_text(encoding="utf-8").replace(reference, f"{name}@{digest}")
    path.write_text(text, encoding="utf-8")
    return f"The base {name}: {pinned} -> {digest}."


def _uv(project: Project, *arguments: str) -> str:
    if shutil.which("uv") is None:
        raise SetupFailed("`uv` is not installed.", "pip install uv")
    done = subprocess.run(
        ["uv", *arguments], cwd=project.root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SetupFailed(f"`uv {arguments[0]}` failed:\n{done.stderr.strip()}", "")
    return done.stdout
