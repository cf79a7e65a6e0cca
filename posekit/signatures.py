"""Arguments of classes whose constructors hand what they do not name to their base: ``**options``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def constructors(part: type) -> list[Callable[..., None]]:
    """Lists the constructors that take a class's arguments: its own, and its bases' as far as ``**`` hands on."""
    found: list[Callable[..., None]] = []
    for base in part.__mro__:
        constructor = base.__dict__.get("__init__")
        if inspect.isfunction(constructor):
            found.append(constructor)
            if not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(constructor).parameters.values()):
                break
    return found


def arguments_of(part: type) -> dict[str, inspect.Parameter]:
    """Returns the arguments of a class by name, without ``self``; where two constructors name one, the nearer's."""
    found: dict[str, inspect.Parameter] = {}
    for constructor in reversed(constructors(part)):
        _, *named = inspect.signature(constructor).parameters.values()
        found |= {p.name: p for p in named if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    return found


def defaults_of(part: type) -> dict[str, Any]:
    """Returns the defaults of a class's arguments."""
    return {name: p.default for name, p in arguments_of(part).items() if p.default is not p.empty}
