"""`invoke audit`: known vulnerabilities of locked packages, and licenses in an image."""

import os
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from samerun.core.errors import LicenseUnknown, NotAudited, UsageError, Vulnerable
from samerun.host.checkout.project import Project
from samerun.host.image.inspect import Package

FILE = "audit.toml"
UNKNOWN = "unknown"
# Exit codes of uv: 0 no known vulnerability, 1 at least one, 2 the service did not respond.
CLEAN, FOUND = 0, 1


@dataclass(frozen=True, kw_only=True)
class Exemption:
    """A vulnerability that is exempt until a date, and why."""

    id: str
    why: str
    until: date


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """The file audit.toml: exemptions, and licenses by package."""

    exemptions: tuple[Exemption, ...]
    licenses: dict[str, str]


def read(path: Path) -> Allowed:
    """
    Read audit.toml.

    Raises:
        UsageError: It is not TOML, or an entry lacks a field.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        exemptions = tuple(_exemption(entry) for entry in raw.get("vulnerability", ()))
        licenses = {_field(e, "package"): _field(e, "license") for e in raw.get("license", ())}
    except (tomllib.TOMLDecodeError, KeyError, ValueError) as error:
        raise UsageError(
            f"Invalid {path.name}: {error}.", "Give each entry all fields of the file's example."
        ) from error
    return Allowed(exemptions=exemptions, licenses=licenses)


def _exemption(entry: dict[str, Any]) -> Exemption:
    if type(entry["until"]) is not date:
        raise ValueError(f"until = {entry['until']!r} is not a date such as 2027-03-31")
    return Exemption(id=_field(entry, "id"), why=_field(entry, "why"), until=entry["until"])


def _field(entry: dict[str, Any], field: str) -> str:
    if not str(entry.get("why", "")).strip():
        raise ValueError(f"{entry} has no field `why`")
    return str(entry[field])


def vulnerabilities(
    project: Project, say: Callable[[str], None], service: str | None = None
) -> None:
    """
    Query the vulnerability service for every package in uv.lock, by name and version only.

    Raises:
        Vulnerable: There is a known vulnerability without an exemption.
        NotAudited: The service could not be reached, so the result is unknown.
    """
    if shutil.which("uv") is None:
        raise NotAudited(
            "Not audited: `uv` is not installed.", "Install it with `pip install 'uv>=0.13'`."
        )
    allowed = read(project.root / FILE).exemptions
    today = datetime.now(UTC).date()
    for old in (entry for entry in allowed if entry.until < today):
        say(f"The exemption of {old.id} ended on {old.until} ({old.why}).")
    done = _ask(project, [entry.id for entry in allowed if entry.until >= today], service)
    output = f"{done.stdout.strip()}\n{done.stderr.strip()}".strip()
    if done.returncode == CLEAN:
        say(output)
    elif done.returncode == FOUND:
        raise Vulnerable(output, f"Run `invoke lock --upgrade`, or add an exemption to {FILE}.")
    else:
        raise NotAudited(
            f"Not audited: the vulnerability service could not be reached.\n{output}",
            "Check the network and try again, or pass a mirror of api.osv.dev with --service.",
        )


def _ask(
    project: Project, ignored: Sequence[str], service: str | None
) -> subprocess.CompletedProcess[str]:
    """Run `uv audit`, with one retry, so that it fails fast without a network."""
    command = ["uv", "audit", "--frozen", "--preview-features", "audit-command"]
    command += [word for name in ignored for word in ("--ignore", name)]
    command += ["--service-url", service] if service else []
    environment = {"UV_HTTP_RETRIES": "1", **os.environ}
    return subprocess.run(
        command, cwd=project.root, env=environment, capture_output=True, text=True, check=False
    )


def licenses(packages: Sequence[Package], allowed: Allowed) -> list[tuple[str, str, str]]:
    """
    Return package, version and license of all *packages*.

    Raises:
        LicenseUnknown: A package declares no license, and audit.toml has none for it.
    """
    rows = [(p.name, p.version, _license(p, allowed)) for p in packages]
    unknown = [f"{name} {version}" for name, version, text in rows if text == UNKNOWN]
    if unknown:
        raise LicenseUnknown(
            f"No license declared by {', '.join(unknown)}.",
            f"Look it up on the project's page, and add it to {FILE}.",
        )
    return rows


def _license(package: Package, allowed: Allowed) -> str:
    if package.license.strip().lower() in ("", UNKNOWN):
        return allowed.licenses.get(package.name, UNKNOWN)
    return package.license
