"""Griffe extension: what the docstrings write for Sphinx and doctest, in Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|data|attr|mod|obj|exc):`(~?)([\w.]+)`")


class PlainDocstrings(griffe.Extension):
    """Turns roles into code words and doctests into code blocks."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrites an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(plain_roles(obj.docstring.value))


def plain_roles(text: str) -> str:
    """Replaces roles such as ``:class:`~posekit.data.MPII``` by code words; a tilde keeps the last part only."""
    return _ROLE.sub(lambda m: f"`{m[2].rpartition('.')[2] if m[1] else m[2]}`", text)


def fenced(text: str) -> str:
    """Puts fences around doctest blocks, which end at an empty line."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        begins = line.lstrip().startswith(">>>")
        if begins and not inside:
            lines.append("```pycon")
            inside = True
        elif inside and not line.strip():
            lines.append("```")
            inside = False
        lines.append(line)
    return "\n".join([*lines, *(["```"] if inside else [])])
