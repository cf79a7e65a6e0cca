"""Where the shipped configs are: in a source checkout, or installed beside the interpreter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from posekit.errors import UserError, unknown_name
from posekit.yaml_file import parse_yaml, read_yaml

_KEYS = "model, data, trainer …"


def examples_folder() -> Path | None:
    """Returns the folder of shipped configs, or None."""
    for folder in (Path(__file__).parents[2] / "examples", Path(sys.prefix) / "share" / "posekit" / "examples"):
        if (folder / "quickstart.yaml").is_file():
            return folder
    return None


def shipped_configs() -> dict[str, Path]:
    """Returns the shipped configs by name, e.g. ``hdm/coco_w32_256x192.yaml``; tables are none."""
    folder = examples_folder()
    if folder is None:
        return {}
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.yaml"))}
    return {name: path for name, path in found.items() if not name.startswith("tables/")}


def is_text(name: str) -> bool:
    """Tells whether the value of ``--config`` is configuration text itself, not a file's name."""
    return "\n" in name or name.lstrip().startswith("{")


def find_config(name: str) -> str:
    """Resolves the value of ``--config``: a file or text as given, else a shipped config of that name.

    Raises:
        UserError: There is neither.
    """
    if is_text(name) or Path(name).is_file():
        return name
    shipped = shipped_configs()
    short = name.removeprefix("./").removeprefix("examples/").removesuffix(".yaml") + ".yaml"
    if short in shipped:
        return str(shipped[short])
    if Path(name).exists():
        raise UserError(f"config {name} is no file")
    raise UserError(f"config {name} does not exist; {unknown_name('shipped config', short, shipped)}")


def read_config(name: str | Path) -> dict[str, Any]:
    """Returns the content of a config's file or text.

    Raises:
        UserError: It cannot be read, or is no YAML of keys.
    """
    if is_text(str(name)):
        return parse_yaml(str(name), "the config's text", _KEYS)
    return read_yaml(name, "config", _KEYS)
