"""Boxes of people as ``predict`` of a method is given them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from posekit.arrays import Float64
from posekit.errors import UserError, excerpt

_WANTED = "boxes must be (N, 4) finite numbers xywh"


def given_boxes(boxes: ArrayLike) -> Float64:
    """Returns the boxes that a user gives, (N, 4) xywh px; one box (4,) is a list of one.

    Raises:
        UserError: They are no such numbers, or a box has no area; the message names the box.
    """
    values: Any = boxes.detach().cpu() if isinstance(boxes, Tensor) else boxes
    try:
        rows = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{_WANTED}{_faulty(values)}") from None
    if not rows.size:
        return np.zeros((0, 4))
    if rows.shape == (4,):
        rows = rows[None]
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise UserError(f"{_WANTED}, not of shape {rows.shape}")
    for good, wanted in (
        (np.isfinite(rows).all(1), _WANTED),
        ((rows[:, 2:] > 0).all(1), "boxes must have a width and a height above 0"),
    ):
        if not good.all():
            first = int(np.argmin(good))
            raise UserError(f"{wanted}: box {first} is {rows[first].tolist()}")
    return rows


def _faulty(boxes: Any) -> str:
    """Names the first box that is no row of four numbers."""
    if isinstance(boxes, Iterable) and not isinstance(boxes, str | bytes):
        for number, box in enumerate(boxes):
            try:
                right = np.asarray(box, dtype=np.float64).shape == (4,)
            except (TypeError, ValueError):
                right = False
            if not right:
                return f": box {number} is {excerpt(box)}"
    return f", not {excerpt(boxes)}"
