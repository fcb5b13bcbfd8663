"""
Show the time of each step of a cold build, next to the limits of the network and the disk.

Reads the log written by `invoke build` or `invoke verify` (default: .samerun/verify.log, the
build without any cache), adds up BuildKit's seconds by step, and measures how fast this machine
downloads one of the locked packages and writes a file. Usage:

    python benchmarks/cold_build.py [LOG]
"""

import os
import re
import sys
import tempfile
import time
import tomllib
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UNPACKED_BYTES = 4.93e9
SAMPLE = "nvidia-cublas"
WRITTEN = 1 << 30


STEP = re.compile(r"^#(\d+) (\[[^]]*\d+/\d+\] \S+ .*|exporting to image)$", re.MULTILINE)
DONE = re.compile(r"^#(\d+) DONE ([\d.]+)s$", re.MULTILINE)
PART = re.compile(r"^#\d+ (exporting layers|unpacking) \D*?([\d.]+)s done$", re.MULTILINE)


def steps(log: str) -> dict[str, float]:
    """Return the seconds of each step."""
    done = dict(DONE.findall(log))
    seconds = {shorten(name): float(done[n]) for n, name in STEP.findall(log) if n in done}
    return seconds | {f"  of it {name}": float(part) for name, part in PART.findall(log)}


def shorten(name: str) -> str:
    """Return a step without its mounts, cut to one line."""
    return " ".join(re.sub(r"--mount=\S+", "", name).split())[:60]


def wheels() -> list[tuple[str, str, int]]:
    """Return name, URL and size in bytes of every wheel in the CUDA 13 image."""
    wanted = (ROOT / "docker" / "torch" / "cuda13.txt").read_text()
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    return [
        (package["name"], wheel["url"], wheel["size"])
        for package in lock["package"]
        for wheel in package.get("wheels", ())
        if wheel["hash"] in wanted and re.search(r"cp313-cp313-|none-|abi3", wheel["url"])
    ]


def download_rate(url: str) -> float:
    """Return bytes per second of one download."""
    began, received = time.monotonic(), 0
    with urllib.request.urlopen(url) as answer:
        while chunk := answer.read(1 << 20):
            received += len(chunk)
    return received / (time.monotonic() - began)


def write_rate() -> float:
    """Return the bytes per second written to the disk."""
    block = os.urandom(1 << 20)
    began = time.monotonic()
    with tempfile.NamedTemporaryFile(dir=ROOT / ".samerun") as file:
        for _ in range(WRITTEN >> 20):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return WRITTEN / (time.monotonic() - began)


def main() -> None:
    log = Path(sys.argv[1]) if sys.argv[1:] else ROOT / ".samerun" / "verify.log"
    for name, seconds in steps(log.read_text()).items():
        print(f"{seconds:8.1f} s  {name}")
    needed = [w for w in wheels() if "macosx" not in w[1] and "win_" not in w[1]]
    total = sum(size for _, _, size in needed if size)
    network = download_rate(next(url for name, url, _ in needed if name == SAMPLE))
    disk = write_rate()
    print(f"{total / 1e9:8.2f} GB to download for torch's layer, at {network / 1e6:.0f} MB/s:")
    print(f"{total / network:8.1f} s  at least, by the network")
    least = UNPACKED_BYTES / disk
    print(f"{least:8.1f} s  at least, to write the image once at {disk / 1e6:.0f} MB/s")


if __name__ == "__main__":
    main()
