"""
The record of a container that the kit's host side did not start; see docs/contract.md.

The first process writes it, starts the entry again below itself, passes signals on, and
completes the record. It is PID 1 as a rule, so it also buries orphans.
"""

import dataclasses
import json
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from samerun import contract, record
from samerun.errors import OutputError, WrongImage
from samerun.record import Base, Code, Hardware, Image, Outcome, Run, Topology
from samerun.train import cluster
from samerun.train.nodes.place import Nodes

BY_DIGEST = re.compile(r"[^@]+@sha256:([0-9a-f]{64})")
ENDED = ("finished", "failed")
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """What the entry was called with."""

    argv: tuple[str, ...]
    target: str
    arguments: tuple[str, ...]
    procs: int
    seed: int
    nodes: Nodes


def is_needed(folder: Path = Path(contract.OUTPUT)) -> bool:
    """Whether no host side keeps a record, and one can be kept here; says so if it can't."""
    if contract.ENV_RECORD in os.environ:
        return False
    if folder.is_dir() and os.access(folder, os.W_OK):
        return True
    _tell(f"{folder} can't be written, so this run has no record; mount a folder there.")
    return False


def run(start: Start, folder: Path = Path(contract.OUTPUT)) -> int:
    """
    Train below this process, with a record in *folder*; return the training's exit code.

    Raises:
        WrongImage: Another image runs than was told, or than the record's run began with.
        OutputError: The record in *folder* is of a run that has ended.
    """
    made = begin(start, folder)
    for sentence in made.unknown:
        _tell(f"not known: {sentence}")
    if start.nodes.rank:
        # The first machine keeps the record; the others only say who they are.
        record.report(folder, f"node-{start.nodes.rank}", _node(start.nodes, made.image))
    else:
        record.write(folder, made)
    code = supervise([sys.executable, "-m", "samerun.train", *start.argv], _variables(made, folder))
    if not start.nodes.rank:
        record.write(folder, record.assemble(folder, ended(made, code)))
    return code


def begin(start: Start, folder: Path) -> Run:
    """Return the record of this start: a new one, or the next start of the one in *folder*."""
    digest, why_not = cluster.running_digest()
    image, unknown = describe_image(os.environ, _facts(), digest, why_not)
    made = _new(start, image, unknown)
    if not (folder / contract.RECORD).is_file() or start.nodes.rank:
        return made
    return _again(record.read(folder), made)


def describe_image(
    variables: Mapping[str, str], facts: Mapping[str, Any], running: str, why_not: str
) -> tuple[Image, tuple[str, ...]]:
    """
    Return the image as far as it is known, and what is not known of it.

    *running* is the digest that the cluster names, else *why_not* says why there is none.
    """
    reference = variables.get(contract.ENV_IMAGE, "")
    told = BY_DIGEST.fullmatch(reference)
    expected = told[1] if told else ""
    if expected and running and expected != running:
        raise WrongImage(
            f"This container runs sha256:{running}, and {contract.ENV_IMAGE} says {reference}.",
            "Write the file for the cluster again with `invoke cloud k8s`.",
        )
    image = Image(
        reference=reference,
        digest=running or expected,
        digest_kind="manifest",
        manifest_digest=f"sha256:{running or expected}" if running or expected else None,
        layers_digest="",
        store="containerd",
        platform=f"linux/{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(os.uname().machine, '') }",
        base=Base(reference="", origin="unknown"),
        cuda=(facts.get("cuda") or "none").split(".")[0] if facts else None,
        packages=dict(facts.get("packages", {})),
        pull_reference=reference if told else None,
    )
    return image, tuple(_unknown_of_image(expected, running, why_not, facts))


def _unknown_of_image(
    expected: str, running: str, why_not: str, facts: Mapping[str, Any]
) -> Iterable[str]:
    if not expected and not running:
        yield (
            f"the image's digest ({why_not}); start it with -e {contract.ENV_IMAGE}=NAME@sha256:…"
        )
    elif not running:
        yield f"whether the image is the one in {contract.ENV_IMAGE} ({why_not})"
    if not facts:
        yield f"what the image holds: {contract.IMAGE_FACTS} can't be read"


def _new(start: Start, image: Image, unknown: tuple[str, ...]) -> Run:
    now = record.now()
    commit = os.environ.get(contract.ENV_COMMIT)
    return Run(
        name=os.environ.get(contract.ENV_RUN) or _name(start.target),
        image=image,
        code=Code(
            kind="script" if start.target.endswith(".py") else "recipe",
            target=start.target,
            where="mounted" if os.path.ismount(contract.CODE) else "image",
            git_commit=commit,
        ),
        command=(start.target, *start.arguments),
        arguments=start.argv,
        seed=start.seed,
        topology=_topology(start),
        secrets=_secrets(),
        hardware=_hardware(),
        outcome=Outcome(created=now, started=now, state="running"),
        starts=({"started": now},),
        written_by="container",
        unknown=(*unknown, *_unknown_of_run(commit)),
    )


def _name(target: str) -> str:
    return f"{Path(target).stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def _unknown_of_run(commit: str | None) -> Iterable[str]:
    if not commit:
        yield "the commit of the checkout"
    if _has_data():
        yield f"what {contract.DATA} holds: no fingerprint was taken"


def _again(before: Run, made: Run) -> Run:
    """Return the record *before* with one start more; refuse what can't be gone on with."""
    if before.outcome.state in ENDED:
        raise OutputError(
            f"{contract.OUTPUT} holds the run {before.name}, which has {before.outcome.state}.",
            "Mount another folder.",
        )
    if before.image.digest != made.image.digest:
        raise WrongImage(
            f"The run {before.name} began in sha256:{before.image.digest or '?'}, and this is "
            f"sha256:{made.image.digest or '?'}.",
            "Start it in its own image, or mount another folder.",
        )
    restarts = before.outcome.restarts + 1
    again = dataclasses.replace(before, starts=(*before.starts, *made.starts), unknown=made.unknown)
    return again.with_outcome(
        state="running", restarts=restarts, exit_code=None, reason=None, ended=None
    )


def ended(run: Run, code: int) -> Run:
    """Return *run* with how it ended, as the host side would have put it."""
    states = {0: "finished", contract.EXIT_PREEMPTED: "preempted"}
    killed = {128 + int(s): s.name for s in (signal.SIGKILL, signal.SIGTERM)}
    now = record.now()
    begun = datetime.fromisoformat(run.starts[-1]["started"])
    return run.with_outcome(
        state=states.get(code, "killed" if code in killed else "failed"),
        exit_code=code,
        reason=killed.get(code),
        ended=now,
        duration_s=round((datetime.fromisoformat(now) - begun).total_seconds(), 3),
    )


def supervise(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run *command*, pass signals on to it, bury orphans; return its code, 128 + n for signals."""
    child = subprocess.Popen(command, env=os.environ | variables)
    for number in PASSED_ON:
        signal.signal(number, lambda received, _frame: _send(child.pid, received))
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child.pid:
            code = os.waitstatus_to_exitcode(status)
            # Else Popen would wait for a process that is gone.
            child.returncode = code
            return 128 - code if code < 0 else code


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _variables(run: Run, folder: Path) -> dict[str, str]:
    """Return what the host side would have set for the training."""
    known = {"WANDB_DOCKER": run.image.reference, "WANDB_NAME": run.name}
    if not run.secrets:
        known["WANDB_MODE"] = "offline"
    if _has_data():
        known[contract.ENV_DATA] = contract.DATA
    unset = {name: value for name, value in known.items() if value and not os.environ.get(name)}
    return unset | {contract.ENV_RECORD: str(folder / contract.RECORD)}


def _topology(start: Start) -> Topology:
    shm = os.statvfs("/dev/shm") if Path("/dev/shm").is_dir() else None
    return Topology(
        gpus=str(len(list(Path("/dev").glob("nvidia[0-9]*")))),
        procs=start.procs,
        nodes=start.nodes.count,
        shm_size=f"{shm.f_blocks * shm.f_frsize // 2**20}m" if shm else "0",
        threads=max(1, len(os.sched_getaffinity(0)) // start.procs),
    )


def _hardware() -> Hardware:
    cpu = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    driver = re.search(r"Module\s+([\d.]+)", _read("/proc/driver/nvidia/version"))
    return Hardware(
        cpu=cpu[1] if cpu else platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=platform.release(),
        engine=os.environ.get(contract.ENV_ENGINE) or "started by hand",
        driver=driver[1] if driver else None,
    )


def _node(nodes: Nodes, image: Image) -> dict[str, Any]:
    return {"rank": nodes.rank, "of": nodes.count, "host": platform.node(), "digest": image.digest}


def _secrets() -> tuple[str, ...]:
    """Return the name of the key where one is there: in a variable, or as a netrc file."""
    netrc = Path(os.environ.get("NETRC", contract.NETRC))
    found = os.environ.get("WANDB_API_KEY") or os.access(netrc, os.R_OK)
    return ("WANDB_API_KEY",) if found else ()


def _has_data() -> bool:
    folder = Path(contract.DATA)
    return folder.is_dir() and any(folder.iterdir())


def _facts() -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(_read(contract.IMAGE_FACTS) or "{}")
    except ValueError:
        return {}
    return facts


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _tell(text: str) -> None:
    sys.stderr.write(f"samerun: {text}\n")
