"""
Lint the prose: ``python docs/prose.py [FILES]`` in the root of the repository.

proselint reads the documents, with its own checks and with the phrases that
docs/prose.toml refuses. Code is left out: proselint does not know Markdown.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from proselint.checks import __register__ as proselints
from proselint.config import Config, load_from
from proselint.registry import CheckRegistry
from proselint.registry.checks import Check, CheckFlags, types
from proselint.registry.checks.engine import Fancy, RegexOptions
from proselint.tools import LintFile

ROOT = Path(__file__).resolve().parents[1]
RULES = tomllib.loads((ROOT / "docs" / "prose.toml").read_text(encoding="utf-8"))
_CODE = re.compile(r"^ *(```|~~~).*?^ *\1|`[^`]+`", re.MULTILINE | re.DOTALL)
# Neither a letter nor a space, so that words on both sides of code are no neighbors.
_FILLER = "·"


def main(names: list[str]) -> int:
    """Print the faults of the files *names*, or of all that the rules name; 1 if there are any."""
    register()
    paths = named("prose") | named("phrases")
    if names:
        paths &= {Path(name).resolve() for name in names}
    faults = [
        f"{path.relative_to(ROOT)}:{fault}"
        for path in sorted(paths)
        for fault in lint(path.read_text(encoding="utf-8"), _checks(path), path.suffix)
    ]
    sys.stdout.writelines(f"{fault}\n" for fault in faults)
    return int(bool(faults))


def register() -> None:
    """Make proselint's checks known to it, and ours."""
    ours = (_refusal(pattern, instead) for pattern, instead in RULES["refused"].items())
    CheckRegistry().register_many((*proselints, *ours))


def _refusal(pattern: str, instead: str) -> Check:
    return Check(
        check_type=types.ExistenceSimple(pattern.replace(" ", r"\s+")),
        engine=Fancy(RegexOptions(multi_line=True)),
        path="phrases",
        message=f"'{{}}': write {instead}.",
        flags=CheckFlags(allow_quotes=True),
    )


def named(kind: str) -> set[Path]:
    """Return the files that the rules name for *kind*: ``prose`` or ``phrases``."""
    return {path for pattern in RULES[kind] for path in ROOT.glob(pattern)}


def _checks(path: Path) -> dict[str, bool]:
    checks = {"phrases": path in named("phrases")}
    if path in named("prose"):
        checks = load_from(ROOT / ".proselintrc.json")["checks"] | checks
    return checks


def lint(text: str, checks: dict[str, bool], suffix: str) -> Iterator[str]:
    """Yield the faults that *checks* find in *text*: line, column, check and advice."""
    if suffix == ".md":
        # Nor are a heading and the paragraph below it.
        text = re.sub(r"\n(?=\n)", f"\n{_FILLER}", _CODE.sub(_blank, text))
    for fault in LintFile("", text).lint(Config(max_errors=1000, checks=checks)):
        line, column = fault.pos
        message = " ".join(fault.check_result.message.split())
        yield f"{line}:{column}: {fault.check_result.check_path}: {message}"


def _blank(code: re.Match[str]) -> str:
    """Return a text of the same lines and columns, without a word."""
    return re.sub(r"[^\n]", _FILLER, code[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
