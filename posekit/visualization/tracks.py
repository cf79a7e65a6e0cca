"""Drawing of people over time: who is who, and where they came from; and of poses between two frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from posekit.arrays import Bytes, Float64
from posekit.visualization.draw import (
    SHIFT,
    Color,
    box_stroke,
    draw_box,
    draw_circle,
    draw_label,
    draw_line,
    drawable,
    enlarge_boxes,
    fixed_point,
)

PREVIOUS: Color = (60, 220, 60)
NEXT: Color = (0, 220, 230)
LINE: Color = (40, 90, 255)
MARK: Color = (255, 120, 200)
_FAR = 1e6  # px; no picture reaches so far, and OpenCV's numbers hold it


def track_color(number: int) -> Color:
    """Returns a bright colour for a track; neighbouring numbers look different."""
    hue = int(number) * 67 % 180
    pixel = cv2.cvtColor(np.array([[[hue, 200, 255]]], dtype=np.uint8), cv2.COLOR_HSV2RGB)
    r, g, b = (int(value) for value in pixel[0, 0])
    return r, g, b


class TrackPainter:
    """Draws each person's box and number in the track's colour, and the path of its box over the frames before.

    Args:
        rows: Predictions with ``track_id`` (N,), ``image_id`` (N,) and ``boxes`` (N, 4) xywh px.
        order: Image ids in the order of time.
        trail: Frames that a path reaches back.
    """

    def __init__(self, rows: Mapping[str, NDArray[Any]], order: Sequence[int], trail: int = 20) -> None:
        place = {int(image): number for number, image in enumerate(order)}
        self._time = np.array([place.get(int(image), -1) for image in rows["image_id"]], dtype=np.int64)
        self._track = np.asarray(rows["track_id"], dtype=np.int64)
        self._boxes = np.asarray(rows["boxes"], dtype=np.float64).reshape(-1, 4)
        self._place = place
        self._trail = trail

    def paint(self, image: Bytes, image_id: int, factor: int = 1) -> Bytes:
        """Returns a copy of a frame (H, W, 3), enlarged ``factor`` times before, with its people's tracks."""
        canvas = np.ascontiguousarray(drawable(image, "TrackPainter")).copy()
        now = self._place[image_id]
        for row in np.flatnonzero(self._time == now).tolist():
            self._paint_one(canvas, row, now, factor)
        return canvas

    def _paint_one(self, canvas: Bytes, row: int, now: int, factor: int) -> None:
        color = track_color(int(self._track[row]))
        past = (self._track == self._track[row]) & (self._time > now - self._trail) & (self._time <= now)
        past &= self._time >= 0
        rows = np.flatnonzero(past)
        path = enlarge_boxes(self._boxes[rows[np.argsort(self._time[rows], kind="stable")]], factor)
        box = enlarge_boxes(self._boxes[row], factor)
        width = 1 + box_stroke(canvas, box)
        feet = path[:, :2] + path[:, 2:] * np.array([0.5, 1.0])
        for a, b in pairwise(feet):
            draw_line(canvas, a, b, color, width)
        draw_box(canvas, box, color)
        draw_label(canvas, str(self._track[row]), box[:2], color)


def draw_interim(image: Bytes, ends: ArrayLike, interim: ArrayLike, zoom: float = 1.0, least: float = 1.0) -> Bytes:
    """Draws where joints are between two frames: green circle before, cyan after, blue arrow and stars between.

    Args:
        image: (H, W, 3) uint8 RGB; it is not changed.
        ends: (N, 2, 2) each joint in the previous and in the next frame, px.
        interim: (N, K, 2) px, in the order of time.
        zoom: Size of the marks.
        least: Joints that move less than this, px, are left out.
    """
    canvas = np.ascontiguousarray(drawable(image, "draw_interim")).copy()
    lines, between = np.asarray(ends, dtype=np.float64), np.asarray(interim, dtype=np.float64)
    moving = np.linalg.norm(lines[:, 1] - lines[:, 0], axis=-1) >= least
    radius, width = max(round(2.5 * zoom), 2), max(round(0.6 * zoom), 1)
    for (before, after), points in zip(lines[moving], between[moving], strict=True):
        length = float(np.linalg.norm(after - before))
        for point, color in ((before, PREVIOUS), (after, NEXT)):
            draw_circle(canvas, point, radius << SHIFT, (20, 20, 20), width + 1)
            draw_circle(canvas, point, radius << SHIFT, color, width)
        _arrow(canvas, before, after, width, min(0.3 * length, 4 * zoom))
        for point in points:
            _star(canvas, point, radius)
    return canvas


def interim_figure(
    image: Bytes, ends: ArrayLike, interim: ArrayLike, boxes: int = 2, side: float | None = None
) -> Bytes:
    """Draws interim poses on a picture, and the joints that move most once more, enlarged, to its right.

    Args:
        image: (H, W, 3) uint8 RGB, of any size.
        ends: (…, 2, 2) joints in the previous and in the next frame, px, of one person or several.
        interim: (…, K, 2) px.
        boxes: How many enlarged boxes; pink frames mark them in the picture.
        side: Side of a box, px of the picture; None takes a quarter of its height.

    Returns:
        A picture of the same height.
    """
    image = drawable(image, "interim_figure")
    height, width = image.shape[:2]
    lines = np.asarray(ends, dtype=np.float64).reshape(-1, 2, 2)
    between = np.asarray(interim, dtype=np.float64)
    between = between.reshape(len(lines), between.shape[-2], 2)
    zoom = max(height / 240, 1)
    whole = draw_interim(image, lines, between, zoom, least=4 * zoom)
    large = height // max(boxes, 1)
    column = np.full((height, large, 3), 255, dtype=np.uint8)
    side = side or min(height, width) / 4
    for number, center in enumerate(_fastest(lines, boxes, side)):
        low = np.clip(center - side / 2, 0, np.maximum([width - side, height - side], 0))
        cv2.rectangle(whole, fixed_point(low), fixed_point(low + side), MARK, 2, cv2.LINE_AA, SHIFT)
        scale = large / side
        affine = np.hstack([np.eye(2) * scale, (0.5 * scale - 0.5 - scale * low)[:, None]])
        patch = cv2.warpAffine(image, affine, (large, large), flags=cv2.INTER_CUBIC).astype(np.uint8)
        moved, stars = (points @ affine[:, :2].T + affine[:, 2] for points in (lines, between))
        patch = draw_interim(patch, moved, stars, max(large / 80, 1), scale)
        cv2.rectangle(patch, (0, 0), (large - 1, large - 1), MARK, 2)
        column[number * large : (number + 1) * large] = patch
    return np.concatenate([whole, column], axis=1)


def _fastest(lines: Float64, count: int, side: float) -> list[Float64]:
    """Returns the middles of the lines that are longest, no two in one box."""
    length = np.linalg.norm(lines[:, 1] - lines[:, 0], axis=-1)
    chosen: list[Float64] = []
    for row in np.argsort(-length).tolist():
        center = lines[row].mean(0)
        if len(chosen) < count and all(np.abs(center - other).max() > 0.7 * side for other in chosen):
            chosen.append(center)
    return chosen


def _arrow(canvas: Bytes, start: Float64, end: Float64, width: int, tip: float) -> None:
    draw_line(canvas, start, end, LINE, width)
    back = np.arctan2(*(start - end)[::-1])
    for turn in (-np.pi / 4, np.pi / 4):
        draw_line(canvas, end, end + tip * np.array([np.cos(back + turn), np.sin(back + turn)]), LINE, width)


def _star(canvas: Bytes, center: Float64, radius: float) -> None:
    if not (np.abs(center) < _FAR).all():
        return
    angle = np.arange(10) * np.pi / 5 - np.pi / 2
    reach = np.where(np.arange(10) % 2 == 0, 1.3, 0.55) * radius
    points = center + reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    fixed = np.round(points * (1 << SHIFT)).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], LINE, cv2.LINE_AA, SHIFT)
    cv2.polylines(canvas, [fixed], True, (255, 255, 255), 1, cv2.LINE_AA, SHIFT)
