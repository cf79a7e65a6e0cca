"""The dressed figure: the built-in body with the meshes that skin alone cannot show, skirts and long hair.

A garment is a strip of rings around the rest body. Its vertices take shape components from the nearest skin and
skinning weights by position, so that they follow any shape and pose like the body itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, identity
from scipy.spatial import cKDTree

from posekit.arrays import Bytes, Float32
from posekit.body import BuiltinBody, load_builtin_body, rigid_transforms, skin

# Parts beyond the 24 joints' own.
SKIRT, CURTAIN = 24, 25
SKIRT_HEMS = (None, -0.24, -0.44, -0.70)  # metres of the rest body: none, mini, knee, long
HAIR_ENDS = (None, 0.50, 0.34)  # none, to the shoulders, down the back


@dataclass(frozen=True)
class Figure:
    """A mesh that can be shaped and posed; its first vertices are the body's.

    Attributes:
        rest: (V, 3) mean shape, metres: the coordinates in which clothes are cut.
        shapedirs: (V, 3, 10) shape components.
        weights: (V, 24) skinning weights.
        faces: (F, 3) triangles.
        part: (F,) the joint that moves most of a face, or SKIRT or CURTAIN.
        normal_map: Sparse (V, F): sums up face normals at vertices, smoothed over the face's collapsed mouth and eyes.
    """

    rest: Float32
    shapedirs: Float32
    weights: Float32
    faces: NDArray[np.int32]
    part: Bytes
    normal_map: csr_matrix

    def pose(self, betas: Float32, rotations: Float32) -> tuple[Float32, Float32, Float32]:
        """Shapes the figure once and poses it any number of times.

        Args:
            betas: (10,) shape.
            rotations: (…, 24, 3, 3) local rotations.

        Returns:
            Posed vertices (…, V, 3), posed joint centres (…, 24, 3) and rest joint centres (24, 3), metres.
        """
        body = load_builtin_body()
        _, joints = body.rest(betas)
        vertices = self.rest + (self.shapedirs.reshape(-1, 10) @ betas).reshape(-1, 3)
        many = rotations.shape[:-3]
        world, posed = rigid_transforms(rotations, np.broadcast_to(joints, (*many, 24, 3)), body.parents)
        return (
            skin(np.broadcast_to(vertices, (*many, *vertices.shape)), self.weights, world, posed, joints),
            posed,
            joints,
        )

    def normals(self, vertices: Float32) -> Float32:
        """Returns unit normals (V, 3) of posed vertices."""
        a, b, c = (vertices[self.faces[:, k]] for k in range(3))
        u, v = b - a, c - a
        cross = np.empty_like(u)
        cross[:, 0] = u[:, 1] * v[:, 2] - u[:, 2] * v[:, 1]
        cross[:, 1] = u[:, 2] * v[:, 0] - u[:, 0] * v[:, 2]
        cross[:, 2] = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
        summed: Float32 = self.normal_map @ cross
        summed /= np.sqrt((summed * summed).sum(1, keepdims=True)) + np.float32(1e-12)
        return summed


@lru_cache(maxsize=16)
def load_figure(skirt: int = 0, hair: int = 0) -> Figure:
    """Builds a figure once per process.

    Args:
        skirt: Index into ``SKIRT_HEMS``.
        hair: Index into ``HAIR_ENDS``.
    """
    body = load_builtin_body()
    rest, weights, faces = [body.v_template], [body.weights], [body.faces]
    part = [body.weights[body.faces].sum(1).argmax(1).astype(np.uint8)]
    hem, end = SKIRT_HEMS[skirt], HAIR_ENDS[hair]
    strips = []
    if hem is not None:
        strips.append((*_skirt(body, hem), SKIRT))
    if end is not None:
        strips.append((*_curtain(body, end), CURTAIN))
    for points, rows, triangles, label in strips:
        faces.append(triangles + sum(map(len, rest)))
        rest.append(points)
        weights.append(rows)
        part.append(np.full(len(triangles), label, np.uint8))
    vertices = np.concatenate(rest)
    extra = vertices[len(body.v_template) :]
    shapedirs = body.shapedirs
    if len(extra):
        _, near = cKDTree(body.v_template).query(extra, k=6)
        shapedirs = np.concatenate([shapedirs, body.shapedirs[near].mean(1)])
    triangles = np.concatenate(faces).astype(np.int32)
    return Figure(
        vertices,
        shapedirs,
        np.concatenate(weights).astype(np.float32),
        triangles,
        np.concatenate(part),
        _normal_map(vertices, triangles),
    )


def _normal_map(rest: Float32, faces: NDArray[np.int32]) -> csr_matrix:
    """Sums faces at their corners, then averages neighbours on the face, whose mouth and eyes were decimated away."""
    count, corners = len(rest), faces.reshape(-1)
    sums = csr_matrix(
        (np.ones(len(corners), np.float32), (corners, np.repeat(np.arange(len(faces)), 3))), (count, len(faces))
    )
    links = csr_matrix((sums @ sums.T).sign())
    mean = csr_matrix(links.multiply(1 / links.sum(1)))
    x, y, z = rest.T
    smooth = ((y > 0.57) & (y < 0.72) & (z > 0.06) & (np.abs(x) < 0.07)).astype(np.float32)
    step = identity(count, format="csr", dtype=np.float32).multiply((1 - smooth)[:, None]) + mean.multiply(
        smooth[:, None]
    )
    step = csr_matrix(step)
    result: csr_matrix = csr_matrix(step @ step @ step @ sums).astype(np.float32)
    return result


def _ramp(value: NDArray[np.floating], start: float, end: float) -> NDArray[np.floating]:
    t = np.clip((value - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


def _grid_faces(rows: int, columns: int, closed: bool) -> NDArray[np.int32]:
    """Triangles of a grid of rings, outwards when columns run counter-clockwise seen from above and rows go down."""
    last = columns if closed else columns - 1
    triangles = []
    for r in range(rows - 1):
        for c in range(last):
            a, b = r * columns + c, r * columns + (c + 1) % columns
            d, e = a + columns, b + columns
            triangles += [(a, d, b), (b, d, e)]
    return np.array(triangles, dtype=np.int32)


def _skirt(body: BuiltinBody, hem: float) -> tuple[Float32, Float32, NDArray[np.int32]]:
    columns, heights = 26, np.linspace(0.07, hem, 7)
    angle = np.arange(columns) * (2 * np.pi / columns)
    trunk = body.v_template[np.abs(body.v_template[:, 0]) < 0.3]
    points = []
    reach_x = reach_z = 0.0
    for height in heights:
        ring = trunk[np.abs(trunk[:, 1] - height) < 0.05]
        middle = (ring[:, 2].min() + ring[:, 2].max()) / 2
        # A skirt never narrows on its way down.
        flare = 0.012 + 0.12 * max(0.0, 0.05 - height)
        reach_x = max(reach_x, np.abs(ring[:, 0]).max() * 1.02 + flare)
        reach_z = max(reach_z, (ring[:, 2].max() - ring[:, 2].min()) / 2 * 1.05 + flare)
        points.append(
            np.stack([reach_x * np.sin(angle), np.full(columns, height), middle + reach_z * np.cos(angle)], 1)
        )
    vertices = np.concatenate(points)
    legs = _ramp(vertices[:, 1], 0.05, -0.25)
    left = _ramp(vertices[:, 0], -0.14, 0.14)
    shins = 0.6 * _ramp(vertices[:, 1], -0.38, -0.6)
    weights = np.zeros((len(vertices), 24))
    weights[:, 0] = 1 - legs
    for hip, knee, share in ((1, 4, left), (2, 5, 1 - left)):
        weights[:, hip] = legs * share * (1 - shins)
        weights[:, knee] = legs * share * shins
    return vertices.astype(np.float32), weights.astype(np.float32), _grid_faces(len(heights), columns, True)


def _curtain(body: BuiltinBody, end: float) -> tuple[Float32, Float32, NDArray[np.int32]]:
    columns, heights = 15, np.linspace(0.755, end, 8)
    angle = np.pi + np.linspace(-1.0, 1.0, columns) * np.deg2rad(118)
    trunk = body.v_template[np.abs(body.v_template[:, 0]) < 0.1]
    points = []
    for height in heights:
        ring = trunk[np.abs(trunk[:, 1] - height) < 0.04]
        back = min(float(ring[:, 2].min()), -0.03) - 0.02
        wide = 0.088 + 0.022 * float(_ramp(np.array(height), 0.755, 0.62))
        reach = 0.035 - back
        points.append(np.stack([wide * np.sin(angle), np.full(columns, height), 0.035 + reach * np.cos(angle)], 1))
    vertices = np.concatenate(points)
    chest, neck = _ramp(vertices[:, 1], 0.54, 0.36), _ramp(vertices[:, 1], 0.66, 0.5)
    weights = np.zeros((len(vertices), 24))
    weights[:, 9], weights[:, 12], weights[:, 15] = chest, (1 - chest) * neck * 0.6, (1 - chest) * (1 - neck * 0.6)
    outside = _grid_faces(len(heights), columns, False)
    return vertices.astype(np.float32), weights.astype(np.float32), np.concatenate([outside, outside[:, ::-1]])
