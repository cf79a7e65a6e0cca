"""The shutter of a clip: the moments of an exposure, and the pictures that it averages.

An exposure is averaged from sub-frames, each posed and rendered at its own moment. The part of the movement that the
whole body shares is a blur along a line, so only movement relative to it needs sub-frames close together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Bytes, Float32, Float64, Int64
from posekit.data.synthetic.camera import Framing
from posekit.data.synthetic.clip_settings import ClipSettings
from posekit.data.synthetic.clip_stage import Bodies, Plan, Stage
from posekit.data.synthetic.compositing import smear
from posekit.data.synthetic.person import SUPERSAMPLING, Layer, hidden_by_self, paint
from posekit.data.synthetic.shading import shadow_map
from posekit.geometry.rasterizer import rasterize

_MARGIN = 0.25  # of the crop's sides: rendered beyond each border, for augmentation to move in
_STREAK = 1 / 43  # of the crop's height: how far apart sub-frames may draw a joint
_MOST_SIDES = 4  # sub-frames on either side of the middle


@dataclass(frozen=True)
class Shutter:
    """The sub-frames of a clip's T frames, but for their middles.

    Attributes:
        moments: (M,) recorded frame numbers.
        owner: (M,) the frame that each belongs to.
        path: (T, 2) px that the whole body moves from one sub-frame to the next.
    """

    moments: Float64
    owner: Int64
    path: Float32


def open_shutter(settings: ClipSettings, stage: Stage, framings: list[Framing], frames: Float64) -> Shutter:
    """Chooses sub-frames that draw no joint farther than a few px from its place in the one before.

    Args:
        settings: Size and number of frames.
        stage: Moves the person.
        framings: The crops' cameras.
        frames: (T,) recorded frame numbers.
    """
    exposure = stage.plan.exposure
    ends = []
    for offset in (-exposure / 2, exposure / 2):
        _, pelvis, rotations = stage.camera(frames + offset)
        _, joints, rest = stage.plan.figure.pose(stage.plan.person.betas, rotations)
        points = joints + (pelvis - rest[0])[:, None]
        ends.append(np.stack([f.project(p) for f, p in zip(framings, points, strict=True)]))
    paths = ends[1] - ends[0]
    shared = paths.mean(1)
    streak = np.linalg.norm(paths - shared[:, None], axis=-1).max(-1) / (_STREAK * settings.size[1])
    sides = np.where(streak < 0.5, 0, np.ceil(streak / 2)).clip(0, _MOST_SIDES).astype(int)
    moments, owner = [], []
    for t, n in enumerate(sides):
        steps = np.concatenate([np.arange(-n, 0), np.arange(1, n + 1)])
        moments.append(frames[t] + steps * exposure / (2 * n + 1))
        owner.append(np.full(2 * n, t))
    path = (shared / (2 * sides + 1)[:, None]).astype(np.float32)
    return Shutter(np.concatenate(moments), np.concatenate(owner), path)


# Sub-frames are not supersampled: each looks at another place in the pixel, and the average does the smoothing.
_PLACES = np.array(
    [[-0.25, 0.25], [0.25, -0.25], [0.25, 0.25], [-0.25, -0.25], [0.0, 0.375], [0.375, 0.0], [-0.375, 0.0], [0, -0.375]]
)


class Canvas:
    """One frame's picture: the crop with a margin around it."""

    def __init__(self, settings: ClipSettings, plan: Plan, framing: Framing) -> None:
        self.plan = plan
        self.skeleton = settings.skeleton
        self.margin = np.array([int(_MARGIN * side) for side in settings.size])
        width, height = np.array(settings.size) + 2 * self.margin
        self.size = (int(width), int(height))
        self.framing = replace(framing, center=(framing.center + self.margin).astype(np.float32))

    def expose(self, bodies: Bodies, t: int, between: Bodies, rows: Int64, path: Float32, label: NDArray[Any]) -> Layer:
        """Averages a frame's exposure, and fills in its label's visibility at the middle.

        Args:
            bodies: The figure in the middle of each frame's exposure.
            t: The frame.
            between: The figure at all other sub-frames of the clip.
            rows: Those of this frame.
            path: (2,) px that the whole body moves from one sub-frame to the next.
            label: The frame's record.
        """
        if not len(rows):
            return self._cut_out(smear(self._middle(bodies, t, label, None), path), label)
        # The light changes little within an exposure: its sub-frames share the middle's shadows.
        light = shadow_map(self.plan.figure, bodies.dressed[t], self.plan.person.light)
        reach = light.reach(bodies.dressed[t].T)
        pixels = self._middle(bodies, t, label, reach)
        for number, row in enumerate(rows):
            pixels += self._moment(between, int(row), number, reach)
        pixels *= np.float32(1 / (len(rows) + 1))
        return self._cut_out(smear(pixels, path), label)

    def _middle(self, bodies: Bodies, t: int, label: NDArray[Any], reach: Float32 | None) -> Float32:
        """Draws the exposure's middle, supersampled."""
        factor = SUPERSAMPLING
        vertices, size = bodies.dressed[t], (self.size[0] * factor, self.size[1] * factor)
        fine = (self.framing.project(vertices) + np.float32(0.5)) * factor - np.float32(0.5)
        seen = rasterize(fine, vertices[:, 2], self.plan.figure.faces, size)
        keypoints = label["keypoints"] + self.margin.astype(np.float32)
        hidden = hidden_by_self(seen, self.plan.figure, keypoints, label["joints3d"], self.skeleton)
        label["visible"] = np.where(hidden, 1, 2)
        figure, person = self.plan.figure, self.plan.person
        normals = bodies.normals[t]
        picture = paint(figure, seen, vertices, normals, person, self.framing, self.size, vertex_reach=reach)
        return self._spread(*picture)

    def _moment(self, bodies: Bodies, row: int, number: int, reach: Float32) -> Float32:
        """Draws one other moment of the exposure."""
        place = _PLACES[number % len(_PLACES)]
        vertices = bodies.dressed[row]
        points = self.framing.project(vertices) - place
        seen = rasterize(points, vertices[:, 2], self.plan.figure.faces, self.size)
        jitter = (float(place[0]), float(place[1]))
        figure, person = self.plan.figure, self.plan.person
        normals = bodies.normals[row]
        picture = paint(figure, seen, vertices, normals, person, self.framing, self.size, jitter, reach)
        return self._spread(*picture)

    def _spread(self, rgba: Bytes, origin: tuple[int, int]) -> Float32:
        canvas = np.zeros((self.size[1], self.size[0], 4), dtype=np.float32)
        x, y = origin
        canvas[y : y + rgba.shape[0], x : x + rgba.shape[1]] = rgba
        return canvas

    def _cut_out(self, pixels: Float32, label: NDArray[Any]) -> Layer:
        """Cuts out what is covered."""
        rgba = np.rint(pixels).astype(np.uint8)
        covered = rgba[..., 3] > 0
        rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
        if not len(rows):
            return Layer(np.zeros((1, 1, 4), np.uint8), (0, 0), label)  # type: ignore[arg-type]
        window = rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        origin = (int(columns[0] - self.margin[0]), int(rows[0] - self.margin[1]))
        return Layer(np.ascontiguousarray(window), origin, label)  # type: ignore[arg-type]
