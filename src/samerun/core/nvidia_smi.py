"""The GPUs of a machine as nvidia-smi lists them, and what it says when not all is well."""

import contextlib
import dataclasses
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# Without persistence mode, each of eight GPUs initializes for 1 to 3 s at every call.
TIMEOUT_S = 90.0
# WSL2 has it here; sudo's PATH does not contain this folder.
WSL_PATH = Path("/usr/lib/wsl/lib/nvidia-smi")
FIELDS: tuple[str, ...] = (
    "index", "name", "driver_version", "compute_cap", "uuid", "mig.mode.current", "memory.total",
    "memory.used",
)  # fmt: skip
# Drivers before 510 know no compute_cap and answer with exit code 2.
OLD_FIELDS = tuple(name for name in FIELDS if name not in ("compute_cap", "mig.mode.current"))
UNKNOWN_FIELD = 2
# A field that does not exist (vGPU, GeForce) is [N/A], one that can't be read [Unknown Error].
_NOT_KNOWN = r"\[[^\]]*\]"
_VALUES = {
    "index": r"[0-9]{1,4}",
    # "[GPU is lost]" is a message and not a name.
    "name": r"[^\[].*?",
    "driver_version": r"[0-9]{1,4}(?:\.[0-9]{1,4}){0,3}",
    "compute_cap": rf"[0-9]{{1,2}}\.[0-9]{{1,2}}|{_NOT_KNOWN}",
    "uuid": r"GPU-[0-9A-Za-z-]{1,60}|\[N/A\]",
    "mig.mode.current": rf"Enabled|Disabled|{_NOT_KNOWN}",
    "memory.total": rf"[0-9]{{1,9}}|{_NOT_KNOWN}",
    "memory.used": rf"[0-9]{{1,9}}|{_NOT_KNOWN}",
}
_PARENT = re.compile(r"GPU [0-9]{1,4}: .*\(UUID: (GPU-[0-9A-Za-z-]{1,60})\)")
_INSTANCE = re.compile(r"\s+MIG (\S{1,40})\s+Device\s+[0-9]{1,4}: \(UUID: (MIG-[0-9A-Za-z/-]+)\)")


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One NVIDIA GPU, or one MIG instance of it, as the driver describes it."""

    index: int
    name: str
    driver: str
    # Empty: the driver does not say (vGPU, drivers before 510).
    capability: str = ""
    uuid: str = ""
    # Whether it is divided into instances; then `uuid` is that of one, or there is none yet.
    mig: bool = False
    memory_mib: int | None = None
    used_mib: int | None = None

    @property
    def label(self) -> str:
        """The name in records: the model with its compute capability."""
        return f"{self.name} ({self.capability})" if self.capability else self.name

    @property
    def is_undivided(self) -> bool:
        """Whether MIG is on, but there is no instance that could be used."""
        return self.mig and not self.uuid.startswith("MIG-")


@dataclass(frozen=True, kw_only=True)
class Found:
    """The GPUs that nvidia-smi lists; *trouble* is the first other line that it prints."""

    gpus: tuple[Gpu, ...] = ()
    trouble: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether the list may be incomplete; a warning beside a list is none."""
        return bool(self.trouble) and not (self.gpus and _is_warning(self.trouble))


@dataclass(frozen=True, kw_only=True)
class _Answer:
    code: int
    lines: tuple[str, ...] = ()


def query() -> Found:
    """Return this machine's GPUs; nothing that nvidia-smi prints or does is an exception."""
    command = shutil.which("nvidia-smi") or (str(WSL_PATH) if WSL_PATH.is_file() else None)
    if command is None:
        return Found()
    try:
        answer, fields = _ask(command, _option(FIELDS)), FIELDS
        if answer.code == UNKNOWN_FIELD:
            answer, fields = _ask(command, _option(OLD_FIELDS)), OLD_FIELDS
        found = parse(answer.lines, answer.code, fields)
        if any(gpu.mig for gpu in found.gpus):
            listed = _ask(command, "-L")
            trouble = found.trouble or (f"-L: exit code {listed.code}" if listed.code else "")
            instances = with_instances(found.gpus, listed.lines)
            found = Found(gpus=instances, trouble=trouble)
    except subprocess.TimeoutExpired:
        return Found(trouble=f"no answer within {TIMEOUT_S:.0f} s")
    except OSError as error:
        return Found(trouble=f"{command} can't be run: {error.strerror}")
    return found


def _option(fields: Sequence[str]) -> str:
    return f"--query-gpu={','.join(fields)}"


def _ask(command: str, option: str) -> _Answer:
    """Run nvidia-smi; do not wait for one that hangs in the driver and can't be killed."""
    arguments = [command, option]
    arguments += ["--format=csv,noheader,nounits"] if option.startswith("--query") else []
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
        raise
    return _Answer(code=process.returncode, lines=(*out.splitlines(), *err.splitlines()))


def parse(lines: Sequence[str], code: int = 0, fields: Sequence[str] = FIELDS) -> Found:
    """Return the GPUs in nvidia-smi's *lines*; all other lines are trouble, never parsed."""
    row = re.compile(", ".join(f"({_VALUES[name]})" for name in fields))
    matches = [(line, row.fullmatch(line.strip())) for line in lines if line.strip()]
    gpus = tuple(
        _gpu(dict(zip(fields, match.groups(), strict=True))) for _, match in matches if match
    )
    others = [_printable(line) for line, match in matches if not match]
    errors = [line for line in others if not _is_warning(line)]
    trouble = next(iter((*errors, *others)), "")
    if code and not trouble:
        trouble = f"exit code {code}"
    return Found(gpus=gpus, trouble=trouble)


def _gpu(values: dict[str, str]) -> Gpu:
    known = {name: value for name, value in values.items() if not value.startswith("[")}
    memory = {name: int(known[name]) for name in ("memory.total", "memory.used") if name in known}
    return Gpu(
        index=int(values["index"]),
        name=values["name"],
        driver=values["driver_version"],
        capability=known.get("compute_cap", ""),
        uuid=known.get("uuid", ""),
        mig=known.get("mig.mode.current") == "Enabled",
        memory_mib=memory.get("memory.total"),
        used_mib=memory.get("memory.used"),
    )


def with_instances(gpus: Sequence[Gpu], lines: Sequence[str]) -> tuple[Gpu, ...]:
    """Return *gpus* with the MIG instances of `nvidia-smi -L` in place of a divided GPU."""
    instances = list(_instances(lines))
    divided: list[Gpu] = []
    for gpu in gpus:
        own = [
            dataclasses.replace(
                gpu, uuid=uuid, name=f"{gpu.name} MIG {profile}", memory_mib=None, used_mib=None
            )
            for parent, profile, uuid in instances
            if gpu.mig and parent == gpu.uuid
        ]
        divided += own or [gpu]
    return tuple(divided)


def _instances(lines: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield parent, profile and UUID of each MIG instance."""
    parent = ""
    for line in lines:
        if gpu := _PARENT.fullmatch(line.rstrip()):
            parent = gpu[1]
        elif instance := _INSTANCE.fullmatch(line.rstrip()):
            yield parent, instance[1], instance[2]


def _is_warning(line: str) -> bool:
    return line.upper().startswith("WARNING")


def _printable(line: str) -> str:
    """Return *line* for a message: one line, not longer than a paragraph."""
    return "".join(c if c.isprintable() else " " for c in line).strip()[:300]
