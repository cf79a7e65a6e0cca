"""Draws one person: pose, shape, looks, light and camera in; a layer with colours, coverage and exact labels out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from posekit.arrays import Bool, Bytes, Float32
from posekit.body import load_builtin_body
from posekit.data.synthetic.camera import Framing, View, frame, place
from posekit.data.synthetic.figure import CURTAIN, SKIRT, Figure, load_figure
from posekit.data.synthetic.look import Look, sample_look
from posekit.data.synthetic.motion import FrameSampler
from posekit.data.synthetic.options import Difficulty
from posekit.data.synthetic.pose import sample_pose
from posekit.data.synthetic.shading import Light, sample_light, shade
from posekit.geometry.rasterizer import Visible, rasterize
from posekit.geometry.rotations import matrix_to_axis_angle

SUPERSAMPLING = 2
_LANDMARK_ALLOWANCE = 0.03
_CROWN_ALLOWANCE = 0.12  # the crown lies under hair or a cap, and is looked at from the side
_FOREARM = 0.44  # |x| of the elbows at rest, metres


@dataclass(frozen=True)
class Person:
    """Who is drawn, in which pose and light: everything but the camera.

    Attributes:
        rotations: (24, 3, 3) local rotations, y up.
        betas: (10,) shape.
        look: Skin, hair and clothes.
        light: The light.
    """

    rotations: Float32
    betas: Float32
    look: Look
    light: Light


@dataclass(frozen=True)
class Layer:
    """A rendered person, ready for compositing.

    Attributes:
        rgba: (h, w, 4) uint8, colours premultiplied by coverage.
        origin: (x, y) of its first pixel in the crop.
        labels: Record of ``label_dtype``.
    """

    rgba: Bytes
    origin: tuple[int, int]
    labels: np.void


@cache
def label_dtype(joints: int) -> np.dtype[np.void]:
    """Returns the record of a layer's labels: crop px and metres in the camera's frame."""
    return np.dtype(
        [
            ("keypoints", "f4", (joints, 2)),
            ("visible", "u1", (joints,)),  # 1 hidden by the own body, 2 seen; the crop's border is not looked at
            ("joints3d", "f4", (joints, 3)),
            ("pose", "f4", (24, 3)),  # axis-angle, row 0 in the camera's frame
            ("betas", "f4", (10,)),
            ("translation", "f4", (3,)),
            ("pelvis", "f4", (3,)),
            ("focal", "f4"),
            ("center", "f4", (2,)),
            ("border", "f4", (4,)),
            ("cut", "f4", (4,)),
        ]
    )


def sample_person(rng: np.random.Generator, sampler: FrameSampler, options: Difficulty) -> Person:
    """Draws a pose, a shape, looks and a light."""
    rotations = sample_pose(rng, sampler, options.pose_variety)
    betas = np.clip(rng.normal(0, 1, 10), -2.5, 2.5).astype(np.float32)
    return Person(rotations, betas, sample_look(rng), sample_light(rng))


def render(rng: np.random.Generator, person: Person, view: View, size: tuple[int, int], skeleton: str) -> Layer:
    """Renders a person from a view; the framing follows from the view.

    Args:
        rng: Source of the framing's jitter.
        person: Who and in which pose.
        view: From where, and what is cut.
        size: (W, H) of the crop, px.
        skeleton: Joint set of the labels.
    """
    figure = load_figure(person.look.skirt, person.look.curtain)
    rotations = person.rotations.copy()
    rotations[0] = view.orientation @ rotations[0]
    bare, joints, rest_joints = figure.pose(person.betas, rotations)
    bare, shift = place(bare, joints[0], view)
    normals = figure.normals(bare)
    vertices = bare + normals * thickness(figure, person.look)[:, None]
    framing = frame(rng, vertices, np.abs(figure.rest[:, 0]) < _FOREARM, view, size)

    factor = SUPERSAMPLING
    # Pixel centres are integers: a pixel's sub-pixels lie symmetrically about it.
    fine = (framing.project(vertices) + np.float32(0.5)) * factor - np.float32(0.5)
    seen = rasterize(fine, vertices[:, 2], figure.faces, (size[0] * factor, size[1] * factor))
    body = load_builtin_body()
    skin_vertices = bare[: len(body.v_template)]
    joints3d = joint_regressor(skeleton) @ skin_vertices
    labels = np.zeros((), dtype=label_dtype(len(joints3d)))
    labels["joints3d"], labels["keypoints"] = joints3d, framing.project(joints3d)
    labels["visible"] = np.where(hidden_by_self(seen, figure, labels["keypoints"], joints3d, skeleton), 1, 2)
    labels["pose"], labels["betas"] = matrix_to_axis_angle(rotations), person.betas
    labels["translation"], labels["pelvis"] = shift, rest_joints[0] + shift
    labels["focal"], labels["center"], labels["border"], labels["cut"] = (
        framing.focal,
        framing.center,
        framing.border,
        framing.cut,
    )
    rgba, origin = paint(figure, seen, vertices, normals, person, framing, size)
    record: np.void = labels[()]  # type: ignore[assignment]  # numpy's stubs know no scalar of a record array
    return Layer(rgba, origin, record)


@cache
def joint_regressor(skeleton: str) -> Float32:
    """Returns the built-in body's regressor of a joint set (K, V), made once per process."""
    return load_builtin_body().regressor(skeleton)


def paint(
    figure: Figure,
    seen: Visible,
    vertices: Float32,
    normals: Float32,
    person: Person,
    framing: Framing,
    size: tuple[int, int],
    jitter: tuple[float, float] = (0.0, 0.0),
    vertex_reach: Float32 | None = None,
) -> tuple[Bytes, tuple[int, int]]:
    """Shades, scatters, and averages the supersampled pixels; returns the covered rectangle and its origin.

    Args:
        figure: The mesh.
        seen: Its depth buffer, a whole number of times as large as the picture.
        vertices: (V, 3) posed, camera frame.
        normals: (V, 3) of the same.
        person: Looks and light count.
        framing: The picture's camera.
        size: (W, H) of the picture, px.
        jitter: Where in its pixel (x, y) the depth buffer was sampled, px from the centre.
        vertex_reach: (V,) how much of the key light comes to each vertex; None casts shadows pixel by pixel.
    """
    if not len(seen.pixel):
        return np.zeros((1, 1, 4), np.uint8), (0, 0)
    width, height = seen.size
    factor = width // size[0]
    y, x = np.divmod(seen.pixel, width)
    z = 1 / seen.inverse_depth[seen.pixel]
    plane = np.stack([x, y]).astype(np.float32)
    plane = (plane + np.float32(0.5)) / np.float32(factor) - np.float32(0.5)
    offset = (framing.center - np.asarray(jitter, dtype=np.float32))[:, None]
    plane = ((plane - offset) * (z / np.float32(framing.focal))).astype(np.float32)
    points = np.concatenate([plane, z[None]])
    colors = shade(figure, seen, vertices, normals, points, person.look, person.light, vertex_reach)
    image = np.zeros((height * width, 4), dtype=np.uint8)
    pixels = np.empty((len(x), 4), dtype=np.uint8)
    pixels[:, :3] = (colors * 255 + np.float32(0.5)).T
    pixels[:, 3] = 255
    image[seen.pixel] = pixels
    left, right = int(x.min()) // factor, int(x.max()) // factor + 1
    top, bottom = int(y[0]) // factor, int(y[-1]) // factor + 1
    window = image.reshape(height, width, 4)[top * factor : bottom * factor, left * factor : right * factor]
    if factor > 1:
        window = np.asarray(cv2.resize(window, (right - left, bottom - top), interpolation=cv2.INTER_AREA))
    return np.asarray(window, dtype=np.uint8), (left, top)


def thickness(figure: Figure, look: Look) -> Float32:
    """Returns how far cloth, hair and shoes stand off the skin at each vertex, (V,) metres."""
    x, y, z = figure.rest.T
    across = np.abs(x)
    result = np.zeros(len(x), dtype=np.float32)
    trunk = (y > look.hem) & (y < 0.5) & (across < look.sleeve)
    if look.has_top:
        # Cloth hangs: it touches the shoulders and stands off at the waist.
        result[trunk] = look.top.looseness * np.clip(0.35 + 1.6 * (0.42 - y[trunk]), 0.35, 1.0)
    legs = (y <= look.hem) & (y > look.leg_end)
    result[legs] = look.bottom.looseness * np.clip(0.4 - 0.8 * y[legs], 0.4, 1.0)
    result[(y < look.shoe_top)] = look.shoes.looseness
    scalp = (y > 0.68) & ((z < 0.06) | (y > 0.75)) & (across < 0.13)
    if not look.bald or look.cap:
        result[scalp] = max(look.hair_volume, 0.015 if look.cap else 0.0)
    result[len(load_builtin_body().v_template) :] = 0
    return result


@cache
def _own_parts(skeleton: str) -> tuple[Bool, Float32, Float32]:
    """For each joint: its own parts (K, 26), and how far own and other parts may stand in front of it, metres."""
    body = load_builtin_body()
    rows = joint_regressor(skeleton)
    centres = rows @ body.v_template
    own = np.zeros((len(rows), 26), dtype=bool)
    spread = np.zeros(len(rows), dtype=np.float32)
    other = np.zeros(len(rows), dtype=np.float32)
    for k, row in enumerate(rows):
        support = np.flatnonzero(row > 1e-4)
        if len(support) == 1:  # a point of the surface
            own[k, :24] = body.weights[support[0]] > 0.05
            spread[k] = other[k] = _LANDMARK_ALLOWANCE
            if support[0] == body.landmarks["head_top"]:
                spread[k] = _CROWN_ALLOWANCE
        else:  # a point inside: its own parts are those of the skin around it
            radius = float((row @ np.linalg.norm(body.v_template - centres[k], axis=1)) / row.sum())
            around = np.linalg.norm(body.v_template - centres[k], axis=1) < 1.3 * radius
            own[k, :24] = (body.weights[around] > 0.2).any(0)
            spread[k] = 2 * radius + 0.02
        own[k, SKIRT] = bool(centres[k, 1] < 0.1)
        own[k, CURTAIN] = bool(centres[k, 1] > 0.3 and abs(centres[k, 0]) < 0.25)
        if own[k, CURTAIN] and spread[k] == _LANDMARK_ALLOWANCE and abs(centres[k, 0]) > 0.05:
            spread[k] = 0.06  # an ear under hair counts as seen, as annotators mark it
    return own, spread, other


def hidden_by_self(seen: Visible, figure: Figure, keypoints: Float32, joints3d: Float32, skeleton: str) -> Bool:
    """Tells which joints the person's own body hides.

    The rule, at the joint's pixel of the depth buffer: a surface of another part of the body hides the joint as soon as
    it lies in front of it; a surface of the joint's own parts (the limbs that meet there) only where it stands off by
    more than the limb's diameter plus 2 cm, since up to there it is the joint's own skin (the trunk seen from the side
    hides the far hip, and the near one not). Points of the skin (nose, eyes, ears) are hidden by what is more than 3 cm
    in front of them. Joints whose pixel the body does not cover, or that lie outside the crop, are not hidden by it.

    Args:
        seen: The depth buffer, supersampled.
        figure: The mesh.
        keypoints: (K, 2) crop px.
        joints3d: (K, 3) metres, camera frame.
        skeleton: Joint set.
    """
    width, height = seen.size
    cell = np.rint((keypoints + 0.5) * SUPERSAMPLING - 0.5).astype(np.int64)
    inside = (cell >= 0).all(1) & (cell[:, 0] < width) & (cell[:, 1] < height)
    pixel = np.where(inside, cell[:, 1] * width + cell[:, 0], 0)
    row = np.searchsorted(seen.pixel, pixel)
    row = np.minimum(row, max(len(seen.pixel) - 1, 0))
    covered = inside & (seen.pixel[row] == pixel) if len(seen.pixel) else np.zeros(len(pixel), dtype=bool)
    if not covered.any():
        return np.zeros(len(pixel), dtype=bool)
    in_front = joints3d[:, 2] - 1 / np.maximum(seen.inverse_depth[pixel], 1e-6)
    own, allowance, other = _own_parts(skeleton)
    limit = np.where(own[np.arange(len(own)), figure.part[seen.face[row]]], allowance, other)
    result: Bool = covered & (in_front > limit)
    return result
