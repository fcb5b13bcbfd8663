"""A training without a framework that keeps its own place: one checkpoint per step."""

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=6)
parser.add_argument("--pause", type=float, default=0.05)
parser.add_argument("--die-at", type=int, default=-1, help="kill itself once, at this step")
parser.add_argument("--fail-at", type=int, default=-1, help="raise, every time")
parser.add_argument("--stuck", action="store_true", help="kill itself before any checkpoint")
options = parser.parse_args()

stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
place = Path("checkpoints") / "state.json"
place.parent.mkdir(exist_ok=True)
values = json.loads(place.read_text()) if place.exists() else []
print(f"START at {len(values)}", flush=True)
for step in range(len(values), options.steps):
    print(f"STEP {step}", flush=True)
    time.sleep(options.pause)
    if options.stuck or (step == options.die_at and not Path("died").exists()):
        Path("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if step == options.fail_at:
        raise ValueError(step)
    last = values[-1] if values else ""
    values.append(hashlib.sha256(f"{last}{step}".encode()).hexdigest())
    place.with_suffix(".new").write_text(json.dumps(values))
    place.with_suffix(".new").replace(place)
    if stopped:
        sys.exit(75)
Path("result").write_text(values[-1])
