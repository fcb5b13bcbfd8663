"""
What a container sees of itself and of the machine below it, for a record of its own.

Every function returns a part of the record, and in sentences what of it can't be known from
inside: nothing is guessed.
"""

import json
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from samerun.core import content, contract, hardware, references
from samerun.core.errors import WrongImage
from samerun.core.placement import NodePlacement
from samerun.core.record import Base, Code, Data, Hardware, Image, Topology
from samerun.train.standalone.kubernetes import Answer

# What Docker names a container of its own accord.
RANDOM_NAME = re.compile(r"[0-9a-f]{12}")
DRIVER = Path("/proc/driver/nvidia")
DEVICES = Path("/dev")
# Longer than this, the reading of the data is announced while it goes on.
PATIENCE_S = 20.0

Unknown = tuple[str, ...]


def describe_image(
    variables: Mapping[str, str], facts: Mapping[str, Any], told: Answer
) -> tuple[Image, Unknown]:
    """
    Return the image; *facts* are those that lie in it, *told* is the cluster's answer.

    Raises:
        WrongImage: The cluster runs another image than was expected.
    """
    reference = variables.get(contract.ENV_IMAGE, "")
    named = references.by_digest(reference)
    expected = named[1] if named else ""
    if expected and told.digest and expected != told.digest:
        raise WrongImage(
            f"This container runs sha256:{told.digest}, and {contract.ENV_IMAGE} says {reference}.",
            "Write the file for the cluster again with `invoke cloud k8s`.",
        )
    digest = told.digest or expected
    image = Image(
        reference=reference,
        digest=digest,
        digest_kind="manifest",
        manifest_digest=f"sha256:{digest}" if digest else None,
        layers_digest="",
        repo_digests=(reference,) if named else (),
        store="unknown",
        platform=f"linux/{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(os.uname().machine, '') }",
        base=Base(reference=facts.get("base", ""), origin=facts.get("origin") or "unknown"),
        cuda=(facts.get("cuda") or "none").split(".")[0] if facts else None,
        lock=facts.get("lock"),
        packages=dict(facts.get("packages", {})),
        pull_reference=reference if named else None,
    )
    return image, tuple(_unknown_of_image(image, told, facts))


def _unknown_of_image(image: Image, told: Answer, facts: Mapping[str, Any]) -> Iterator[str]:
    if not image.digest:
        yield (
            f"the image's digest ({told.why_not}); "
            f"start it with -e {contract.ENV_IMAGE}=NAME@sha256:…"
        )
    elif not told.digest:
        yield f"whether the image is the one in {contract.ENV_IMAGE} ({told.why_not})"
    if not facts:
        yield f"what the image holds: {contract.IMAGE_FACTS} can't be read"


def image_facts() -> dict[str, Any]:
    """Return what the build wrote into the image about itself."""
    paths = (contract.IMAGE_FACTS, contract.BUILD_FACTS)
    return {name: value for path in paths for name, value in _json(path).items()}


def describe_code(target: str, commit: str) -> tuple[Code, Unknown]:
    """Return what runs; *commit* is as ``git describe --dirty`` would mark it."""
    is_script = target.endswith(".py")
    mounted = is_script and _is_mounted(Path(target))
    code = Code(
        kind="script" if is_script else "recipe",
        target=target,
        where="mounted" if mounted else "image",
        git_commit=commit.removesuffix("-dirty") or None,
        git_dirty=commit.endswith("-dirty") if commit else None,
    )
    unknown = [] if commit else ["the commit of the checkout"]
    if mounted:
        unknown.append(f"the code: {target} was mounted, so no image holds it")
    return code, tuple(unknown)


def _is_mounted(path: Path) -> bool:
    """Whether *path* comes from elsewhere than the image; the root itself is the image."""
    inner = (path, *path.parents[:-1])
    return any(os.path.ismount(place) for place in inner)


def describe_data(variables: Mapping[str, str]) -> tuple[tuple[Data, ...], Unknown]:
    """Return what lies in ``/data``, with the fingerprint of its content unless switched off."""
    folder, source = Path(contract.DATA), variables.get(contract.ENV_SOURCE, "")
    if not has_data():
        return (), ()
    lost = () if source else (f"where {contract.DATA} is from",)
    nothing = Data(
        source=source, target=contract.DATA, fingerprint=None, files=None, size_bytes=None
    )
    if variables.get(contract.ENV_FINGERPRINT) == "0":
        off = f"what {contract.DATA} holds: {contract.ENV_FINGERPRINT}=0, no fingerprint was taken"
        return (nothing,), (off, *lost)
    try:
        return (read_data(folder, source),), lost
    except OSError as error:
        return (nothing,), (f"what {contract.DATA} holds: {error}", *lost)


def read_data(folder: Path, source: str) -> Data:
    """
    Return the data in *folder* with their fingerprint, and say in a line what that took.

    Raises:
        OSError: A file can't be read.
    """
    began = time.monotonic()
    waiting = threading.Timer(PATIENCE_S, tell, [f"reading {folder} for its fingerprint; {_OFF}"])
    waiting.daemon = True
    waiting.start()
    try:
        files = content.files(folder)
        found = Data(
            source=source,
            target=str(folder),
            fingerprint=content.fingerprint(folder, files),
            files=len(files),
            size_bytes=content.size(files),
            seconds=round(time.monotonic() - began, 3),
        )
    finally:
        waiting.cancel()
    size = f"{found.files} files, {(found.size_bytes or 0) / 1e6:.1f} MB"
    tell(f"read {folder} for its fingerprint: {size}, {found.seconds:.1f} s")
    return found


_OFF = f"{contract.ENV_FINGERPRINT}=0 would leave that out"


def has_data() -> bool:
    """Whether anything is mounted as data."""
    folder = Path(contract.DATA)
    return folder.is_dir() and any(folder.iterdir())


def describe_hardware(engine: str, told: Answer) -> tuple[Hardware, Unknown]:
    """Return the machine, as the host's side would describe it."""
    host = told.node or _own_host(engine)
    seen = hardware.probe() if gpu_devices() else ()
    names = tuple(f"{gpu.name} ({gpu.capability})" for gpu in seen) or _named_by_driver()
    found = hardware.describe(seen, engine or "started by hand", host)
    made = Hardware(**{**vars(found), "gpus": names, "driver": found.driver or _driver()})
    unknown = [] if host else ["the name of the machine"]
    if gpu_devices() and not names:
        unknown.append("the GPUs' names: neither nvidia-smi nor the driver tells them")
    return made, tuple(unknown)


def _own_host(engine: str) -> str:
    """Return this machine's name; empty where it is only the container's or the pod's."""
    name = platform.node()
    return "" if engine == "kubernetes" or RANDOM_NAME.fullmatch(name) else name


def gpu_devices() -> int:
    """Return how many GPUs this container was given: the driver's files name the others too."""
    return len(list(DEVICES.glob("nvidia[0-9]*")))


def _named_by_driver() -> tuple[str, ...]:
    """Return the models without their capability: nvidia-smi is there only if asked for."""
    if not gpu_devices():
        return ()
    texts = (_read(path) for path in sorted(DRIVER.glob("gpus/*/information")))
    found = (re.search(r"^Model:\s*(.+?)\s*$", text, re.MULTILINE) for text in texts)
    names = tuple(model[1] for model in found if model)
    return names if len(names) == gpu_devices() else ()


def _driver() -> str | None:
    found = re.search(r"Module\s+(?:for \S+\s+)?([\d.]+)", _read(DRIVER / "version"))
    return found[1] if found and gpu_devices() else None


def describe_topology(procs: int, nodes: NodePlacement) -> Topology:
    """Return how many processes run on what; the GPUs are those that the container has."""
    return Topology(
        gpus=str(gpu_devices()),
        procs=procs,
        nodes=nodes.count,
        least_nodes=nodes.least,
        node_rank=nodes.rank,
        rendezvous=nodes.endpoint or None,
        shm_size=_shared_memory(),
        threads=hardware.threads_per_process(procs),
    )


def _shared_memory() -> str:
    """Return its size as Docker's option would have it."""
    if not Path("/dev/shm").is_dir():
        return "0"
    shm = os.statvfs("/dev/shm")
    gigabytes, rest = divmod(shm.f_blocks * shm.f_frsize // 2**20, 1024)
    return f"{gigabytes}g" if not rest else f"{gigabytes * 1024 + rest}m"


def tell(text: str) -> None:
    """Say one line beside the training's own output."""
    sys.stderr.write(f"samerun: {text}\n")


def _json(path: str) -> dict[str, Any]:
    try:
        found = json.loads(_read(Path(path)) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
