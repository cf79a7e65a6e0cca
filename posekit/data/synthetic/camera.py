"""Viewpoint and framing: where the camera stands, and which part of the person its crop shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from posekit.arrays import Bool, Float32
from posekit.data.synthetic.options import Difficulty
from posekit.data.synthetic.pose import euler
from posekit.data.synthetic.streams import chance
from posekit.geometry.affine import fit_aspect

Cut = Literal["none", "border", "object"]

# A top-down crop is the person's box grown by this factor (HRNet's, COCO's convention).
BOX_PADDING = 1.25
_LEAST_SHARE = 0.15  # of the trunk, head, legs and upper arms; head and shoulders have a little more
_NEAREST = 0.25  # metres between the camera and the nearest vertex


@dataclass(frozen=True)
class View:
    """A camera's place relative to a person.

    Attributes:
        orientation: (3, 3) turns the body's world (y up, facing +z) into the camera's frame.
        distance: Metres to the pelvis.
        direction: (2,) x / z and y / z of the pelvis.
        cut: What cuts the person, if anything.
        side: The side that is cut: 0 left, 1 top, 2 right, 3 bottom.
        keep: Share of the person's extent that stays.
    """

    orientation: Float32
    distance: float
    direction: Float32
    cut: Cut
    side: int
    keep: float


def sample_view(rng: np.random.Generator, options: Difficulty) -> View:
    """Draws a viewpoint and a framing."""
    yaw = rng.normal(0, np.deg2rad(46)) if chance(rng, options.frontal) else rng.uniform(-np.pi, np.pi)
    pitch = np.deg2rad(rng.normal(6, 9))
    roll = rng.uniform(-np.pi, np.pi) if chance(rng, 0.04 * options.pose_variety) else rng.normal(0, 0.06)
    orientation = euler(z=roll) @ euler(x=pitch) @ np.diag([1, -1, -1]).astype(np.float32) @ euler(y=yaw)
    distance = float(np.exp(rng.uniform(np.log(2.2), np.log(12.0))))
    cut: Cut = "none"
    side, keep = 3, 1.0
    if chance(rng, options.truncation):
        cut = "border" if chance(rng, 0.65) else "object"
        side = int(rng.choice(4, p=[0.12, 0.06, 0.12, 0.7]))
        keep = rng.uniform(0.2, 0.92) if side == 3 else rng.uniform(0.5, 0.9)
        if chance(rng, options.closeups):
            side, keep = 3, rng.uniform(0.16, 0.45)
            distance = rng.uniform(0.7, 1.8)
    return View(orientation.astype(np.float32), distance, rng.uniform(-0.2, 0.2, 2).astype(np.float32), cut, side, keep)


def place(vertices: Float32, pelvis: Float32, view: View) -> tuple[Float32, Float32]:
    """Returns the vertices (V, 3) in the camera's frame, metres, and the shift (3,) that brought them there.

    Args:
        vertices: (V, 3) already turned into the camera's frame.
        pelvis: (3,) of the same.
        view: The viewpoint.
    """
    depth = max(view.distance, _NEAREST + float(pelvis[2] - vertices[:, 2].min()))
    target = np.array([view.direction[0] * depth, view.direction[1] * depth, depth], dtype=np.float32)
    return vertices + (target - pelvis), target - pelvis


@dataclass(frozen=True)
class Framing:
    """A crop's pinhole camera, x = focal * X / Z + cx, and the border of the picture the crop is cut from.

    Attributes:
        focal: px.
        center: (cx, cy) principal point, px of the crop.
        border: (left, top, right, bottom) px: beyond it the picture ends; infinite where it does not.
        cut: (left, top, right, bottom) px of a wide object in front; infinite where there is none.
    """

    focal: float
    center: Float32
    border: Float32
    cut: Float32

    def project(self, points: Float32) -> Float32:
        """Projects camera points (…, 3) to crop px (…, 2)."""
        return points[..., :2] / points[..., 2:] * np.float32(self.focal) + self.center


def frame(rng: np.random.Generator, vertices: Float32, core: Bool, view: View, size: tuple[int, int]) -> Framing:
    """Fits the crop around the part of the person that the cut leaves, as a top-down detector's box would.

    Args:
        rng: Source of the box's jitter.
        vertices: (V, 3) in the camera's frame.
        core: (V,) the vertices without which a cut leaves no person: all but forearms and hands.
        view: Says what is cut.
        size: (W, H) of the crop.
    """
    unit = vertices[:, :2] / vertices[:, 2:]
    low, high = unit.min(0), unit.max(0)
    limits = np.array([-np.inf, -np.inf, np.inf, np.inf])
    if view.cut != "none":
        axis = view.side % 2
        # A raised hand alone is no person: the cut moves on until enough of the body is left.
        for keep in np.arange(view.keep, 1.2, 0.08):
            extent = (high[axis] - low[axis]) * keep
            limits[view.side] = high[axis] - extent if view.side < 2 else low[axis] + extent
            kept: Bool = np.asarray(((unit >= limits[:2]) & (unit <= limits[2:])).all(1))
            if kept[core].mean() >= _LEAST_SHARE:
                break
        inside = unit[kept]
        low, high = np.maximum(inside.min(0), limits[:2]), np.minimum(inside.max(0), limits[2:])
    padding = BOX_PADDING * np.exp(rng.normal(0, 0.05))
    box = fit_aspect((high - low) * padding, size[0] / size[1])
    focal = (size[0] - 1) / float(box[0])
    middle = (low + high) / 2 + rng.normal(0, 0.02, 2) * box
    center = (np.array(size) - 1) / 2 - focal * middle
    edges = (limits.reshape(2, 2) * focal + center).reshape(4).astype(np.float32)
    open_edges = np.array([-np.inf, -np.inf, np.inf, np.inf], dtype=np.float32)
    border, cut = (edges, open_edges) if view.cut == "border" else (open_edges, edges)
    return Framing(focal, center.astype(np.float32), border, cut)
