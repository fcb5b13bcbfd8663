"""One BuildKit build: its arguments, its log, and its failure."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from samerun.core import contract
from samerun.core.errors import BuildFailed
from samerun.host.machine import engine

if TYPE_CHECKING:
    from docker import DockerClient

# Distributions keep their trusted certificates here, including those of company proxies.
CA_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
LINES_SHOWN = 25
Store = Literal["containerd", "classic"]
OUTPUTS: dict[Store, str] = {
    # Some registries refuse zstd without OCI media types.
    "containerd": "type=image,compression=zstd,oci-mediatypes=true,unpack={unpack}",
    "classic": "type=docker",
}


@dataclass(frozen=True, kw_only=True)
class Build:
    """One BuildKit build; `argv` is a pure function of it."""

    context: str
    tag: str
    file: str | None = None
    target: str | None = None
    arguments: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    ca: str | None = None
    metadata: str | None = None
    no_cache: bool = False
    # Containers start from unpacked layers; an image that is only compared needs none.
    unpack: bool = True
    # Layer cache shared between machines, in buildx's syntax: type=registry,ref=….
    cache: str | None = None

    def argv(self, *, buildx: bool, store: Store = "classic") -> list[str]:
        """
        Return the command; without buildx, it uses the BuildKit in CLI 20.10.

        The containerd store keeps layers compressed, so they use zstd, which takes half the
        time of gzip and is smaller. The classic store compresses on push, always with gzip.
        """
        argv = ["docker", *(["buildx"] if buildx else []), "build", "--progress=plain"]
        if buildx:
            # Provenance contains times: with it, no two builds have the same digest.
            output = OUTPUTS[store].format(unpack=str(self.unpack).lower())
            argv += ["--provenance=false", "--output", output]
            argv += ["--metadata-file", self.metadata] if self.metadata else []
            if self.cache:
                argv += ["--cache-from", self.cache, "--cache-to", f"{self.cache},mode=max"]
        argv += ["--file", self.file] if self.file else []
        argv += ["--target", self.target] if self.target else []
        argv += ["--no-cache"] if self.no_cache else []
        for name, value in sorted(self.arguments.items()):
            argv += ["--build-arg", f"{name}={value}"]
        for name, value in sorted(self.labels.items()):
            argv += ["--label", f"{name}={value}"]
        # As a secret, the bundle neither stays in a layer nor affects the cache.
        argv += ["--secret", f"id=ca,src={self.ca}"] if self.ca else []
        return [*argv, "--tag", self.tag, self.context]


def find_ca() -> str | None:
    """Return the path of the host's bundle of trusted certificates."""
    for path in (os.environ.get("SSL_CERT_FILE"), *CA_BUNDLES):
        if path and Path(path).is_file():
            return path
    return None


def run(
    client: "DockerClient",
    build: Build,
    log: Path,
    say: Callable[[str], None],
    stdin: bytes | None = None,
) -> None:
    """
    Run *build*, write its output to *log*, and print each step as it starts.

    Raises:
        BuildFailed: The build failed; the message holds the last lines of the log.
    """
    engine.require_cli()
    store = engine.inspect(client).store
    argv = build.argv(buildx=engine.buildx_version() is not None, store=store)
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
        raise BuildFailed(_failure(log), f"Read the full log: {log}")


def version() -> str | None:
    """Return BuildKit's version, an input of the image; None without buildx."""
    if engine.buildx_version() is None:
        return None
    command = ["docker", "buildx", "inspect"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    match = re.search(r"^BuildKit(?: version)?: *(\S+)", done.stdout, re.MULTILINE)
    return match[1] if match else None


def _lines(process: "subprocess.Popen[bytes]") -> Iterator[str]:
    for raw in process.stdout or ():
        yield raw.decode(errors="replace")


def describe_step(line: str) -> str | None:
    """Return the step that a line of BuildKit's output announces, shortened; else None."""
    match = re.match(r"#\d+ (\[[^]]*\d+/\d+\].*|exporting layers|unpacking to .*)$", line)
    return " ".join(re.sub(r"--mount=\S+", "", match[1]).split())[:100] if match else None


def _failure(log: Path) -> str:
    """Return the lines of *log* with the cause, without progress and repeated headers."""
    text = log.read_text(encoding="utf-8", errors="replace")
    # BuildKit repeats the failed step's output between two rulers, above its command.
    step = re.search(r"^------\n > \[[^\n]*\n(.*?)^------$", text, re.MULTILINE | re.DOTALL)
    output = re.sub(r"^\d+\.\d+ ?", "", step[1], flags=re.MULTILINE) if step else ""
    excerpt = output if output.strip() else text
    lines = [line for line in excerpt.splitlines() if line.strip() and " CACHED" not in line]
    shown = "\n".join(lines[-LINES_SHOWN:])
    reason = (
        "The disk is full." if "no space left on device" in text.lower() else "The build failed."
    )
    return f"{reason} Its last lines:\n{shown}"
