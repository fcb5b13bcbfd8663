"""A script that reads its data again and again, until it is gone."""

import time
from pathlib import Path

print("WAITING", flush=True)
while True:
    Path("/data/x.csv").read_text()
    time.sleep(0.1)
