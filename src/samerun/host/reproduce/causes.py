"""The inputs and the hardware of two runs as text, and likely causes of a difference."""

from collections.abc import Iterator
from typing import Any

from samerun.core import contract, result_variables
from samerun.core.record import Run, fingerprints
from samerun.host.image.identity import same_image

# Fields of the record's environment that name a version.
VERSIONS = ("python", "torch", "cuda", "cudnn", "nccl")


def of(original: Run, again: Run) -> Iterator[str]:
    """Yield the likely causes of a different result, the most likely first."""
    a, b = original, again
    if same_image(a.image, b.image) is False:
        yield "different images"
    if "mounted" in (a.code.where, b.code.where):
        yield "mounted code, which no image holds"
    yield from _data(a, b)
    if topology(a) != topology(b):
        yield f"different seed or topology: {topology(a)} and {topology(b)}"
    if "fast" in (a.determinism, b.determinism):
        yield "--fast, which turns off the expensive determinism settings"
    yield from _machine(a, b)
    if threads(a) != threads(b):
        yield f"different threads: {threads(a)} and {threads(b)}"
    one, two = variables(a), variables(b)
    if one is not None and two is not None and one != two:
        yield f"different variables: {_named(one)} and {_named(two)}"
    if None not in (versions(a), versions(b)) and versions(a) != versions(b):
        yield f"different versions: {versions(a)} and {versions(b)}"
    if a.outcome.restarts or b.outcome.restarts:
        yield "a restart from a checkpoint"
    yield from _program(a, b)


def _program(a: Run, b: Run) -> Iterator[str]:
    """Yield what the training itself may do differently each time."""
    names = nondeterministic(a, b)
    if names:
        yield f"operations without a deterministic implementation: {', '.join(names)}"
    if given_alike(a, b):
        operation = "" if names else "an operation without a deterministic implementation, "
        yield (
            f"no recorded input differs: {operation}code that reads the clock or the network, or "
            "a record that was changed"
        )


def given_alike(a: Run, b: Run) -> bool:
    """Whether all recorded inputs of the two runs are the same."""
    pairs = [(f(a), f(b)) for f in (data, code, topology, threads, hardware, variables)]
    known = None not in (data(a), data(b)) and same_image(a.image, b.image) is True
    is_plain = "fast" not in (a.determinism, b.determinism) and a.code.where == "image"
    same_gpus = not _differ(uuids(a), uuids(b)) and not _differ(peers(a), peers(b))
    return known and is_plain and same_gpus and all(x == y for x, y in pairs)


def _data(a: Run, b: Run) -> Iterator[str]:
    if None in (data(a), data(b)):
        yield "the data, which has no recorded fingerprint"
    elif data(a) != data(b):
        yield f"different data{_names(a, b)}"


def _names(a: Run, b: Run) -> str:
    """Return which of several data folders differ; empty if there is one."""
    one, two = ({entry.name: entry.fingerprint for entry in run.data} for run in (a, b))
    names = sorted(name for name in one | two if name and one.get(name) != two.get(name))
    return f": {', '.join(names)}" if names else ""


def _machine(a: Run, b: Run) -> Iterator[str]:
    if a.hardware.gpus != b.hardware.gpus:
        yield f"different GPUs: {_list(a.hardware.gpus)} and {_list(b.hardware.gpus)}"
    elif _differ(uuids(a), uuids(b)):
        yield f"other GPUs of the same model: {_list(uuids(a))} and {_list(uuids(b))}"
    if _differ(peers(a), peers(b)):
        yield f"different links between the GPUs: {peers(a)} and {peers(b)}"
    if a.hardware.driver != b.hardware.driver:
        yield f"different drivers: {a.hardware.driver} and {b.hardware.driver}"
    one, two = capability(a), capability(b)
    if None not in (one, two) and one != two:
        yield f"different CPU capabilities: {one} and {two}"
    if a.hardware.cpu != b.hardware.cpu:
        yield f"different CPUs: {a.hardware.cpu} and {b.hardware.cpu}"


def _differ(one: object, two: object) -> bool:
    """Whether both are known and differ."""
    return bool(one and two and one != two)


def uuids(run: Run) -> tuple[str, ...]:
    """Return the UUIDs of the GPUs that were used; empty if they are unknown."""
    found = [gpu.get("uuid") for gpu in _dicts(run.environment.get("gpus"))]
    return tuple(str(uuid) for uuid in found) if all(found) else ()


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def peers(run: Run) -> str | None:
    """Return the pairs of GPUs that read each other's memory; None if that is unknown."""
    pairs = run.environment.get("peer_access")
    if not isinstance(pairs, list):
        return None
    return ", ".join("-".join(map(str, p)) for p in pairs if isinstance(p, list)) or "none"


def nondeterministic(*runs: Run) -> list[str]:
    """Return the operations of *runs* of which torch warned that they can differ."""
    lists = [run.environment.get(contract.NONDETERMINISTIC) for run in runs]
    return sorted({str(name) for names in lists if isinstance(names, list) for name in names})


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"


def code(run: Run) -> str:
    """Return the command, and where its source code was."""
    commit = f" at {run.code.git_commit[:12]}" if run.code.git_commit else ""
    patch = f" {run.code.patch_sha256[:12]}" if run.code.patch_sha256 else ""
    changed = f" with changes{patch}" if run.code.git_dirty else ""
    place = "in the image" if run.code.where == "image" else "mounted"
    return f"{' '.join(run.command)}, {place}{commit}{changed}"


def data(run: Run) -> str | None:
    """Return the fingerprint of the data; None if one is missing."""
    known = fingerprints(run.data)
    return "none mounted" if known == "" else known


def topology(run: Run) -> str:
    """Return seed, processes and the mode of determinism."""
    shape = run.topology
    device = "CPU" if shape.gpus == "0" else "GPU"
    nodes = f" on {shape.nodes} nodes" if shape.nodes > 1 else ""
    if len({len(one.nodes) for one in run.rounds}) > 1:
        nodes += ", some only for a part of the time"
    mode = ", --fast" if run.determinism == "fast" else ""
    return f"seed {run.seed}, {shape.world_size} on {device}{nodes}{mode}"


def hardware(run: Run) -> str:
    """Return the parts of the machine that results may depend on."""
    parts = [*run.hardware.gpus]
    if run.hardware.driver:
        parts.append(f"driver {run.hardware.driver}")
    parts.append(run.hardware.cpu)
    if capability(run):
        parts.append(str(capability(run)))
    return ", ".join(parts)


def capability(run: Run) -> str | None:
    """Return the instruction set that torch used on the CPU."""
    value = run.environment.get("cpu_capability")
    return str(value) if value else None


def threads(run: Run) -> str:
    """Return the number of threads per process."""
    return str(number_of_threads(run))


def variables(run: Run) -> dict[str, str] | None:
    """Return the variables on which results depend, but threads; None if unknown."""
    seen = run.environment.get("variables")
    if not isinstance(seen, dict):
        return None
    values = result_variables.among(seen)
    return {name: values[name] for name in sorted(values) if name != result_variables.THREADS}


def _named(values: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items()) or "none"


def number_of_threads(run: Run) -> int | None:
    """
    Return the number of threads that the training used; None if unknown.

    The container's value has precedence, because the host's ignores limits on the container.
    """
    variables = run.environment.get("variables")
    variable = variables.get("OMP_NUM_THREADS") if isinstance(variables, dict) else None
    numbers = map(_number, (variable, run.environment.get("threads"), run.topology.threads))
    return next((number for number in numbers if number), None)


def _number(value: Any) -> int:
    """Return *value*, an integer or its decimal text, as an integer; 0 for anything else."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() else 0
    return value if isinstance(value, int) else 0


def versions(run: Run) -> str | None:
    """Return the versions in the record's environment; None if there are none."""
    names = [f"{name} {run.environment[name]}" for name in VERSIONS if run.environment.get(name)]
    return ", ".join(names) or None
