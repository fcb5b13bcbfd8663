"""
Measure what determinism and checkpoints cost: each recipe with and without them, alternating.

    python benchmarks/determinism_cost.py [--rounds 3] [--epochs 6]

Prints the seconds from the first batch to the end of the container, and the ratios within this
session. Machines are noisy, so only the ratios are meaningful.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

VARIANTS = {
    "plain": ["--fast", "--checkpoints", "off"],
    "deterministic": ["--checkpoints", "off"],
    "deterministic, checkpoints": [],
}


def seconds(recipe, options, epochs, output, name):
    """Train once; return seconds of training, and the record."""
    where = ["--gpus", "0", "--no-network", "--output", output, "--name", name]
    command = [sys.executable, "-m", "invoke", "train", recipe, *where, *options]
    subprocess.run([*command, "--", "--epochs", str(epochs)], check=True, capture_output=True)
    run = json.loads((Path(output) / name / "run.json").read_text())
    return run["outcome"]["duration_s"] - run["outcome"]["first_batch_s"], run


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    given = parser.parse_args()
    for recipe in ("digits", "tabular"):
        times = {name: [] for name in VARIANTS}
        hashes = {name: set() for name in VARIANTS}
        with tempfile.TemporaryDirectory() as output:
            for turn in range(given.rounds):
                for number, (name, options) in enumerate(VARIANTS.items()):
                    run_name = f"cost-{turn}-{number}"
                    took, run = seconds(recipe, options, given.epochs, output, run_name)
                    times[name].append(took)
                    hashes[name].add(run["result"]["weights_sha256"])
        base = statistics.median(times["plain"])
        for name, values in times.items():
            median = statistics.median(values)
            same = "same weights each time" if len(hashes[name]) == 1 else "weights differ"
            print(f"{recipe:8} {name:27} {median:6.1f} s  {median / base:.2f}  {same}", flush=True)
        written = run["checkpoints"]
        each = written["seconds"] / written["count"]
        print(f"{recipe:8} {written['count']} checkpoints of {written['last_bytes'] / 1e6:.1f} MB,")
        print(f"{'':8} {each * 1000:.0f} ms each", flush=True)


if __name__ == "__main__":
    main()
