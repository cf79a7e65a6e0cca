"""A config whose data is drawn, in the shapes of the data sets that it names: speed is measured without them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posekit.errors import UserError, one_of, unknown_name
from posekit.plugins import DATAMODULES, import_class, plugins
from posekit.signatures import defaults_of

_LIKE = ("skeleton", "image_size")  # of the linked values those that drawn people have
_KEPT = ("view", "batch_size", "pin_memory", "labels", "domain")
_OF_PARTS = ("Mixture", "NLRDData")  # data modules made of others
_SAMPLES = 64
_FRAMES = 60  # of a motion whose config names no length


def drawn_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config with :class:`~posekit.data.SyntheticPeople` in place of every data set.

    View, joints, picture size, frames and batch size stay; the loader draws in the process itself. Files that
    the method names and that are not there (weights, bodies) are left out: they do not change how long a step takes.

    Args:
        config: A config's content.

    Raises:
        UserError: It has no model or data, or an unknown data module.
    """
    result: dict[str, Any] = copy.deepcopy(dict(config))
    for key in ("model", "data"):
        if not isinstance(result.get(key), dict) or "class_path" not in result[key]:
            raise UserError(f"--drawn needs a config with {key}.class_path")
    arguments = result["model"].get("init_args") or {}
    result["model"]["init_args"] = {name: value for name, value in arguments.items() if not _lost(value)}
    result["data"] = _drawn(result["data"])
    return result


def _lost(value: Any) -> bool:
    return isinstance(value, str) and "/" in value and not Path(value).exists()


def _drawn(node: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces a data module, or those that it is made of."""
    name, arguments = node["class_path"], dict(node.get("init_args") or {})
    if name.rpartition(".")[2] not in _OF_PARTS:
        return {"class_path": "SyntheticPeople", "init_args": _like(name, arguments)}
    arguments.pop("num_workers", None)
    for key, value in arguments.items():
        if isinstance(value, dict) and "class_path" in value:
            arguments[key] = _drawn(value)
        elif key in ("clips", "images") and isinstance(value, dict):
            arguments[key] = {part: _drawn_part(entry) for part, entry in value.items()}
    return {"class_path": name, "init_args": arguments}


def _drawn_part(entry: Any) -> Any:
    """Replaces the data of a mixture's part; what is no part is left to the mixture, which says so."""
    data = entry.get("data") if isinstance(entry, dict) else None
    return entry | {"data": _drawn(data)} if isinstance(data, dict) and "class_path" in data else entry


def _like(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of drawn people that look like another data module's samples."""
    if name.rpartition(".")[2] == "SyntheticPeople":
        return dict(arguments) | {"train_size": _SAMPLES, "val_size": _SAMPLES}
    cls = _class(name)
    every = {**defaults_of(cls), **arguments}
    linked = {key: value for key, value in cls.linked_values(every).items() if key in _LIKE and value is not None}
    kept = {key: every[key] for key in _KEPT if every.get(key) is not None} | linked
    frames = _frames(every)
    kept.setdefault("view", ("clips" if frames else "crops") if "image_size" in kept else "motion")
    if kept["view"] == "motion":
        kept["frames"] = frames or _FRAMES
    elif kept["view"] == "clips":
        kept |= {"frames": frames, "clip_box": "frame", "frame_step": 1}
    return kept | {"train_size": _SAMPLES, "val_size": _SAMPLES}


def _frames(arguments: Mapping[str, Any]) -> int | None:
    """Returns the frames of a clip, by whichever argument tells them."""
    window = arguments.get("window")
    if isinstance(window, Mapping) and "frames" in window:
        return int(window["frames"])
    if arguments.get("frames") is not None:
        return int(arguments["frames"])
    return 2 * int(arguments["num_support"] or 1) + 1 if "num_support" in arguments else None


def _class(name: str) -> Any:
    known = plugins(DATAMODULES)
    if "." in name:
        try:
            return import_class(name)
        except (ImportError, AttributeError):
            raise unknown_name("data module", name, known) from None
    one_of("data module", name, known)
    return known[name].load()
