"""
Write the image's contents to files, which the host reads without starting a container.

Usage: describe.py VARIANT SBOM FOLDER. VARIANT is cuda12, cuda13 or cpu. SBOM is
CycloneDX JSON of the Python packages; the Debian packages are added to it.
"""

import importlib.metadata
import json
import platform
import re
import sys
from pathlib import Path

NAMED = ("fastai", "torch", "torchvision", "wandb", "accelerate", "numpy")
DPKG = Path("/var/lib/dpkg/status")
DOCS = Path("/usr/share/doc")
LICENSE_SHOWN = 60
LICENSE_CLASSIFIER = "License :: OSI Approved :: "


def main(variant: str, sbom: Path, folder: Path) -> None:
    """Write both files. Refuse a torch of another variant, which a pip configuration can cause."""
    import torch

    if (torch.version.cuda is None) != (variant == "cpu"):
        sys.exit(f"torch {torch.__version__} (CUDA {torch.version.cuda}) is not for {variant}.")
    python, debian = python_packages(), debian_packages()
    versions = {package["name"]: package["version"] for package in python}
    facts = {
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        # get_arch_list() is empty without a GPU; this reads the build's own list.
        "architectures": torch._C._cuda_getArchFlags().split() if torch.version.cuda else [],
        "packages": {name: versions[name] for name in NAMED},
        "modules": modules(),
        "installed": python + debian,
    }
    write(folder / "image.json", facts)
    write(folder / "sbom.cdx.json", with_debian(json.loads(sbom.read_text()), debian))


def write(path: Path, value: object) -> None:
    """Write *value* as JSON."""
    path.write_text(json.dumps(value, indent=1) + "\n")


def python_packages() -> list[dict[str, object]]:
    """Return name, version, license and bytes on disk of every Python package, by name."""
    found = [
        {
            "kind": "python",
            "name": re.sub(r"[-_.]+", "-", d.metadata["Name"]).lower(),
            "version": d.version,
            "license": license_of(d.metadata),
            "bytes": sum(size(Path(str(file.locate()))) for file in d.files or ()),
        }
        for d in importlib.metadata.distributions()
    ]
    return sorted(found, key=lambda package: str(package["name"]))


def modules() -> list[str]:
    """Return the names of all top-level modules that packages have, in order."""
    return sorted(importlib.metadata.packages_distributions())


def size(path: Path) -> int:
    """Return a file's size in bytes; 0 if the image does not have the file."""
    return path.stat().st_size if path.is_file() else 0


def license_of(metadata: importlib.metadata.PackageMetadata) -> str:
    """Return the license: the SPDX expression, else the short field, else the classifiers."""
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression)
    field = str(metadata.get("License") or "").strip()
    if field and "\n" not in field and len(field) <= LICENSE_SHOWN:
        return field
    classifiers = metadata.get_all("Classifier") or []
    names = [c.removeprefix(LICENSE_CLASSIFIER) for c in classifiers if "License ::" in c]
    return "; ".join(names) or (field.splitlines()[0][:LICENSE_SHOWN] if field else "unknown")


def debian_packages() -> list[dict[str, object]]:
    """Return the same for every Debian package, from dpkg's status file."""
    found = []
    for block in DPKG.read_text().split("\n\n") if DPKG.is_file() else ():
        fields = dict(re.findall(r"^([A-Z][\w-]*): (.*)$", block, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            package = {
                "kind": "debian",
                "name": fields["Package"],
                "version": fields["Version"],
                "license": debian_license(fields["Package"]),
                "bytes": int(fields.get("Installed-Size", 0)) * 1024,
            }
            found.append(package)
    return sorted(found, key=lambda package: str(package["name"]))


def debian_license(name: str) -> str:
    """Return the licenses named in a package's copyright file, in order."""
    path = DOCS / name / "copyright"
    if not path.is_file():
        return "unknown"
    text = path.read_text(errors="replace")
    names = dict.fromkeys(re.findall(r"^License: *(\S.*?)\s*$", text, re.MULTILINE))
    return ", ".join(names)[:120] or f"see {path}"


def with_debian(sbom: dict[str, list[object]], debian: list[dict[str, object]]) -> object:
    """Return *sbom* with the Debian packages as components of type library."""
    added = [
        {
            "type": "library",
            "bom-ref": f"deb:{package['name']}",
            "name": package["name"],
            "version": package["version"],
            "purl": f"pkg:deb/debian/{package['name']}@{package['version']}",
        }
        for package in debian
    ]
    return {**sbom, "components": [*sbom.get("components", []), *added]}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
