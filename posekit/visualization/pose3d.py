"""Skeletons in 3D on a floor grid, seen from a chosen side; drawn by OpenCV, no window and no GL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike

from posekit.arrays import Bool, Bytes, Float64
from posekit.errors import UserError, one_of
from posekit.skeletons import Skeleton
from posekit.visualization.draw import SHIFT, draw_circle, draw_line, drawable, side_color

Up = Literal["-y", "y", "z"]

# Rows turn a frame's axes into the drawing's: x right, y up, z towards the viewer.
_FRAMES = {
    "-y": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),  # a camera's frame
    "y": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),  # the built-in body's own
    "z": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),  # motion capture with z up
}
_BACKGROUND, _GRID, _SHADOW, _INK = (250, 250, 250), (214, 214, 214), (188, 188, 188), (40, 40, 40)
_ELEVATION = 14.0  # degrees of the view above the horizontal
_DISTANCE = 3.2  # of the view, in spans
_CELL = 0.5  # metres
_WIDEST = 20.0  # metres that are shown on such a floor; of wider poses (in mm, diverged) its cells are larger


@dataclass(frozen=True)
class _View:
    """A turntable view: the drawing's metres to px."""

    rotation: Float64
    center: Float64
    span: float
    size: tuple[int, int]

    def __call__(self, points: Float64) -> tuple[Float64, Float64]:
        """Returns px (…, 2) and depth (…), metres from the eye."""
        turned = (points - self.center) @ self.rotation.T
        depth = np.maximum(_DISTANCE * self.span - turned[..., 2], 0.05 * self.span)
        focal = min(self.size) * _DISTANCE
        middle = (np.array(self.size) - 1) / 2
        return turned[..., :2] * [1, -1] * (focal / depth)[..., None] + middle, depth


def draw_pose3d(
    joints3d: ArrayLike,
    skeleton: Skeleton,
    size: int | Sequence[int] = 384,
    yaw: float = 0.0,
    up: Up = "-y",
    span: float | None = None,
    floor: float | None = None,
) -> Bytes:
    """Draws one person's joints in 3D: left orange, right blue, the middle green, as in 2D.

    Args:
        joints3d: (K, 3) metres; joints that are NaN are left out.
        skeleton: Its joint set.
        size: Of the picture, px: (W, H), or one number for a square.
        yaw: Degrees by which the person is turned about the vertical, to its left: 0 is the view of the camera that the
            frame belongs to, 90 shows the right side of a person who faces it.
        up: The frame's vertical: ``"-y"`` for a camera's frame, ``"y"`` or ``"z"`` where that axis points up.
        span: Metres that the smaller side of the picture shows at the person's depth; None fits the person. Give it
            for a video, so that the size does not jump.
        floor: Height of the floor along ``up``, metres; None is the lowest joint.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UserError: ``up`` is another word, or the joints are of another number.
    """
    one_of("vertical axis", up, _FRAMES)
    width, height = (size, size) if isinstance(size, int) else size
    given = np.asarray(joints3d, dtype=np.float64)
    if given.shape != (len(skeleton), 3):
        raise UserError(
            f"draw_pose3d takes one person's joints ({len(skeleton)}, 3) of {skeleton.name}, not of shape {given.shape}"
        )
    points = given @ np.array(_FRAMES[up], dtype=np.float64).T
    shown: Bool = np.asarray(np.isfinite(points).all(1))
    canvas = np.full((height, width, 3), _BACKGROUND, dtype=np.uint8)
    if not shown.any():
        return canvas
    low, high = points[shown].min(0), points[shown].max(0)
    center = (low + high) / 2
    reach = 2 * np.linalg.norm(points[shown] - center, axis=1).max()
    view = _View(_turn(yaw), center, span or max(1.15 * reach, 0.1), (width, height))
    ground = low[1] if floor is None else floor
    _draw_floor(canvas, view, ground)
    _draw_shadow(canvas, view, points, shown, skeleton, ground)
    _draw_bones(canvas, view, points, shown, skeleton)
    return canvas


def side_by_side(image: Bytes, panels: Sequence[Bytes], gap: int = 4, least: int = 1) -> Bytes:
    """Lays panels to the right of a picture, each scaled to the picture's height.

    Args:
        image: (H, W, 3) uint8 RGB.
        panels: Pictures of any size.
        gap: White px between them.
        least: Height, px, that panels have at least; a picture that is lower has white below it.

    Returns:
        (H', W', 3) uint8.

    Raises:
        UserError: A picture is of another type or shape.
    """
    image, *panels = (drawable(picture, "side_by_side") for picture in (image, *panels))
    height = max(image.shape[0], least if panels else 1)
    below = height - image.shape[0]
    parts = [np.pad(image, ((0, below), (0, 0), (0, 0)), constant_values=255) if below else image]
    for panel in panels:
        width = max(round(panel.shape[1] * height / panel.shape[0]), 1)
        shrinks = panel.shape[0] > height
        how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        same = panel if panel.shape[:2] == (height, width) else cv2.resize(panel, (width, height), interpolation=how)
        parts += [np.full((height, gap, 3), 255, dtype=np.uint8), same.astype(np.uint8)]
    return np.concatenate(parts, axis=1)


def _turn(yaw: float) -> Float64:
    """Turns the world about its vertical, then tilts it towards the viewer."""
    a, e = np.deg2rad(yaw), np.deg2rad(_ELEVATION)
    around = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(e), -np.sin(e)], [0, np.sin(e), np.cos(e)]])
    return tilt @ around


def _draw_floor(canvas: Bytes, view: _View, ground: float) -> None:
    cell = _CELL * max(1.0, np.ceil(view.span / _WIDEST))
    reach = np.ceil(0.75 * view.span / cell) * cell
    ticks = np.arange(-reach, reach + cell / 2, cell)
    x0, z0 = (np.round(view.center[k] / cell) * cell for k in (0, 2))
    for tick in ticks:
        for ends in (
            [(x0 + tick, ground, z0 - reach), (x0 + tick, ground, z0 + reach)],
            [(x0 - reach, ground, z0 + tick), (x0 + reach, ground, z0 + tick)],
        ):
            (a, b), _ = view(np.array(ends))
            draw_line(canvas, a, b, _GRID)


def _draw_shadow(canvas: Bytes, view: _View, points: Float64, shown: Bool, skeleton: Skeleton, ground: float) -> None:
    flat = points.copy()
    flat[:, 1] = ground
    pixels, _ = view(flat)
    for a, b in skeleton.edges:
        if shown[a] and shown[b]:
            draw_line(canvas, pixels[a], pixels[b], _SHADOW, _width(view))


def _width(view: _View) -> int:
    return max(1, round(min(view.size) / 110))


def _draw_bones(canvas: Bytes, view: _View, points: Float64, shown: Bool, skeleton: Skeleton) -> None:
    """Draws bones and joints from far to near, each with a dark rim, so that crossings show what is in front."""
    pixels, depth = view(points)
    parts: list[tuple[float, tuple[int, ...]]] = []
    parts += [((depth[a] + depth[b]) / 2, (a, b)) for a, b in skeleton.edges if shown[a] and shown[b]]
    parts += [(depth[j] - 1e-3 * view.span, (j,)) for j in np.flatnonzero(shown).tolist()]
    middle = _DISTANCE * view.span
    for distance, joints in sorted(parts, key=lambda part: -part[0]):
        width = max(1, round(_width(view) * 1.5 * middle / distance))
        color = side_color(skeleton, *joints)
        if len(joints) == 2:
            draw_line(canvas, pixels[joints[0]], pixels[joints[1]], _INK, width + 2)
            draw_line(canvas, pixels[joints[0]], pixels[joints[1]], color, width)
        else:
            center, radius = pixels[joints[0]], int((width * 0.5 + 1.5) * (1 << SHIFT))
            draw_circle(canvas, center, radius, (255, 255, 255), -1)
            draw_circle(canvas, center, radius, color)
