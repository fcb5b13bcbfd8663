"""
Measure the fingerprint of a data folder: ``python benchmarks/fingerprint.py [--mib 1024]``.

Cold: every file is read and hashed (from the page cache, to measure the hashing and not the disk).
Cached: every file is checked for changes, none is read.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from samerun.host.launch import data


def main() -> None:
    """Write files, fingerprint them twice, print a line of JSON per size of file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=1024, help="size of the folder")
    options = parser.parse_args()
    for file_kib in (64, 1024, 65536):
        with tempfile.TemporaryDirectory() as place:
            os.environ["XDG_CACHE_HOME"] = f"{place}/cache"
            print(json.dumps(measure(Path(place) / "data", options.mib, file_kib)))


def measure(folder: Path, mib: int, file_kib: int) -> dict[str, float]:
    """Return the speeds in GB/s for *mib* MiB of files of *file_kib* KiB each."""
    folder.mkdir()
    number = max(1, mib * 1024 // file_kib)
    content = os.urandom(file_kib * 1024)
    for i in range(number):
        (folder / f"{i}.bin").write_bytes(content[i % 97 :] + content[: i % 97])
    time.sleep(2.5)  # The hashes of files that were just written are not cached.
    size = number * file_kib * 1024
    cold, cached = (timed(folder) for _ in range(2))
    return {
        "file_kib": file_kib,
        "files": number,
        "cold_gb_per_s": round(size / cold / 1e9, 2),
        "cached_gb_per_s": round(size / cached / 1e9, 1),
        "cached_s": round(cached, 4),
    }


def timed(folder: Path) -> float:
    """Return the seconds of one fingerprint."""
    began = time.perf_counter()
    data.fingerprint_folder(folder)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
