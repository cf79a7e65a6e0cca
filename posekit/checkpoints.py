"""Reading checkpoints: weights only, and one clear line for whatever is wrong with the file."""

from __future__ import annotations

import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from posekit.errors import UserError, excerpt, one_line
from posekit.files import archive_fault, is_archive

CHECKPOINT_KEY = "posekit"
"""Under which a checkpoint says what wrote it."""


def read_checkpoint(path: str | Path, expected: type[Any] | None = None) -> dict[str, Any]:
    """Reads a Lightning checkpoint of posekit with weights only, and checks its class.

    Args:
        path: The file.
        expected: Class of the method, or one that it derives from; None takes any.

    Raises:
        UserError: The file is missing, truncated, damaged, no checkpoint of posekit, or of another class than expected;
            or something else than a path is given.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"a checkpoint is given by its file's path, not by {excerpt(path)}")
    path = Path(path)
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"checkpoint {path} {state}; give a file{_others(path)}")
    if _is_text(path):
        raise UserError(f"{path} is a text file, no checkpoint")
    if fault := archive_fault(path):
        raise UserError(f"checkpoint {path} cannot be read: {fault}{_others(path)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch says of a pickle that is about to be refused
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(f"{path} is no checkpoint, or holds pickled objects, which posekit refuses to load") from None
    except Exception as error:
        # Of a file that is no archive torch says misleading things.
        reason = f" ({one_line(error)})" if is_archive(path) else ""
        raise UserError(
            f"checkpoint {path} cannot be read: truncated, or not a checkpoint{reason}{_others(path)}"
        ) from None
    needed = ("state_dict", "hyper_parameters", CHECKPOINT_KEY)
    if not isinstance(checkpoint, dict) or any(key not in checkpoint for key in needed):
        raise UserError(f"{path} is no checkpoint of posekit; foreign weights load with --model.init_from")
    stored = checkpoint[CHECKPOINT_KEY]["class_path"]
    if expected is not None:
        known = {f"{c.__module__}.{c.__qualname__}" for c in _with_subclasses(expected)}
        if stored not in known:
            raise UserError(f"checkpoint {path} is of class {stored}, not {expected.__name__}")
    return checkpoint


def _is_text(path: Path) -> bool:
    """Tells whether a file begins as text (a config, a web page in place of a download), as no checkpoint does."""
    with path.open("rb") as file:
        start = file.read(256)
    return bool(start) and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start)


def _others(path: Path) -> str:
    """Names the other checkpoints beside one that is broken, the newest first, but for those that are broken too."""
    others = [p for p in path.parent.glob("*.ckpt") if p != path and p.is_file() and is_archive(p)]
    names = [p.name for p in sorted(others, key=_written, reverse=True)]
    return f"; in the same folder: {', '.join(names)}" if names else ""


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another process has removed it since
        return 0.0


def _with_subclasses(cls: type[Any]) -> list[type[Any]]:
    return [cls, *(deeper for sub in cls.__subclasses__() for deeper in _with_subclasses(sub))]
