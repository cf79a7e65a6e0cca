"""Thins a mirror-symmetric mesh out by half-edge collapses, so that every kept vertex is a vertex of the base mesh.

Error measure: quadrics of Garland and Heckbert, "Surface simplification using quadric error metrics", SIGGRAPH 1997,
with small terms for the distance moved and for the change of skinning weights. One half is thinned out and mirrored.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from posekit.geometry.rasterizer import rasterize

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HIDDEN = 0.02  # weight of faces that no view shows: mouth, eye and nose cavities vanish first
MOVE = 1e-3  # per m^2 of surface and m^2 of way
SKIN = 3e-5  # per m^2 of surface and squared change of weights: keeps the loops at joints
VALENCE = 11
FLIP = 0.2  # least cosine between a face's normal before and after


def seen_faces(poses: Iterable[Floats], faces: Ints, directions: int = 32, size: int = 640) -> NDArray[np.bool_]:
    """Tells which faces show in any of several poses, from directions all around and at four zooms.

    Args:
        poses: (V, 3) vertices of each pose, y up.
        faces: (F, 3).
        directions: Views, spread evenly over the sphere.
        size: Side of the view, px.
    """
    seen = np.zeros(len(faces), dtype=bool)
    k = np.arange(directions) + 0.5
    heights, angles = 1 - 2 * k / directions, k * np.pi * (1 + np.sqrt(5))
    for vertices in poses:
        top, reach = vertices[:, 1].max(), vertices[:, 0].max()
        side, low = vertices[vertices[:, 0].argmax()], vertices[vertices[:, 1].argmin()]
        head = np.array([0, top - 0.12, 0.05])
        for center, width in ((vertices.mean(0), 2.2 * reach), (head, 0.35), (side, 0.35), (low, 0.4)):
            for height, angle in zip(heights, angles, strict=True):
                back = np.array(
                    [np.cos(angle) * np.sqrt(1 - height**2), height, np.sin(angle) * np.sqrt(1 - height**2)]
                )
                right = np.cross([0, 1, 0], back)
                right /= np.linalg.norm(right)
                turned = (vertices - center) @ np.stack([right, -np.cross(back, right), -back]).T
                points = turned[:, :2] / width * size + size / 2
                seen[rasterize(points, turned[:, 2] + 10, faces, (size, size)).face] = True
    return seen


class _Half:
    """One half of a mesh with its cut edge in the mirror plane, under collapses."""

    def __init__(
        self, points: Floats, faces: Ints, weights: Floats, middle: NDArray[np.bool_], importance: Floats
    ) -> None:
        self.points, self.weights, self.middle = points, weights, middle.tolist()
        self.where = [tuple(p) for p in points.tolist()]
        self.faces = {k: tuple(f) for k, f in enumerate(faces.tolist())}
        self.faces_of: list[set[int]] = [set() for _ in points]
        for k, face in self.faces.items():
            for v in face:
                self.faces_of[v].add(k)
        a, b, c = (points[faces[:, k]] for k in range(3))
        cross = np.cross(b - a, c - a)
        double = np.linalg.norm(cross, axis=1)
        normal = cross / np.maximum(double, 1e-18)[:, None]
        plane = np.concatenate([normal, -(normal * a).sum(1)[:, None]], 1)
        share = double / 2 * importance
        self.quadrics = np.zeros((len(points), 4, 4))
        self.areas = np.zeros(len(points))
        for k in range(3):
            np.add.at(self.quadrics, faces[:, k], share[:, None, None] * plane[:, :, None] * plane[:, None, :])
            np.add.at(self.areas, faces[:, k], share / 3)
        self.homogeneous = np.concatenate([points, np.ones((len(points), 1))], 1)

    def neighbours(self, u: int) -> set[int]:
        return {v for k in self.faces_of[u] for v in self.faces[k]} - {u}

    def choices(self, u: int) -> list[tuple[float, int]]:
        """Returns the costs of moving ``u`` onto each neighbour that its place allows, cheapest first."""
        near = [v for v in self.neighbours(u) if self.middle[v] or not self.middle[u]]
        if not near:
            return []
        h = self.homogeneous[near]
        error = np.einsum("ni,nij,nj->n", h, self.quadrics[near] + self.quadrics[u], h)
        way = ((self.points[near] - self.points[u]) ** 2).sum(1)
        skin = ((self.weights[near] - self.weights[u]) ** 2).sum(1)
        cost = np.maximum(error, 0) + self.areas[u] * (MOVE * way + SKIN * skin)
        return sorted(zip(cost.tolist(), near, strict=True))

    def allowed(self, u: int, v: int) -> bool:
        """Tells whether moving ``u`` onto ``v`` leaves a closed surface without folds."""
        shared = self.faces_of[u] & self.faces_of[v]
        on_cut = self.middle[u] and self.middle[v]
        if len(shared) != (1 if on_cut else 2):
            return False
        near_u, near_v = self.neighbours(u), self.neighbours(v)
        if len(near_u & near_v) != len(shared):
            return False
        merged = len((near_u | near_v) - {u, v})
        if (2 * merged - 2 if self.middle[v] else merged) > VALENCE:
            return False
        # An edge inside the half between two points of the cut would be an edge of four faces after welding.
        if self.middle[v] and not self.middle[u] and any(self.middle[n] for n in near_u - near_v - {v}):
            return False
        return all(self._keeps_facing(k, u, v) for k in self.faces_of[u] - shared)

    def _keeps_facing(self, face: int, u: int, v: int) -> bool:
        a, b, c = self.faces[face]
        old = _normal(self.where[a], self.where[b], self.where[c])
        new = _normal(*(self.where[v if corner == u else corner] for corner in (a, b, c)))
        dot = sum(x * y for x, y in zip(old, new, strict=True))
        length = (sum(x * x for x in old) * sum(y * y for y in new)) ** 0.5
        return dot > FLIP * length and length > 0

    def collapse(self, u: int, v: int) -> set[int]:
        """Moves ``u`` onto ``v``; returns the vertices whose choices changed."""
        for k in list(self.faces_of[u]):
            face = self.faces[k]
            if v in face:
                for corner in face:
                    self.faces_of[corner].discard(k)
                del self.faces[k]
            else:
                a, b, c = face
                self.faces[k] = (v if a == u else a, v if b == u else b, v if c == u else c)
                self.faces_of[v].add(k)
        self.faces_of[u] = set()
        self.quadrics[v] += self.quadrics[u]
        self.areas[v] += self.areas[u]
        return self.neighbours(v) | {v}


def _normal(a: tuple[float, ...], b: tuple[float, ...], c: tuple[float, ...]) -> tuple[float, float, float]:
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    return uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx


def decimate(
    points: Floats,
    faces: Ints,
    weights: Floats,
    mirror: Ints,
    pinned: Iterable[int],
    count: int,
    visible: NDArray[np.bool_] | None = None,
) -> tuple[Ints, Ints]:
    """Chooses vertices of a closed mirror-symmetric mesh and connects them.

    Args:
        points: (V, 3) with the mirror plane x = 0.
        faces: (F, 3), counter-clockwise seen from outside; the mirror image of each is one of them.
        weights: (V, 24) skinning weights.
        mirror: (V,) index of each vertex's mirror image, its own in the plane.
        pinned: Vertices that stay, with their mirror images.
        count: Vertices to keep.
        visible: (F,) faces that count in full; None is all.

    Returns:
        The kept vertices' indices, ascending, and (2 count - 4, 3) triangles of their positions in that list.

    Raises:
        ValueError: No allowed collapse is left before the count is reached.
    """
    middle = mirror == np.arange(len(points))
    left = np.flatnonzero((points[:, 0] > 0) | middle)
    local = np.full(len(points), -1)
    local[left] = np.arange(len(left))
    inside = (local[faces] >= 0).all(1) & ~middle[faces].all(1)
    importance = np.ones(len(faces)) if visible is None else np.where(visible, 1.0, HIDDEN)
    half = _Half(points[left], local[faces[inside]], weights[left], middle[left], importance[inside])
    kept_by_name = set(pinned)
    fixed = {int(local[v]) for v in kept_by_name | {int(mirror[v]) for v in kept_by_name} if local[v] >= 0}
    _thin_out(half, fixed, len(points) - count)
    rows = np.array(sorted({v for face in half.faces.values() for v in face}))
    triangles = left[np.array(sorted(half.faces.values()))]
    triangles = np.concatenate([triangles, mirror[triangles][:, ::-1]])
    kept = np.unique(np.concatenate([left[rows], mirror[left[rows]]]))
    place = np.full(len(points), -1)
    place[kept] = np.arange(len(kept))
    return kept, place[triangles]


def _thin_out(half: _Half, fixed: set[int], surplus: int) -> None:
    """Takes the cheapest allowed collapse until ``surplus`` vertices of the whole mesh are gone."""
    version = [0] * len(half.points)
    heap: list[tuple[float, int, int, int, list[tuple[float, int]]]] = []

    def push(u: int) -> None:
        version[u] += 1
        choices = half.choices(u) if u not in fixed else []
        if choices:
            heapq.heappush(heap, (choices[0][0], u, version[u], 0, choices))

    for u in range(len(half.points)):
        push(u)
    while surplus > 0:
        if not heap:
            raise ValueError(f"no allowed collapse is left with {surplus} vertices too many")
        _, u, stamp, tried, choices = heapq.heappop(heap)
        if stamp != version[u] or (surplus == 1 and not half.middle[u]):
            continue
        v = choices[tried][1]
        if half.allowed(u, v):
            surplus -= 1 if half.middle[u] else 2
            version[u] += 1
            for changed in half.collapse(u, v):
                push(changed)
        elif tried + 1 < len(choices):
            heapq.heappush(heap, (choices[tried + 1][0], u, stamp, tried + 1, choices))


def check_closed(faces: Ints, count: int) -> None:
    """Checks that triangles form one closed orientable surface of genus 0 on all ``count`` vertices.

    Raises:
        ValueError: They do not; the message says how.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    keys = edges[:, 0] * count + edges[:, 1]
    if len(np.unique(keys)) != len(keys):
        raise ValueError("two faces run along an edge in the same direction")
    if not np.isin(edges[:, 1] * count + edges[:, 0], keys).all():
        raise ValueError("an edge belongs to one face only")
    if len(np.unique(faces)) != count or len(faces) != 2 * count - 4:
        raise ValueError(f"{len(faces)} faces on {len(np.unique(faces))} vertices are no sphere of {count}")
