"""
What the source of a script shows before it runs: a syntax error, a missing module, a question.

A run would find them minutes later, in a container that reads data and starts processes first.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from samerun.core.errors import CodeError, PackageError
from samerun.core.import_names import distribution
from samerun.host.checkout.user_code import Script

# In a container without a network or a mount; the source is its input.
_PARSE = ("-I", "-S", "-c", "import sys; compile(sys.stdin.buffer.read(), sys.argv[1], 'exec')")


def check(script: Script, reference: str, facts: Mapping[str, Any]) -> None:
    """
    Check the script for the image *reference*, which has the description *facts*.

    Raises:
        CodeError: It has a syntax error, or calls ``input()`` as it starts.
        PackageError: It imports a module that neither the image nor the project has.
    """
    source = script.path.read_bytes()
    try:
        tree = ast.parse(source, str(script.path))
    except (SyntaxError, ValueError) as error:
        # The Python of this machine may be older than the image's.
        if not _is_older(facts) or not _compiles(source, script, reference):
            raise CodeError(
                f"{script.path} can't be parsed: {error}.", "Correct it, and train again."
            ) from None
        return
    except RecursionError:
        return
    _refuse_questions(tree, script)
    modules = facts.get("modules")
    if isinstance(modules, list):
        _refuse_missing(tree, script, {str(name) for name in modules})


def _is_older(facts: Mapping[str, Any]) -> bool:
    return not str(facts.get("python", "")).startswith("{}.{}.".format(*sys.version_info))


def _compiles(source: bytes, script: Script, reference: str) -> bool:
    flags = ("--rm", "-i", "--network=none", "--read-only", "--cap-drop=ALL", "--entrypoint=python")
    command = ["docker", "run", *flags, reference, *_PARSE, script.path.name]
    return subprocess.run(command, input=source, capture_output=True, check=False).returncode == 0


def _at_start(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements that run as the script starts; not what a ``try`` may catch."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        statement = waiting.pop(0)
        yield statement
        if isinstance(statement, ast.With) or (
            isinstance(statement, ast.If) and _is_main(statement.test)
        ):
            waiting[:0] = statement.body


def _is_main(test: ast.expr) -> bool:
    names = {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}
    return names == {"__name__"}


def _refuse_questions(tree: ast.Module, script: Script) -> None:
    for statement in _at_start(tree):
        if not isinstance(statement, ast.Expr | ast.Assign | ast.AnnAssign):
            continue
        for node in ast.walk(statement):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id == "input":
                raise CodeError(
                    f"{script.path}, line {node.lineno}, asks for input, which a run can't have.",
                    "Take it as an argument (invoke train … -- --name value) or from --env.",
                )


def _refuse_missing(tree: ast.Module, script: Script, modules: set[str]) -> None:
    known = modules | sys.stdlib_module_names | {"samerun"}
    missing: dict[str, int] = {}
    for name, line in _imports(tree):
        if name not in known and not _is_in_project(name, script):
            missing.setdefault(name, line)
    if missing:
        places = ", ".join(f"{name} (line {line})" for name, line in missing.items())
        options = " ".join(f"--with {distribution(name)}" for name in missing)
        raise PackageError(
            f"{script.path} imports what neither the image nor the project has: {places}.",
            f"Add it: `{options}`, or a line in requirements.txt of the project.",
        )


def _imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for statement in _at_start(tree):
        names: Sequence[str] = ()
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            names = [statement.module]
        for name in names:
            yield name.partition(".")[0], statement.lineno


def _is_in_project(name: str, script: Script) -> bool:
    """Whether the project has the module; a script may extend ``sys.path``, so anywhere in it."""
    folders = (script.path.resolve().parent, script.root, script.root / "src")
    if any((folder / name).is_dir() or _modules(folder, name) for folder in folders):
        return True
    return "sys.path" in script.path.read_text(encoding="utf-8", errors="replace")


def _modules(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or any(folder.glob(f"{name}.*.so"))
