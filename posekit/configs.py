"""Where the shipped configs are: in a source checkout, or where pip has installed a package's data."""

from __future__ import annotations

import site
import sys
import sysconfig
from pathlib import Path
from typing import Any

from posekit.errors import UserError, unknown_name
from posekit.yaml_file import parse_yaml, read_yaml

_KEYS = "model, data, trainer …"


def examples_folder() -> Path | None:
    """Returns the folder of shipped configs, or None."""
    places = [Path(__file__).parents[1] / "examples", *(root / "share" / "posekit" / "examples" for root in _roots())]
    return next((folder for folder in places if (folder / "quickstart.yaml").is_file()), None)


def _roots() -> list[Path]:
    """Returns where pip may have put a package's data: the environment's folder, the user's, or a target's."""
    parents = Path(__file__).parents  # of --target the packages' own folder, of --prefix four levels up
    found: list[str | Path | None] = [
        sys.prefix,
        sysconfig.get_path("data"),
        site.getuserbase(),
        "/usr/local",
        parents[1],
        *parents[3:5],
    ]
    return [Path(root) for root in found if root]


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
    if not shipped:
        raise UserError(f"config {name} does not exist, and the shipped configs are not installed")
    raise UserError(f"config {name} does not exist; {unknown_name('shipped config', short, shipped)}")


def read_config(name: str | Path) -> dict[str, Any]:
    """Returns the content of a config's file or text.

    Raises:
        UserError: It cannot be read, or is no YAML of keys.
    """
    if is_text(str(name)):
        return parse_yaml(str(name), "the config's text", _KEYS)
    return read_yaml(name, "config", _KEYS)
