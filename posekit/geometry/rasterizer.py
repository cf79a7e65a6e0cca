"""A z-buffer in vectorised numpy: no GL, no loop over triangles or pixels.

Triangles are cut into horizontal spans (one per pixel row), whose ends follow from the edge lines, so that only covered
pixels ever become fragments. One scatter-maximum of the inverse depth resolves visibility; attributes are interpolated
afterwards, for the visible pixels alone (deferred shading). Pixel centres are integers.

Two triangles that share an edge compute the same crossing from exactly negated coefficients, so no pixel falls between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Float32, Float64, Int64


@dataclass(frozen=True)
class Visible:
    """What the camera sees of a mesh.

    Attributes:
        size: (W, H) of the buffer, px.
        inverse_depth: (H * W,) of 1 / z in 1/m, 0 where nothing is.
        pixel: (N,) flat indices ``y * W + x`` of the covered pixels, ascending.
        face: (N,) the face seen at each of them.
        barycentric: (3, N) perspective-correct weights of that face's corners.
    """

    size: tuple[int, int]
    inverse_depth: Float32
    pixel: Int64
    face: Int64
    barycentric: Float32

    def interpolate(self, attributes: Float32, faces: NDArray[np.integer]) -> Float32:
        """Interpolates vertex attributes (V, A) at the covered pixels.

        Returns:
            (A, N), one contiguous row per attribute.
        """
        corners = faces[self.face]
        columns = np.ascontiguousarray(attributes.T)
        values: Float32 = columns.take(corners[:, 0], axis=1) * self.barycentric[0]
        values += columns.take(corners[:, 1], axis=1) * self.barycentric[1]
        values += columns.take(corners[:, 2], axis=1) * self.barycentric[2]
        return values


def rasterize(
    points: NDArray[np.floating], depth: NDArray[np.floating], faces: NDArray[np.integer], size: tuple[int, int]
) -> Visible:
    """Finds the nearest front face at every pixel.

    Args:
        points: (V, 2) projected vertices, px; x right, y down.
        depth: (V,) metres along the optical axis, all positive.
        faces: (F, 3), counter-clockwise seen from outside; faces that show their back are culled.
        size: (W, H) of the buffer, px.
    """
    width, height = size
    # Corners lead, (3, F): numpy reduces a leading axis of three many times faster than a trailing one.
    corners = np.ascontiguousarray(faces.T)
    x, y = points[:, 0].astype(np.float64)[corners], points[:, 1].astype(np.float64)[corners]
    # Counter-clockwise seen from outside is a negative area on the screen, whose y points down.
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    top = np.maximum(np.ceil(y.min(0)), 0).astype(np.int32)
    bottom = np.minimum(np.floor(y.max(0)), height - 1).astype(np.int32)
    front = np.flatnonzero((area < -1e-9) & (bottom >= top) & (x.max(0) >= 0) & (x.min(0) <= width - 1))

    x, y, top, bottom = x.take(front, axis=1), y.take(front, axis=1), top[front], bottom[front]
    x_next, y_next = x[[1, 2, 0]], y[[1, 2, 0]]
    # Edge functions a x + b y + c of the edges i -> i+1, positive inside.
    a, b, c = y_next - y, x - x_next, x_next * y - x * y_next
    inverse = 1.0 / depth.astype(np.float64)[corners[:, front]]
    # Over the doubled area, the edge opposite to a corner (it starts at the next one) is the corner's linear weight.
    planes = np.stack([a[[1, 2, 0]], b[[1, 2, 0]], c[[1, 2, 0]]]) / -area[front]
    depth_plane = (planes * inverse).sum(1)

    pixel, fragment_face, fragment_depth = _fragments(a, b, c, top, bottom, depth_plane, size)
    buffer = np.zeros(width * height, dtype=np.float32)
    np.maximum.at(buffer, pixel, fragment_depth)
    nearest = np.flatnonzero(fragment_depth == buffer[pixel])
    face_at = np.full(width * height, -1, dtype=np.int32)
    face_at[pixel[nearest]] = fragment_face[nearest]
    covered = np.flatnonzero(face_at >= 0)
    local = face_at[covered]
    # Multiplying a corner's plane by its 1 / z first makes the weights perspective-correct up to a common factor.
    weights = _evaluate((planes * inverse).astype(np.float32), covered, width, local)
    return Visible(size, buffer, covered, front[local], weights)


def _fragments(
    a: Float64,
    b: Float64,
    c: Float64,
    top: NDArray[np.int32],
    bottom: NDArray[np.int32],
    depth_plane: Float64,
    size: tuple[int, int],
) -> tuple[NDArray[np.int32], NDArray[np.int32], Float32]:
    """Lists every covered pixel of every triangle: flat pixel, triangle, 1 / z."""
    with np.errstate(divide="ignore", invalid="ignore"):
        slope, start = -b / a, -c / a
    # A horizontal edge bounds no row from the side: the rows between top and bottom satisfy it already.
    left, right = a > 0, a < 0
    lines = np.stack(
        [
            np.where(left, slope, 0),
            np.where(left, start, -np.inf),
            np.where(right, slope, 0),
            np.where(right, start, np.inf),
        ]
    )
    rows = bottom - top + 1
    row_face = np.repeat(np.arange(len(rows), dtype=np.int32), rows)
    row_y = np.arange(len(row_face)) - np.repeat(np.cumsum(rows) - rows - top, rows)
    line = lines.take(row_face, axis=2)
    first = np.maximum(np.ceil((line[0] * row_y + line[1]).max(0)), 0).astype(np.int32)
    last = np.minimum(np.floor((line[2] * row_y + line[3]).min(0)), size[0] - 1).astype(np.int32)
    counts = last - first + 1
    kept = np.flatnonzero(counts > 0)
    first, counts, row_face, row_y = first[kept], counts[kept], row_face[kept], row_y[kept]
    plane = depth_plane.take(row_face, axis=1)
    slopes = plane[0].astype(np.float32)
    origins = (plane[0] * first + plane[1] * row_y + plane[2]).astype(np.float32)

    step = np.arange(counts.sum(dtype=np.int64), dtype=np.int32)
    step -= np.repeat((np.cumsum(counts) - counts).astype(np.int32), counts)
    pixel = np.repeat((row_y * size[0] + first).astype(np.int32), counts)
    pixel += step
    depth = np.repeat(slopes, counts)
    depth *= step
    depth += np.repeat(origins, counts)
    return pixel, np.repeat(row_face, counts), depth


def _evaluate(planes: Float32, pixel: Int64, width: int, face: NDArray[np.int32]) -> Float32:
    """Weights (3, N) of the corners at pixels from the corners' planes (3 coefficients, 3 corners, F), summing to 1."""
    y, x = np.divmod(pixel, width)
    plane = planes.take(face, axis=2)
    weights: Float32 = plane[0] * x.astype(np.float32)
    weights += plane[1] * y.astype(np.float32)
    weights += plane[2]
    np.maximum(weights, 0, out=weights)
    weights /= weights.sum(0)
    return weights
