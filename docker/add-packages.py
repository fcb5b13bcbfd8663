"""
Add a project's packages, which the host has installed to a folder, to the image's environment.

Usage: add-packages.py FOLDER EPOCH. The result does not depend on the machine or the time: all
files have the time EPOCH, bytecode does not depend on file times, and what an installer notes
about itself is left out. The image's description and its bill of materials list the packages.
"""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import describe

FACTS = Path("/opt/samerun")
# Where an installer puts what is no module, beside the modules in FOLDER.
OF_PREFIX = ("bin", "share", "etc", "include", "man")
# They say when and how a package was installed.
LEFT_OUT = ("uv_cache.json", "direct_url.json", "REQUESTED")
AT_ONCE = 400


def main(folder: Path, epoch: int) -> None:
    """Replace, copy, compile, describe."""
    site, prefix = Path(sysconfig.get_path("purelib")), Path(sys.prefix)
    added = sorted(map(name_of, importlib.metadata.distributions(path=[str(folder)])))
    for one in importlib.metadata.distributions(path=[str(site)]):
        if name_of(one) in added:
            remove(one)
    files = [copy(folder, path, site, prefix) for path in sorted(folder.rglob("*"))]
    for path in site.glob("*.dist-info/RECORD"):
        if name_of(importlib.metadata.Distribution.at(path.parent)) in added:
            path.write_text("".join(map_record(path.read_text())))
    compile_all([path for path in files if path is not None and path.suffix == ".py"])
    write_facts(added)
    set_times(Path("/opt"), epoch)


def name_of(distribution: importlib.metadata.Distribution) -> str:
    """Return the normalized name."""
    return re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()


def remove(distribution: importlib.metadata.Distribution) -> None:
    """Remove a package of the image, which another version replaces."""
    for file in distribution.files or ():
        path = Path(str(distribution.locate_file(file)))
        path.unlink(missing_ok=True)
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()


def copy(folder: Path, path: Path, site: Path, prefix: Path) -> Path | None:
    """Copy a file to its place; return the place, or None if it is left out."""
    inside = path.relative_to(folder)
    is_left_out = path.name in LEFT_OUT or path.name == ".lock" or "__pycache__" in inside.parts
    if path.is_dir() or is_left_out:
        return None
    first = inside.parts[0]
    of_prefix = first in OF_PREFIX and not (folder / first / "__init__.py").exists()
    target = (prefix if of_prefix else site) / inside
    target.parent.mkdir(parents=True, exist_ok=True)
    content = path.read_bytes()
    line, _, rest = content.partition(b"\n")
    if of_prefix and first == "bin" and line.startswith(b"#!") and b"python" in line:
        # The installer has written the host's Python there.
        content = b"#!" + os.fsencode(sys.executable) + b"\n" + rest
    target.unlink(missing_ok=True)
    target.write_bytes(content)
    target.chmod(0o755 if path.stat().st_mode & 0o111 else 0o644)
    return target


def map_record(text: str) -> list[str]:
    """Return the lines of a RECORD without what lies elsewhere now, or is left out."""
    lines = sorted(text.splitlines(keepends=True))
    gone = tuple(f"{name}/" for name in OF_PREFIX)
    return [
        line
        for line in lines
        if not line.startswith((*gone, "../")) and not any(f"/{name}," in line for name in LEFT_OUT)
    ]


def compile_all(files: list[Path]) -> None:
    """Compile in a fixed order: bytecode depends on what the process has compiled before."""
    command = [sys.executable, "-ISm", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    parts = [files[at : at + AT_ONCE] for at in range(0, len(files), AT_ONCE)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # Some packages hold templates that are no valid Python.
        list(pool.map(lambda part: subprocess.run([*command, *map(str, part)], check=False), parts))


def write_facts(added: list[str]) -> None:
    """Describe the new contents of the image, as its build describes it."""
    python = describe.python_packages()
    facts = json.loads((FACTS / "image.json").read_text())
    debian = [one for one in facts["installed"] if one["kind"] != "python"]
    versions = {str(one["name"]): one["version"] for one in python}
    facts["installed"] = python + debian
    facts["modules"] = describe.modules()
    facts["packages"] = {
        name: versions[name] for name in dict.fromkeys([*facts["packages"], *added])
    }
    describe.write(FACTS / "image.json", facts)
    sbom = json.loads((FACTS / "sbom.cdx.json").read_text())
    others = [one for one in sbom["components"] if one["name"].lower() not in added]
    components = [
        {
            "type": "library",
            "bom-ref": f"{name}=={versions[name]}",
            "name": name,
            "version": versions[name],
            "purl": f"pkg:pypi/{name}@{versions[name]}",
        }
        for name in added
    ]
    describe.write(FACTS / "sbom.cdx.json", {**sbom, "components": [*others, *components]})


def set_times(folder: Path, epoch: int) -> None:
    """Set the time of everything that is new to the epoch; folders last."""
    for root, folders, names in os.walk(folder, topdown=False):
        for name in (*names, *folders):
            path = os.path.join(root, name)  # noqa: PTH118 - thousands of them
            if os.lstat(path).st_mtime > epoch:
                os.utime(path, (epoch, epoch), follow_symlinks=False)
    os.utime(folder, (epoch, epoch))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
