"""A script that saves more than its disk holds, and says so."""

from pathlib import Path

with Path("/output/model.bin").open("wb") as file:
    while True:
        file.write(bytes(2**20))
