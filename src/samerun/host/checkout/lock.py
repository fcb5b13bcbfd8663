"""`invoke lock`: update uv.lock, the lock files exported from it, and the base's pin."""

import re
import shutil
import subprocess
from collections.abc import Callable

from samerun.core.errors import EngineMissing, EnginePermission, SetupFailed
from samerun.host.checkout.project import Project

# Groups of pyproject.toml with a separate lock file: the image's first layer, which changes
# of other packages must not affect, and the build's own tools.
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
    """Resolve (with *upgrade*, all packages to their newest versions), then export and pin."""
    _uv(project, "lock", *(["--upgrade"] if upgrade else []))
    for group, path in EXPORTS.items():
        (project.root / path).write_text(export(project, group), encoding="utf-8")
    if cpu_index:
        lock_cpu(project, cpu_index)
        say(f"{CPU_LOCK}: torch without CUDA from {cpu_index}")
    say(pin_base(project))


def export(project: Project, group: str, *more: str) -> str:
    """Return the packages of *group* in uv.lock, with hashes."""
    flags = ["--frozen", "--no-emit-project", "--no-header", "--no-annotate", "--quiet"]
    return _uv(project, "export", *flags, "--only-group", group, *more)


def lock_cpu(project: Project, index: str) -> None:
    """
    Write the lock file of the CPU-only variant from *index*, which has torch's CPU builds.

    All other packages keep the versions in uv.lock. PyTorch's index of CPU builds is
    https://download.pytorch.org/whl/cpu.

    Raises:
        SetupFailed: The index can't be reached, or has no CPU build.
    """
    if "@" in index:
        raise SetupFailed(
            "The URL of the index contains a login, which would end up in the image.",
            "Give the URL without a login, and put the login into ~/.netrc.",
        )
    rest = project.state / "cpu-constraints.txt"
    pruned = ("--no-hashes", "--prune", "torch", "--prune", "torchvision")
    rest.write_text(export(project, "image", *pruned), encoding="utf-8")
    requirements = project.state / "cpu-requirements.txt"
    requirements.write_text("\n".join(project.group("cuda13")) + "\n", encoding="utf-8")
    flags = ["--python-version", "3.13", "--python-platform", "x86_64-unknown-linux-gnu"]
    # 2.15.0+cpu is a higher version than 2.15.0, so the best match is the CPU build.
    flags += ["--index", index, "--index-strategy", "unsafe-best-match"]
    flags += ["--generate-hashes", "--no-header", "--no-annotate", "--quiet", "--no-build"]
    text = _uv(project, "pip", "compile", *flags, "--constraints", str(rest), str(requirements))
    if not re.search(r"^torch==\S+\+cpu\b", text, re.MULTILINE):
        raise SetupFailed(
            f"{index} has no CPU build of {', '.join(project.group('cuda13'))}.",
            "Use PyTorch's index, https://download.pytorch.org/whl/cpu.",
        )
    header = f"--extra-index-url {index}\n"
    (project.root / CPU_LOCK).write_text(header + text, encoding="utf-8")


def pin_base(project: Project) -> str:
    """
    Resolve the tag of the pulled base to its current digest, and write it to docker/base.toml.

    The engine queries the registry, with its own logins and certificates. Returns a line about
    the result; if the registry can't be reached, the pin does not change.
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
        return f"Base image unchanged, {reference}: the registry can't be reached ({reason})."
    if digest == pinned:
        return f"Base image is up to date: {reference}."
    path = project.root / "docker" / "base.toml"
    text = path.read_text(encoding="utf-8").replace(reference, f"{name}@{digest}")
    path.write_text(text, encoding="utf-8")
    return f"Base image {name}: {pinned} -> {digest}."


def _uv(project: Project, *arguments: str) -> str:
    if shutil.which("uv") is None:
        raise SetupFailed("`uv` is not installed.", "Install it with `pip install uv`.")
    done = subprocess.run(
        ["uv", *arguments], cwd=project.root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SetupFailed(
            f"`uv {arguments[0]}` failed:\n{done.stderr.strip()}",
            "Fix the requirement or the connection named above, and run the command again.",
        )
    return done.stdout
