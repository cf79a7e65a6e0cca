"""Weights that come with the package: small files with their hash, a description, and the config of their network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

from posekit.errors import UserError, one_of
from posekit.nn.weights import checksum

ASSETS = Path(__file__).parent / "assets"


class ShippedWeights(TypedDict):
    """What is recorded beside a weight file (``NAME.json`` beside ``NAME.safetensors``)."""

    sha256: str
    model: dict[str, Any]  # class_path and init_args, as in a config
    made_by: str  # the command
    warning: str  # one line for users, on what the weights can and cannot do
    results: dict[str, Any]


def shipped_names() -> list[str]:
    """Returns the names that ``init_from`` takes besides paths."""
    return sorted(path.stem for path in ASSETS.glob("*.safetensors"))


def shipped_weights(name: str) -> ShippedWeights:
    """Reads the record of shipped weights.

    Raises:
        UserError: There are none of that name.
    """
    one_of("shipped weights", name, shipped_names())
    record: ShippedWeights = json.loads((ASSETS / f"{name}.json").read_text(encoding="utf-8"))
    return record


def weight_path(source: str) -> str:
    """Resolves ``init_from``: a file as it is, else the file of shipped weights of that name, its hash checked.

    Raises:
        UserError: The shipped file is damaged.
    """
    if source not in shipped_names() or Path(source).is_file():
        return source
    path = ASSETS / f"{source}.safetensors"
    if checksum(path) != shipped_weights(source)["sha256"]:
        raise UserError(f"shipped weights {path} are damaged: install posekit again")
    return str(path)
