"""Commands that run at once, each with its own log, and how long each took."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Part:
    """A named part of the checks: commands that run one after the other."""

    name: str
    commands: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a part ended: the exit code of its first command that failed, else 0."""

    name: str
    code: int
    seconds: float

    def line(self) -> str:
        """Return it for a reader."""
        ended = "passed" if self.code == 0 else f"exit code {self.code}"
        return f"{self.seconds:7.0f} s  {self.name}: {ended}"


def run(
    parts: Sequence[Part],
    *,
    root: Path,
    logs: Path,
    say: Callable[[str], None],
    variables: Mapping[str, str] | None = None,
) -> list[Outcome]:
    """
    Run all *parts* at once in *root*; say each one's output as it ends, and return the outcomes.

    The output lies in *logs* meanwhile. A part that fails does not end the others: what else
    fails is worth knowing after so many minutes.
    """
    logs.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **(variables or {})}
    with ThreadPoolExecutor(len(parts)) as pool:
        running = {}
        for part in parts:
            log = logs / f"{part.name.replace(' ', '-')}.log"
            say(f"… {part.name}, with its output in {log}")
            running[pool.submit(_run, part, root, log, environment)] = log
        outcomes = []
        for done in as_completed(running):
            outcomes.append(done.result())
            say(running[done].read_text(encoding="utf-8", errors="replace"))
            say(outcomes[-1].line())
    return outcomes


def _run(part: Part, root: Path, log: Path, environment: Mapping[str, str]) -> Outcome:
    began = time.monotonic()
    code = 0
    with log.open("w", encoding="utf-8") as file:
        for command in part.commands:
            file.write(f"\n$ {' '.join(command)}\n")
            file.flush()
            code = subprocess.run(
                command, cwd=root, env=environment, stdout=file, stderr=file, check=False
            ).returncode
            if code:
                break
    return Outcome(name=part.name, code=code, seconds=time.monotonic() - began)
