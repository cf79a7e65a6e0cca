"""What the files of ``posekit evaluate mpii | h36m | 3dhp`` share: numbers that are checked, and the table."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from posekit.arrays import Bool, Float64
from posekit.errors import UserError, one_line

METRES = {"m": 1.0, "mm": 0.001}
_LIMIT = 1e15  # of any number; squares of much larger ones overflow
_OTHER_UNIT = 100.0  # so many times larger or smaller is no error of a network's
_LARGEST, _SMALLEST = 20.0, 0.02  # m; between them lies a person's extent, in true units


@dataclass
class PoseTable:
    """Numbers by name, and the table that is printed, with lines below it and the names of joints that have numbers."""

    values: dict[str, Any]
    columns: list[str]
    rows: list[tuple[str, list[float]]]
    notes: list[str] = field(default_factory=list)
    joints: tuple[str, ...] = ()


def poses_of(content: Any, path: Path) -> Float64:
    """Returns a file's nested lists as an array.

    Raises:
        UserError: They differ in length, or hold something that is no number.
    """
    try:
        found = np.asarray(content)
        if found.dtype.kind not in "buif":  # text would be read as numbers
            raise TypeError
        return found.astype(np.float64)
    except (OverflowError, TypeError, ValueError):
        raise UserError(f"{path.name}: poses of different length, or something that is no number") from None


def row_arrays(content: Any) -> dict[str, list[Any]] | None:
    """Returns a prediction's ``results.json``, a list of rows with ``joints3d``, by column; None of other content."""
    if not isinstance(content, list) or not content:
        return None
    if not all(isinstance(row, Mapping) and "joints3d" in row for row in content):
        return None
    return {str(name): [row.get(name) for row in content] for name in content[0]}


def is_prediction(arrays: Mapping[str, Any]) -> bool:
    """Tells whether arrays are those that a prediction in 3D wrote: a row per person and picture, in metres."""
    return all(name in arrays for name in ("joints3d", "image_id", "sample_id"))


def check_finite(poses: Float64, path: Path, what: str = "pose [{}]") -> None:
    """Refuses poses (N, ...) with NaN, infinity or huge numbers.

    Raises:
        UserError: There is one; it is named.
    """
    wrong = ~(np.abs(poses) < _LIMIT).reshape(len(poses), -1).all(1)
    if wrong.any():
        label = what.format(int(wrong.argmax()))
        raise UserError(f"{path.name}: {label} holds NaN or infinity, or more than {_LIMIT:g}")


def check_unit(poses: Float64, counts: Bool, unit: str, path: Path) -> None:
    """Refuses true poses that are a thousand times too large or too small for people: the unit is another.

    Args:
        poses: (N, J, 3) in metres, as read in that unit.
        counts: (N, J), joints that count.
        unit: ``m`` or ``mm``.
        path: The file.

    Raises:
        UserError: In ``m`` the median pose extends over more than 20 m, or in ``mm`` over less than 20 mm.
    """
    extent = _extent(poses, counts)
    if extent is None:
        return
    if extent > _LARGEST if unit == "m" else extent < _SMALLEST:
        other = "mm" if unit == "m" else "m"
        raise UserError(
            f"{path.name}: its poses extend over {extent / METRES[unit]:.3g} {unit}, which are no people's: "
            f"if both files are in {other}, give --unit {other}"
        )


def compare_units(target: Float64, pred: Float64, counts: Bool) -> None:
    """Warns of true and predicted poses of which one seems to be in another unit.

    Args:
        target: (N, J, 3).
        pred: (N, L, 3), in the same unit as far as is known.
        counts: (N, J), joints of the truth that count.
    """
    true, found = _extent(target, counts), _extent(pred, np.ones(pred.shape[:2], dtype=np.bool_))
    if true is None or found is None or true / _OTHER_UNIT < found < true * _OTHER_UNIT:
        return
    text = f"the predicted poses extend over {found:.3g} m, the true ones over {true:.3g} m"
    warnings.warn(f"{text}: is one of the files in another unit? --unit is of both", stacklevel=2)


def _extent(poses: Float64, counts: Bool) -> float | None:
    """Returns the median of the poses' longest sides; None where none has any."""
    if not len(poses):
        return None
    known = (counts & np.isfinite(poses).all(-1))[..., None]
    high, low = (np.where(known, poses, gap) for gap in (-np.inf, np.inf))
    extents = (high.max(1) - low.min(1)).max(-1)
    extents = extents[(extents > 0) & np.isfinite(extents)]
    return float(np.median(extents)) if len(extents) else None


def load_numpy(path: Path, needed: str = "arrays of numbers") -> dict[str, Any]:
    """Reads the arrays of an .npz, or the one of an .npy under the name ``""``.

    Args:
        path: The file.
        needed: What it should hold, for messages.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        loaded = np.load(path)
        return {"": loaded} if isinstance(loaded, np.ndarray) else {k: loaded[k] for k in loaded.files}
    except Exception as error:
        if str(error).startswith("Object arrays"):  # numpy's words for an array of anything but numbers and text
            raise UserError(
                f"{path} holds pickled objects, which are not read (VideoPose3D's data_3d_h36m.npz: dicts of poses in "
                f"world coordinates); needed is {needed}"
            ) from None
        raise UserError(f"{path}: no numpy file that can be read ({one_line(error)})") from None
