"""Arrays of label files: numbers that can be numbers of a label."""

from __future__ import annotations

from typing import Any

import numpy as np

from posekit.arrays import Float64
from posekit.errors import UserError

LARGEST = 1e9  # px, mm or radians: beyond is damage, and squares soon leave float32


def label_numbers(value: Any, label: str) -> Float64:
    """Returns an array as float64.

    Args:
        value: Of any shape.
        label: File and name, for messages.

    Raises:
        UserError: It does not hold numbers, or one is not finite or absurdly large.
    """
    try:
        found = np.asarray(value)
        if found.dtype.kind == "c":
            raise UserError(f"{label} is of {found.dtype}, not of real numbers")
        array = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{label} is no array of numbers") from None
    if not np.isfinite(array).all():
        raise UserError(f"{label} holds numbers that are not finite (NaN or infinite)")
    if array.size and np.abs(array).max() > LARGEST:
        raise UserError(f"{label} holds numbers as large as {np.abs(array).max():.3g}, which no label is")
    return array
