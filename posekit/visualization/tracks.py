"""Drawing of people over time: who is who, and where they came from; and of poses between two frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from posekit.arrays import Bytes, Float64
from posekit.visualization.draw import SHIFT, Color, drawable, fixed_point

PREVIOUS: Color = (60, 220, 60)
NEXT: Color = (0, 220, 230)
LINE: Color = (40, 90, 255)
MARK: Color = (255, 120, 200)


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

    def paint(self, image: Bytes, image_id: int) -> Bytes:
        """Returns a copy of a frame (H, W, 3) with its people's tracks."""
        canvas = np.ascontiguousarray(drawable(image, "TrackPainter")).copy()
        now = self._place[image_id]
        for row in np.flatnonzero(self._time == now).tolist():
            self._paint_one(canvas, row, now)
        return canvas

    def _paint_one(self, canvas: Bytes, row: int, now: int) -> None:
        color = track_color(int(self._track[row]))
        past = (self._track == self._track[row]) & (self._time > now - self._trail) & (self._time <= now)
        past &= self._time >= 0
        rows = np.flatnonzero(past)
        path = self._boxes[rows[np.argsort(self._time[rows], kind="stable")]]
        feet = path[:, :2] + path[:, 2:] * np.array([0.5, 1.0])
        for a, b in pairwise(feet):
            cv2.line(canvas, fixed_point(a), fixed_point(b), color, 2, cv2.LINE_AA, SHIFT)
        box = self._boxes[row]
        cv2.rectangle(canvas, fixed_point(box[:2]), fixed_point(box[:2] + box[2:]), color, 1, cv2.LINE_AA, SHIFT)
        _label(canvas, str(self._track[row]), box[:2], color)


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
        tip = min(0.3, 4 * zoom / max(length, 1e-6))
        for point, color in ((before, PREVIOUS), (after, NEXT)):
            cv2.circle(canvas, fixed_point(point), radius << SHIFT, (20, 20, 20), width + 1, cv2.LINE_AA, SHIFT)
            cv2.circle(canvas, fixed_point(point), radius << SHIFT, color, width, cv2.LINE_AA, SHIFT)
        cv2.arrowedLine(canvas, fixed_point(before), fixed_point(after), LINE, width, cv2.LINE_AA, SHIFT, tip)
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


def _star(canvas: Bytes, center: Float64, radius: float) -> None:
    angle = np.arange(10) * np.pi / 5 - np.pi / 2
    reach = np.where(np.arange(10) % 2 == 0, 1.3, 0.55) * radius
    points = center + reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    fixed = np.round(np.clip(points, -1e4, 1e4) * (1 << SHIFT)).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], LINE, cv2.LINE_AA, SHIFT)
    cv2.polylines(canvas, [fixed], True, (255, 255, 255), 1, cv2.LINE_AA, SHIFT)


def _label(canvas: Bytes, text: str, corner: Float64, color: Color) -> None:
    """Writes a number above a corner, black on the colour."""
    scale = max(canvas.shape[0] / 1000, 0.4)
    (w, h), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    x, y = (int(v) for v in np.clip(np.round(corner), 0, [max(canvas.shape[1] - w, 0), canvas.shape[0]]))
    y = max(y, h + base)
    cv2.rectangle(canvas, (x, y - h - base), (x + w, y), color, -1)
    cv2.putText(canvas, text, (x, y - base // 2), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)
