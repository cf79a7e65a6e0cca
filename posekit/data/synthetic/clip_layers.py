"""A person's layers over the frames of a clip: one body and one look, moved by a recording, seen by a moving camera.

Labels belong to the middle of a frame's exposure and do not depend on its length.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Float64
from posekit.data.synthetic.camera import Framing
from posekit.data.synthetic.clip_camera import backdrop_maps
from posekit.data.synthetic.clip_settings import ClipSettings
from posekit.data.synthetic.clip_shutter import Canvas, open_shutter
from posekit.data.synthetic.clip_stage import Bodies, Plan, Stage, plan_clip, set_up
from posekit.data.synthetic.motion import FRAME_RATE
from posekit.data.synthetic.person import Layer, joint_regressor
from posekit.geometry.affine import fit_aspect
from posekit.geometry.rotations import matrix_to_axis_angle


def render_clip(settings: ClipSettings, index: int) -> list[Layer]:
    """Renders a clip's layers: a pure function of its arguments."""
    plan = plan_clip(settings, index)
    frames = plan.start + settings.frame_step * np.arange(settings.frames, dtype=np.float64)
    stage = set_up(plan, frames, frames[settings.middle])
    bodies = stage.bodies(frames)
    framings, affines, original = _framings(settings, plan, bodies)
    labels = _labels(settings, stage, bodies, framings, affines, original, frames)
    shutter = open_shutter(settings, stage, framings, frames)
    between = stage.bodies(shutter.moments) if len(shutter.moments) else bodies  # then no frame has a row in it
    layers = []
    for t, framing in enumerate(framings):
        canvas = Canvas(settings, plan, framing)
        rows = np.flatnonzero(shutter.owner == t)
        layers.append(canvas.expose(bodies, t, between, rows, shutter.path[t], labels[t]))
    return layers


def _framings(settings: ClipSettings, plan: Plan, bodies: Bodies) -> tuple[list[Framing], Float64, Framing]:
    """Fits boxes around the dressed person.

    Returns:
        The crops' cameras, the affines (T, 3) from original frame to crop, and the original frame's camera at the key.
    """
    unit = bodies.dressed[..., :2] / bodies.dressed[..., 2:]
    low, high = unit.min(1).astype(np.float64), unit.max(1).astype(np.float64)
    size = np.array(settings.size)
    box = fit_aspect((high - low) * plan.padding, size[0] / size[1])
    focal = (size[0] - 1) / box[:, 0]
    center = (size - 1) / 2 - focal[:, None] * ((low + high) / 2 + plan.jitter * box)
    key = settings.middle
    whole = np.array([-np.inf, -np.inf, np.inf, np.inf], dtype=np.float32)
    original = Framing(float(focal[key]), center[key].astype(np.float32), whole, whole)
    zoomed = focal[key] * bodies.poses.zoom.astype(np.float64)
    scale = focal / zoomed
    affines = np.concatenate([scale[:, None], center - scale[:, None] * center[key]], 1)
    if settings.clip_box == "key":
        focal, center = zoomed, np.broadcast_to(center[key], center.shape)
        affines = np.tile([1.0, 0.0, 0.0], (len(focal), 1))
    framings = [Framing(float(f), c.astype(np.float32), whole, whole) for f, c in zip(focal, center, strict=True)]
    return framings, affines, original


def _labels(
    settings: ClipSettings,
    stage: Stage,
    bodies: Bodies,
    framings: list[Framing],
    affines: Float64,
    original: Framing,
    frames: Float64,
) -> NDArray[Any]:
    """Fills the records (T,) but for visibility, which needs the depth buffer."""
    regressor = joint_regressor(settings.skeleton)
    joints3d = regressor @ bodies.bare[:, : regressor.shape[1]]
    labels = np.zeros(len(frames), dtype=settings.dtype)
    labels["joints3d"] = joints3d
    labels["keypoints"] = np.stack([f.project(points) for f, points in zip(framings, joints3d, strict=True)])
    labels["pose"], labels["betas"] = matrix_to_axis_angle(bodies.rotations), stage.plan.person.betas
    labels["translation"], labels["pelvis"] = bodies.shift, bodies.pelvis
    labels["focal"], labels["center"] = [f.focal for f in framings], [f.center for f in framings]
    labels["border"], labels["cut"] = original.border, original.cut
    labels["affine"], labels["frame"] = affines, np.rint(frames)
    labels["exposure"] = stage.plan.exposure / FRAME_RATE
    focal = original.focal * bodies.poses.zoom[:, None, None]
    pixels = bodies.dressed[..., :2] / bodies.dressed[..., 2:] * focal + original.center
    labels["box"][:, :2], labels["box"][:, 2:] = pixels.min(1) - 0.5, np.ptp(pixels, axis=1) + 1
    labels["backdrop"], smear = _backdrop(settings, stage, original, frames)
    labels["smear"] = affines[:, :1] * smear
    return labels


def _backdrop(settings: ClipSettings, stage: Stage, original: Framing, frames: Float64) -> tuple[Float64, Float64]:
    """Returns how the background lies in each frame (T, 3, 3), and how far it moves in an exposure (T, 2), px."""
    half = stage.plan.exposure / 2
    poses = [stage.camera(frames + offset)[0] for offset in (0.0, -half, half)]
    key = stage.camera(np.array([stage.key_frame]))[0]
    # A plane that the camera walked through would turn inside out: it stays ahead of it.
    forward = max(float(((p.position - key.position) @ key.orientation[0, 2]).max()) for p in poses)
    depth = max(float(stage.target[2]) * stage.plan.path.backdrop, 2 * forward + 1)
    middle, first, last = (backdrop_maps(p, key, depth, original.focal, original.center) for p in poses)
    point = np.append((np.array(settings.size) - 1) / 2, 1.0)
    start, end = ((m @ point)[:, :2] / (m @ point)[:, 2:] for m in (first, last))
    return middle, end - start
