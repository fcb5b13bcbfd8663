"""
What a standalone container can find out about itself and its machine, for its record.

Every function returns a part of the record, and sentences that list what it could not find out.
"""

import json
import os
import platform
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from samerun.core import content, contract, data_names, hardware, references, tree
from samerun.core.errors import DataError, WrongImage
from samerun.core.placement import NodePlacement
from samerun.core.record import Base, Code, Data, Hardware, Image, Topology
from samerun.train.standalone.kubernetes import Answer

# Docker's default host name of a container.
RANDOM_NAME = re.compile(r"[0-9a-f]{12}")
DRIVER = Path("/proc/driver/nvidia")
DEVICES = Path("/dev")
NAMED_SOURCE = re.compile(rf"(?P<name>{data_names.NAME.pattern})=(?P<place>.+)")

# After this time, a line announces that the data is still being read.
PATIENCE_S = 20.0

Unknown = tuple[str, ...]


def describe_image(
    variables: Mapping[str, str], facts: Mapping[str, Any], answer: Answer
) -> tuple[Image, Unknown]:
    """
    Return the image; *facts* are from its files, *answer* is the cluster's answer.

    Raises:
        WrongImage: The running image is not the expected one.
    """
    reference = variables.get(contract.ENV_IMAGE, "")
    named = references.by_digest(reference)
    expected = named[1] if named else ""
    if expected and answer.digest and expected != answer.digest:
        raise WrongImage(
            f"This container runs sha256:{answer.digest}, but {contract.ENV_IMAGE} is {reference}.",
            "Rewrite the file for the cluster with `invoke cloud k8s`.",
        )
    digest = answer.digest or expected
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
    return image, tuple(_unknown_of_image(image, answer, facts))


def _unknown_of_image(image: Image, answer: Answer, facts: Mapping[str, Any]) -> Iterator[str]:
    if not image.digest:
        yield (
            f"the image's digest ({answer.why_not}); "
            f"start it with -e {contract.ENV_IMAGE}=NAME@sha256:…"
        )
    elif not answer.digest:
        yield f"whether the image is the one in {contract.ENV_IMAGE} ({answer.why_not})"
    if not facts:
        yield f"the image's contents: {contract.IMAGE_FACTS} can't be read"


def image_facts() -> dict[str, Any]:
    """Return the facts that the build wrote to the image."""
    paths = (contract.IMAGE_FACTS, contract.BUILD_FACTS)
    return {name: value for path in paths for name, value in _json(path).items()}


def describe_code(target: str, commit: str) -> tuple[Code, Unknown]:
    """Return the code; *commit* ends with ``-dirty`` if the checkout had changes."""
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
        unknown.append(f"the code: {target} was mounted, so it is not in the image")
    return code, tuple(unknown)


def _is_mounted(path: Path) -> bool:
    """Whether *path* is on a mount, not in the image."""
    inner = (path, *path.parents[:-1])
    return any(os.path.ismount(place) for place in inner)


def describe_data(
    variables: Mapping[str, str], worth_reading: Callable[[], bool] = lambda: True
) -> tuple[tuple[Data, ...], Unknown]:
    """
    Return the data in ``/data``, with its fingerprint unless that is turned off.

    It is not read unless *worth_reading*: without its GPUs, the training will not start.

    Raises:
        DataError: It has pointers of Git LFS instead of files.
    """
    why = ""
    if variables.get(contract.ENV_FINGERPRINT) == "0":
        why = f"turned off with {contract.ENV_FINGERPRINT}=0"
    elif data_folders() and not worth_reading():
        why = "not read, because the GPUs do not work"
    sources = _sources(variables.get(contract.ENV_SOURCE, ""))
    found = [_describe(folder, sources, why) for folder in data_folders()]
    return tuple(data for data, _ in found), tuple(text for _, texts in found for text in texts)


def _sources(text: str) -> dict[str, str]:
    """Return where data comes from, by its path: ``s3://b``, or ``one=s3://a two=s3://b``."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    named = [NAMED_SOURCE.fullmatch(word) for word in words]
    if named and all(named):
        return {data_names.target(word["name"]): word["place"] for word in named if word}
    return {contract.DATA: text} if text else {}


def _describe(folder: Path, sources: Mapping[str, str], why_unread: str) -> tuple[Data, Unknown]:
    source = sources.get(str(folder), "")
    no_source = () if source else (f"where {folder} comes from",)
    unread = Data(source=source, target=str(folder), fingerprint=None, files=None, size_bytes=None)
    if why_unread:
        return unread, (f"the fingerprint of {folder}: {why_unread}", *no_source)
    try:
        return read_data(folder, source), no_source
    except OSError as error:
        return unread, (f"the fingerprint of {folder}: {error}", *no_source)


def read_data(folder: Path, source: str) -> Data:
    """
    Return the data in *folder* with its fingerprint, and print the time it took.

    Raises:
        OSError: A file can't be read.
        DataError: A file is a pointer of Git LFS.
    """
    began = time.monotonic()
    waiting = threading.Timer(
        PATIENCE_S, tell, [f"reading {folder} to compute its fingerprint; {_OFF}"]
    )
    waiting.daemon = True
    waiting.start()
    try:
        found = tree.scan(folder)
        _refuse_pointers(found.files)
        data = Data(
            source=source,
            target=str(folder),
            fingerprint=content.fingerprint(found),
            files=len(found.files),
            size_bytes=content.size(found.files),
            seconds=round(time.monotonic() - began, 3),
        )
    finally:
        waiting.cancel()
    size = f"{data.files} files, {(data.size_bytes or 0) / 1e6:.1f} MB"
    tell(f"read {folder} to compute its fingerprint: {size}, {data.seconds:.1f} s")
    return data


_OFF = f"{contract.ENV_FINGERPRINT}=0 skips this"


def _refuse_pointers(files: Sequence[Path]) -> None:
    pointer = next((path for path in files if content.is_pointer(path)), None)
    if pointer is not None:
        raise DataError(
            f"{pointer} is a pointer of Git LFS instead of the file itself.",
            "Run `git lfs pull` in the folder that is mounted.",
        )


def has_data() -> bool:
    """Whether anything is mounted as data."""
    return bool(data_folders())


def data_folders() -> list[Path]:
    """Return the folders of data: the mounts in ``/data``, or else ``/data`` if it has anything."""
    top = Path(contract.DATA)
    if not top.is_dir():
        return []
    entries = sorted(top.iterdir())
    named = [entry for entry in entries if entry.is_dir() and os.path.ismount(entry)]
    if named and not os.path.ismount(top):
        return named
    return [top] if entries else []


def describe_hardware(engine: str, answer: Answer) -> tuple[Hardware, Unknown]:
    """Return the machine, as the host would describe it."""
    host = answer.node or _own_host(engine)
    seen = hardware.probe() if gpu_devices() else ()
    names = tuple(gpu.label for gpu in seen) or _named_by_driver()
    base = hardware.describe(seen, engine or "started by hand", host)
    machine = Hardware(**{**vars(base), "gpus": names, "driver": base.driver or _driver()})
    unknown = [] if host else ["the name of the machine"]
    if gpu_devices() and not names:
        unknown.append("the GPUs' names: neither nvidia-smi nor the driver's files have them")
    return machine, tuple(unknown)


def _own_host(engine: str) -> str:
    """Return this machine's name; empty if only the container's or pod's name is visible."""
    name = platform.node()
    return "" if engine == "kubernetes" or RANDOM_NAME.fullmatch(name) else name


def gpu_devices() -> int:
    """Return the number of GPUs in this container; the driver's files list others too."""
    return len(list(DEVICES.glob("nvidia[0-9]*")))


def _named_by_driver() -> tuple[str, ...]:
    """Return the models, without capability, for a container without nvidia-smi."""
    if not gpu_devices():
        return ()
    texts = (_read(path) for path in sorted(DRIVER.glob("gpus/*/information")))
    matches = (re.search(r"^Model:\s*(.+?)\s*$", text, re.MULTILINE) for text in texts)
    names = tuple(match[1] for match in matches if match)
    return names if len(names) == gpu_devices() else ()


def _driver() -> str | None:
    match = re.search(r"Module\s+(?:for \S+\s+)?([\d.]+)", _read(DRIVER / "version"))
    return match[1] if match and gpu_devices() else None


def describe_topology(procs: int, nodes: NodePlacement) -> Topology:
    """Return the number of processes, and of the GPUs: as asked for, else in the container."""
    return Topology(
        gpus=os.environ.get(contract.ENV_GPUS) or str(gpu_devices()),
        procs=procs,
        nodes=nodes.count,
        least_nodes=nodes.least,
        node_rank=nodes.rank,
        rendezvous=nodes.endpoint or None,
        shm_size=_shared_memory(),
        threads=hardware.threads_per_process(procs),
    )


def _shared_memory() -> str:
    """Return the size of shared memory in Docker's syntax."""
    if not Path("/dev/shm").is_dir():
        return "0"
    shm = os.statvfs("/dev/shm")
    gigabytes, rest = divmod(shm.f_blocks * shm.f_frsize // 2**20, 1024)
    return f"{gigabytes}g" if not rest else f"{gigabytes * 1024 + rest}m"


def tell(text: str) -> None:
    """Print one line to stderr."""
    sys.stderr.write(f"samerun: {text}\n")


def _json(path: str) -> dict[str, Any]:
    try:
        value = json.loads(_read(Path(path)) or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
