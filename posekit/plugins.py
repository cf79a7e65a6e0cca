"""Plug-ins: methods and data modules of any installed package, found by their entry points."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

METHODS = "posekit.methods"
DATAMODULES = "posekit.datamodules"
BENCHMARKS = "posekit.benchmarks"


def plugins(group: str) -> dict[str, EntryPoint]:
    """Returns the entry points of a group by name, from the packages' metadata; imports nothing."""
    return {point.name: point for point in sorted(entry_points(group=group), key=lambda p: p.name)}


def _warn(line: str) -> None:
    print(line, file=sys.stderr)


def load_plugins(warn: Callable[[str], None] = _warn) -> dict[str, Any]:
    """Imports every method and data module, so that their short names work in configs.

    A plug-in that fails costs one line that gives the reason, never the command.

    Args:
        warn: Called with the line.

    Returns:
        The classes by name.
    """
    loaded = {}
    for group in (METHODS, DATAMODULES):
        for name, point in plugins(group).items():
            try:
                loaded[name] = point.load()
            except Exception as error:
                reason = " ".join(str(error).split())[:200]
                warn(f"warning: plug-in {name} ({point.value}) failed to load: {type(error).__name__}: {reason}")
    return loaded


def import_class(path: str) -> Any:
    """Imports a class by its dotted path, e.g. ``posekit_hdm.module.HDM``."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
