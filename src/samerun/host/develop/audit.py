"""`invoke audit`: known vulnerabilities of the locked packages, and licenses of an image's."""

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
# uv's own: 0 nothing is known, 1 something is, 2 it could not be asked.
CLEAN, FOUND = 0, 1


@dataclass(frozen=True, kw_only=True)
class Exemption:
    """A vulnerability that is let pass until a day, and why."""

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
        UsageError: It is no TOML, or an entry lacks a field.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        exemptions = tuple(_exemption(entry) for entry in raw.get("vulnerability", ()))
        licenses = {_said(e, "package"): _said(e, "license") for e in raw.get("license", ())}
    except (tomllib.TOMLDecodeError, KeyError, ValueError) as error:
        raise UsageError(
            f"{path.name} can't be used: {error}.", "Each entry needs all fields of its example."
        ) from error
    return Allowed(exemptions=exemptions, licenses=licenses)


def _exemption(entry: dict[str, Any]) -> Exemption:
    if type(entry["until"]) is not date:
        raise ValueError(f"until = {entry['until']!r} is no day, such as 2027-03-31")
    return Exemption(id=_said(entry, "id"), why=_said(entry, "why"), until=entry["until"])


def _said(entry: dict[str, Any], field: str) -> str:
    if not str(entry.get("why", "")).strip():
        raise ValueError(f"{entry} does not say why")
    return str(entry[field])


def vulnerabilities(
    project: Project, say: Callable[[str], None], service: str | None = None
) -> None:
    """
    Ask about every package of uv.lock, by name and version only.

    Raises:
        Vulnerable: Something is known and not let pass.
        NotAudited: Nobody could be asked; nothing is known then, good or bad.
    """
    if shutil.which("uv") is None:
        raise NotAudited("Not audited: `uv` is not installed.", "pip install 'uv>=0.13'")
    allowed = read(project.root / FILE).exemptions
    today = datetime.now(UTC).date()
    for old in (entry for entry in allowed if entry.until < today):
        say(f"{old.id} counts again: it was let pass until {old.until} ({old.why}).")
    done = _ask(project, [entry.id for entry in allowed if entry.until >= today], service)
    said = f"{done.stdout.strip()}\n{done.stderr.strip()}".strip()
    if done.returncode == CLEAN:
        say(said)
    elif done.returncode == FOUND:
        raise Vulnerable(said, f"Run `invoke lock --upgrade`, or say why not in {FILE}.")
    else:
        raise NotAudited(
            f"Not audited: nobody could be asked.\n{said}",
            "Try again with a network, or name a mirror of api.osv.dev by --service.",
        )


def _ask(
    project: Project, ignored: Sequence[str], service: str | None
) -> subprocess.CompletedProcess[str]:
    """Run `uv audit`; retries would only add seconds where there is no network."""
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
        LicenseUnknown: One names none, and audit.toml does not either.
    """
    rows = [(p.name, p.version, _license(p, allowed)) for p in packages]
    unknown = [f"{name} {version}" for name, version, found in rows if found == UNKNOWN]
    if unknown:
        raise LicenseUnknown(
            f"No license is known of {', '.join(unknown)}.",
            f"Look it up at the project's page, and name it in {FILE}.",
        )
    return rows


def _license(package: Package, allowed: Allowed) -> str:
    if package.license.strip().lower() in ("", UNKNOWN):
        return allowed.licenses.get(package.name, UNKNOWN)
    return package.license
