"""Readable YAML: keys in our order, long texts as blocks, a comment at the top."""

from collections.abc import Sequence
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Writes multi-line text as a block, and indents lists below their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    # YAML also ends lines at these, and reads each as a plain line feed, but not if it is escaped.
    breaks = any(mark in value for mark in "\r\x85\u2028\u2029")
    style = '"' if breaks else "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def write(documents: Sequence[Any], comment: str) -> str:
    """Return *documents* as one YAML file with *comment* at the top."""
    head = "".join(f"# {line}".rstrip() + "\n" for line in comment.strip().splitlines())
    bodies = [
        yaml.dump(d, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)
        for d in documents
    ]
    return head + "---\n".join(bodies)
