"""YAML that people read: keys in our order, long texts as blocks, a line on top."""

from collections.abc import Sequence
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Several lines of text stand as a block; lists are indented below their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def write(documents: Sequence[Any], comment: str) -> str:
    """Return *documents* as one YAML file with *comment* on top, a line per line."""
    head = "".join(f"# {line}".rstrip() + "\n" for line in comment.strip().splitlines())
    bodies = [
        yaml.dump(d, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)
        for d in documents
    ]
    return head + "---\n".join(bodies)
