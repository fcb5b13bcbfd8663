"""Build the image with BuildKit; nothing to do where its inputs are unchanged."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from samerun import contract
from samerun.errors import BuildFailed
from samerun.host import base, engine, identity
from samerun.host.project import Project, tag
from samerun.record import Base, Image

if TYPE_CHECKING:
    from docker import DockerClient

# Where distributions keep the certificates that they trust, company proxies' among them.
CA_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
LINES_SHOWN = 25


@dataclass(frozen=True, kw_only=True)
class Build:
    """One call of BuildKit; `argv` is a pure function of it."""

    context: str
    tag: str
    file: str | None = None
    target: str | None = None
    arguments: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    ca: str | None = None
    metadata: str | None = None
    no_cache: bool = False

    def argv(self, *, buildx: bool) -> list[str]:
        """Return the command; without buildx it is the BuildKit of CLI 20.10 itself."""
        argv = ["docker", *(["buildx"] if buildx else []), "build", "--progress=plain"]
        if buildx:
            # Provenance holds times: with it no two builds have one digest.
            argv += ["--provenance=false", "--load"]
            argv += ["--metadata-file", self.metadata] if self.metadata else []
        argv += ["--file", self.file] if self.file else []
        argv += ["--target", self.target] if self.target else []
        argv += ["--no-cache"] if self.no_cache else []
        for name, value in sorted(self.arguments.items()):
            argv += ["--build-arg", f"{name}={value}"]
        for name, value in sorted(self.labels.items()):
            argv += ["--label", f"{name}={value}"]
        # The content goes in as a secret, so it neither stays nor counts in the cache.
        argv += ["--secret", f"id=ca,src={self.ca}"] if self.ca else []
        return [*argv, "--tag", self.tag, self.context]


def find_ca() -> str | None:
    """Return the bundle of certificates that this host trusts."""
    for path in (os.environ.get("SSL_CERT_FILE"), *CA_BUNDLES):
        if path and Path(path).is_file():
            return path
    return None


def plan(project: Project, base_tag: str, under: Base, cuda: str, *, no_cache: bool) -> Build:
    """Return the build of the image for CUDA release *cuda* on *under*."""
    return Build(
        context=str(project.root),
        tag=tag(cuda),
        arguments={
            "BASE": base_tag,
            "CUDA": f"cuda{cuda}",
            "SOURCE_DATE_EPOCH": str(contract.EPOCH),
        },
        labels={
            "org.opencontainers.image.title": "samerun",
            "org.opencontainers.image.base.name": under.reference,
            contract.LABEL_INPUTS: inputs(project, under, cuda),
            contract.LABEL_BASE: under.reference,
            contract.LABEL_BASE_ORIGIN: under.origin,
            contract.LABEL_CUDA: cuda,
            contract.LABEL_LOCK: project.lock_sha256(),
        },
        ca=find_ca(),
        # A file of this process: two builds at once must not read each other's.
        metadata=str(project.state / f"build-metadata-{os.getpid()}.json"),
        no_cache=no_cache,
    )


def inputs(project: Project, under: Base, cuda: str) -> str:
    """Return the hash over all that the image is made from."""
    return project.inputs_sha256(under.reference, cuda)


def ensure(
    client: "DockerClient",
    project: Project,
    *,
    cuda: str,
    base_choice: str = "auto",
    no_cache: bool = False,
    say: Callable[[str], None],
) -> Image:
    """
    Return the image of this checkout, built if its inputs have changed.

    Raises:
        BuildFailed: With the last lines of the log, which is kept.
    """
    base_tag, under = base.provide(client, project, base_choice, say=say)
    if not no_cache and _is_current(client, project, under, cuda):
        image = identity.identify(client, tag(cuda))
        # Only a build tells the config's digest in containerd's store. Where it was
        # forgotten the build is repeated, from the cache, to the same image.
        if image.config_digest or engine.buildx_version() is None:
            return image
    build = plan(project, base_tag, under, cuda, no_cache=no_cache)
    run(build, project.state / "build.log", say)
    _remember(client, project, build)
    return identity.identify(client, tag(cuda))


def _is_current(client: "DockerClient", project: Project, under: Base, cuda: str) -> bool:
    from docker.errors import ImageNotFound

    try:
        raw = client.api.inspect_image(tag(cuda))
    except ImageNotFound:
        return False
    labels = raw["Config"].get("Labels") or {}
    return bool(labels.get(contract.LABEL_INPUTS) == inputs(project, under, cuda))


def _remember(client: "DockerClient", project: Project, build: Build) -> None:
    """Keep the config's digest, which containerd's store does not tell later."""
    if engine.buildx_version() is None or build.metadata is None:
        return
    path = Path(build.metadata)
    config = json.loads(path.read_text(encoding="utf-8")).get("containerimage.config.digest")
    path.unlink()
    if config:
        raw = client.api.inspect_image(build.tag)
        identity.remember(raw["Id"], {"config_digest": config})


def run(build: Build, log: Path, say: Callable[[str], None], stdin: bytes | None = None) -> None:
    """Run *build*, keep its output in *log*, and tell each step as it starts."""
    engine.require_cli()
    argv = build.argv(buildx=engine.buildx_version() is not None)
    environment = {
        **os.environ,
        "DOCKER_BUILDKIT": "1",
        "SOURCE_DATE_EPOCH": str(contract.EPOCH),
    }
    started = time.monotonic()
    process = subprocess.Popen(
        argv,
        env=environment,
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if process.stdin and stdin is not None:
        process.stdin.write(stdin)
        process.stdin.close()
    with log.open("w", encoding="utf-8") as file:
        for line in _lines(process):
            file.write(line)
            step = describe_step(line)
            if step:
                say(f"{time.monotonic() - started:5.0f} s  {step}")
    if process.wait():
        raise BuildFailed(_failure(log), f"The whole log: {log}")


def _lines(process: "subprocess.Popen[bytes]") -> Iterator[str]:
    for raw in process.stdout or ():
        yield raw.decode(errors="replace")


def describe_step(line: str) -> str | None:
    """Return the step that a line of BuildKit's output announces, shortened; else None."""
    found = re.match(r"#\d+ (\[[^]]*\d+/\d+\].*|exporting layers|unpacking to .*)$", line)
    return " ".join(re.sub(r"--mount=\S+", "", found[1]).split())[:100] if found else None


def _failure(log: Path) -> str:
    """Return the lines of *log* that tell why: without progress and repeated headers."""
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip() and " CACHED" not in line]
    shown = "\n".join(lines[-LINES_SHOWN:])
    reason = "The disk is full." if "no space left on device" in text else "The build failed."
    return f"{reason} Its last lines:\n{shown}"
