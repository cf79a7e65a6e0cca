"""Shaded meshes on pictures, by the numpy z-buffer; no window and no GL."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from posekit.arrays import Bytes, Float32, Int64
from posekit.geometry.rasterizer import Visible, rasterize
from posekit.visualization.draw import drawable

SKIN = (176, 196, 222)  # a light steel blue, which no photo's skin or cloth is taken for
_SUPERSAMPLING = 2
_SMOOTHING = 1
_NEAR = 0.05  # metres; faces with a corner nearer to the camera's plane are left out
# Unit vectors towards the lights, camera frame: a key light over the left shoulder of the camera, a fill light.
_LIGHTS = (((-0.45, -0.65, -0.61), 0.74), ((0.75, -0.1, -0.65), 0.16))
_AMBIENT = 0.2


def draw_mesh(
    image: Bytes,
    vertices: ArrayLike,
    faces: ArrayLike,
    focal: float | ArrayLike,
    center: ArrayLike | None = None,
    color: ArrayLike = SKIN,
    opacity: float = 1.0,
) -> Bytes:
    """Draws bodies over a picture with shading, nearer ones in front of farther ones.

    Args:
        image: (H, W, 3) uint8 RGB; it is not changed.
        vertices: (V, 3) of one mesh or (N, V, 3) of several, metres, camera frame (x right, y down, z forward).
        faces: (F, 3) triangles, counter-clockwise seen from outside.
        focal: Focal length, px, one for all or one for each mesh.
        center: (x, y) principal point, px; None is the picture's centre.
        color: RGB 0..255, (3,) for all or (N, 3).
        opacity: 1 hides the picture behind the mesh, 0 leaves it.

    Returns:
        A new picture of the same size.

    Raises:
        UserError: The picture is of another type or shape.
    """
    image = drawable(image, "draw_mesh")
    height, width = image.shape[:2]
    meshes = np.asarray(vertices, dtype=np.float32)
    meshes = meshes.reshape(-1, *meshes.shape[-2:])
    middle = np.asarray((np.array([width, height]) - 1) / 2 if center is None else center, dtype=np.float32)
    focals = np.broadcast_to(np.asarray(focal, dtype=np.float32), len(meshes))
    points = _project(meshes, focals, middle).reshape(-1, 2)
    depth = np.maximum(meshes[..., 2].reshape(-1), np.float32(_NEAR))
    triangles = _all_faces(np.asarray(faces, dtype=np.int64), meshes)
    window = _window(points[np.unique(triangles)], width, height)
    if window is None:
        return image.copy()
    left, top, right, bottom = window
    factor = _SUPERSAMPLING
    # Pixel centres are integers: a pixel's sub-pixels lie symmetrically about it.
    fine = (points - (left, top) + np.float32(0.5)) * factor - np.float32(0.5)
    seen = rasterize(fine, depth, triangles, ((right - left) * factor, (bottom - top) * factor))
    colors = np.broadcast_to(np.asarray(color, dtype=np.float32), (len(meshes), 3)).repeat(meshes.shape[1], 0)
    layer = _shade(seen, _smooth_normals(meshes.reshape(-1, 3), triangles), colors, triangles)
    small = cv2.resize(layer, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
    drawn = image.copy()
    under = image[top:bottom, left:right].astype(np.float32)
    over = under * (1 - opacity * small[..., 3:]) + opacity * small[..., :3]
    drawn[top:bottom, left:right] = np.clip(np.round(over), 0, 255).astype(np.uint8)
    return drawn


def vertex_normals(vertices: Float32, faces: NDArray[np.integer]) -> Float32:
    """Returns unit normals (V, 3), outwards, of vertices (V, 3): the sum of their faces' normals, by area."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return _unit(_at_corners(np.cross(b - a, c - a), faces, len(vertices)))


def _at_corners(values: Float32, faces: NDArray[np.integer], count: int) -> Float32:
    """Sums the values of faces (F, 3) at their corners (V, 3)."""
    corners, weights = faces.T.reshape(-1), np.tile(values, (3, 1))
    return np.stack([np.bincount(corners, weights[:, k], count) for k in range(3)], 1).astype(np.float32)


def _smooth_normals(vertices: Float32, faces: NDArray[np.integer]) -> Float32:
    """Returns normals averaged over the neighbours: a decimated mouth or eye would else show as a dark spot."""
    normals = vertex_normals(vertices, faces)
    for _ in range(_SMOOTHING):
        normals = _unit(_at_corners(normals[faces].sum(1), faces, len(vertices)))
    return normals


def _unit(vectors: Float32) -> Float32:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _project(meshes: Float32, focals: Float32, center: Float32) -> Float32:
    z = np.maximum(meshes[..., 2:], np.float32(_NEAR))
    points = meshes[..., :2] / z * focals[:, None, None] + center
    # Far outside the picture the exact place does not matter, but its square must stay finite.
    return np.clip(points, -1e6, 1e6)


def _all_faces(faces: Int64, meshes: Float32) -> Int64:
    """Repeats the faces for each mesh and leaves those out that reach the camera or hold no number."""
    count = meshes.shape[1]
    repeated = (faces[None] + count * np.arange(len(meshes))[:, None, None]).reshape(-1, 3)
    flat = meshes.reshape(-1, 3)
    good = (flat[:, 2] > _NEAR) & np.isfinite(flat).all(1)
    return repeated[good[repeated].all(1)]


def _window(points: Float32, width: int, height: int) -> tuple[int, int, int, int] | None:
    """Returns the part of the picture that the points can touch: left, top, right, bottom (exclusive)."""
    if not len(points):
        return None
    low = np.maximum(np.floor(points.min(0)) - 1, 0).astype(int)
    high = np.minimum(np.ceil(points.max(0)) + 2, (width, height)).astype(int)
    if (low >= high).any():
        return None
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _shade(seen: Visible, normals: Float32, colors: Float32, faces: Int64) -> Float32:
    """Returns (h, w, 4): colours premultiplied by the coverage, and the coverage (0 or 1)."""
    width, height = seen.size
    values = seen.interpolate(np.concatenate([normals, colors], 1), faces)
    normal = values[:3] / np.maximum(np.sqrt((values[:3] ** 2).sum(0)), 1e-6)
    brightness = np.full(normal.shape[1], _AMBIENT, dtype=np.float32)
    for direction, strength in _LIGHTS:
        toward = np.asarray(direction, dtype=np.float32)
        # Wrapped by a fifth, so that the terminator is soft, as in a room.
        brightness += np.float32(strength) * np.maximum((toward @ normal + 0.2) / 1.2, 0)
    layer = np.zeros((height * width, 4), dtype=np.float32)
    layer[seen.pixel, :3] = np.minimum(values[3:] * brightness * 1.15, 255).T
    layer[seen.pixel, 3] = 1
    return layer.reshape(height, width, 4)
