"""The laws of the house: who imports whom, what is heavy, what the documents say."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from samerun.core import contract, errors
from samerun.host.checkout import lock

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "samerun"
HEAVY = ("torch", "fastai", "wandb", "numpy", "pandas", "sklearn")


def imports(path):
    """Every module that *path* imports, at any depth, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(part):
    return sorted((PACKAGE / part).rglob("*.py"))


def test_import_law():
    """The arrows between packages go down; pyproject.toml has the contracts."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("__init__.py")), ids=str)
def test_every_package_says_its_law(path):
    """One sentence or two, the first thing that a newcomer reads."""
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_no_module_lies_directly_in_the_host_side():
    """Each has its package by subject."""
    assert [path.name for path in (PACKAGE / "host").glob("*.py")] == ["__init__.py"]


def test_shared_modules_use_the_standard_library_only():
    """They run on a host without frameworks and in a container without the kit's tools."""
    names = {name.split(".")[0] for path in modules("core") for name in imports(path)}

    assert names - {"samerun"} <= sys.stdlib_module_names


def test_listing_the_tasks_loads_nothing_heavy():
    """`invoke --list` loads neither a framework nor the Docker SDK."""
    script = (
        "import sys; sys.path.insert(0, '.'); import tasks;"
        f"print([m for m in {(*HEAVY, 'docker.api', 'requests')!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"


def test_exit_codes_are_distinct_and_documented():
    """Every error has its own code, and docs/contract.md lists it."""
    classes = errors.SamerunError.__subclasses__()
    page = (ROOT / "docs" / "contract.md").read_text()

    assert len(classes) == len({cls.exit_code for cls in classes})
    for cls in classes:
        assert f"| {cls.exit_code} | `{cls.__name__}` |" in page
        assert cls.exit_code != 75


def test_contract_is_documented():
    """Every path, variable and label of the contract stands in docs/contract.md."""
    page = (ROOT / "docs" / "contract.md").read_text()
    values = [
        value
        for name, value in vars(contract).items()
        if name.startswith(("ENV_", "LABEL_", "OUTPUT", "DATA", "CODE", "NETRC", "RECORD"))
    ]

    assert [value for value in values if f"`{value}`" not in page] == []


def test_readme_names_only_tasks_that_exist():
    """Every `invoke VERB` of the README is a verb."""
    listed = subprocess.run(
        [sys.executable, "-m", "invoke", "--list"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    verbs = set(re.findall(r"invoke ([a-z]+)", (ROOT / "README.md").read_text()))

    assert [verb for verb in verbs if f"  {verb} " not in listed] == []


@pytest.mark.parametrize(("group", "path"), lock.EXPORTS.items())
def test_exported_locks_are_those_of_uv_lock(project, group, path):
    """The locks that the Dockerfile reads are read off uv.lock; `invoke lock` refreshes all."""
    assert lock.export(project, group) == (project.root / path).read_text()


def test_the_architecture_page_lists_every_package_and_module():
    """A row per package, with its modules; those of the callback and the verbs are theirs."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z/]+)/` \|(.*)$", page, re.MULTILINE))
    packages = {str(p.parent.relative_to(PACKAGE)): p.parent for p in PACKAGE.rglob("__init__.py")}
    unlisted = {".", "host", "cli/show", "callback/stream", "callback/media"}

    assert set(rows) == set(packages) - unlisted
    for name in set(rows) - {"cli", "callback", "train/recipes"}:
        modules = {p.stem for p in packages[name].glob("*.py")} - {"__init__"}
        assert {m for m in modules if f"`{m}`" not in rows[name]} == set(), name


def test_modules_are_small():
    """A module has one subject: about 300 lines, 450 at most."""
    sizes = {p.name: len(p.read_text().splitlines()) for p in PACKAGE.rglob("*.py")}

    assert {name: size for name, size in sizes.items() if size > 450} == {}
