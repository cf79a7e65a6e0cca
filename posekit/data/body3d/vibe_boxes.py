"""The boxes of VIBE's label files, which MAED's have from there: square, and wider than what they surround."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter1d, median_filter

from posekit.arrays import Float64
from posekit.data.body3d.person import joint_boxes

BoxRule = Literal["own", "vibe"]
BOX_RULES = ("own", "vibe")

_MARGIN = 1.1
_LEAST = 0.5  # px: a person whose joints lie closer together has no box of their own
_MEDIAN = 11  # frames
_SIGMA = 8.0  # frames


def vibe_boxes(joints: Float64) -> Float64:
    """Returns 1.1 times the longer side of the visible joints' extent, around its middle.

    Args:
        joints: (N, J, 3) x, y, visible.

    Returns:
        (N, 4) xywh; zeros where fewer than two joints are visible.
    """
    boxes = joint_boxes(joints)
    return _squares(boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:].max(1, initial=0.0))


def smooth_vibe_boxes(joints: Float64) -> Float64:
    """Returns 1.1 times the diagonal of the visible joints' extent, around its middle, both smoothed over time.

    That is how 3DPW's are made: the middle and the inverse of the diagonal, filled in between where nobody is seen, go
    through a median of 11 frames and a Gaussian of 8. Beyond the ends the median sees zeros, as it does there, except
    in recordings that are shorter than it.

    Args:
        joints: (N, J, 3) x, y, visible, of one person in consecutive frames.

    Returns:
        (N, 4) xywh; zeros before the first and after the last frame in which the person is seen.
    """
    boxes = joint_boxes(joints)
    diagonal = np.linalg.norm(boxes[:, 2:], axis=1)
    known = np.flatnonzero(diagonal >= _LEAST)
    result = np.zeros((len(joints), 4))
    if not len(known):
        return result
    rows = np.arange(known[0], known[-1] + 1)
    values = np.concatenate([boxes[known, :2] + boxes[known, 2:] / 2, 1 / diagonal[known, None]], 1)
    paths = np.stack([np.interp(rows, known, path) for path in values.T], 1)
    beyond = "constant" if len(rows) >= _MEDIAN else "nearest"
    paths = gaussian_filter1d(median_filter(paths, (_MEDIAN, 1), mode=beyond), _SIGMA, axis=0)
    result[rows] = _squares(paths[:, :2], 1 / paths[:, 2])
    return result


def _squares(centers: Float64, sides: Float64) -> Float64:
    """Returns boxes (N, 4) xywh around centres (N, 2), with the margin added to their sides (N,)."""
    size = np.repeat(_MARGIN * sides[:, None], 2, 1)
    return np.concatenate([centers - size / 2, size], 1)
