"""Writes meshes to files that 3D programs open: Wavefront OBJ and binary glTF 2.0 (GLB)."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from posekit._version import __version__
from posekit.arrays import Float32, Float64
from posekit.errors import UserError
from posekit.files import atomic_write_bytes, atomic_write_text
from posekit.visualization.mesh import vertex_normals

# glTF's numbers for what buffers hold.
_FLOAT, _UINT, _VERTICES, _INDICES = 5126, 5125, 34962, 34963


def write_obj(path: str | Path, vertices: ArrayLike, faces: ArrayLike, camera_frame: bool = True) -> None:
    """Writes one mesh as Wavefront OBJ, y up.

    Args:
        path: The file; it appears whole or not at all.
        vertices: (V, 3) metres.
        faces: (F, 3), counter-clockwise seen from outside.
        camera_frame: The vertices' y points down and z forward: they are turned by half a turn about x.

    Raises:
        UserError: The arrays are no mesh.
    """
    points, triangles = _mesh(vertices, faces, camera_frame, frames=False)
    lines = [f"# posekit {__version__}", *("v {:.6f} {:.6f} {:.6f}".format(*p) for p in points[0].tolist())]
    lines += ["f {} {} {}".format(*f) for f in (triangles.astype(np.int64) + 1).tolist()]
    atomic_write_text(path, "\n".join(lines) + "\n")


def write_glb(
    path: str | Path,
    vertices: ArrayLike,
    faces: ArrayLike,
    camera_frame: bool = True,
    color: Sequence[float] = (176, 196, 222),
    fps: float = 30.0,
    times: ArrayLike | None = None,
) -> None:
    """Writes one mesh, or an animation of one, as binary glTF 2.0, y up.

    An animation is one mesh per frame over shared triangles; each is shown in its own time by a scale of one or zero,
    which every viewer plays and which needs no skeleton.

    Args:
        path: The file; it appears whole or not at all.
        vertices: (V, 3), or (T, V, 3) for an animation, metres.
        faces: (F, 3), counter-clockwise seen from outside.
        camera_frame: The vertices' y points down and z forward: they are turned by half a turn about x.
        color: RGB 0..255 of the surface (sRGB).
        fps: Frames per second of an animation.
        times: (T,) rising seconds from which the meshes are shown, each until the next, the first one also before; k /
            fps when None.

    Raises:
        UserError: The arrays are no mesh, the frame rate is not positive, or the times do not rise from 0 or later.
    """
    frames, triangles = _mesh(vertices, faces, camera_frame, frames=True)
    if not fps > 0:
        raise UserError(f"fps must be positive, not {fps}")
    starts = np.arange(len(frames)) / fps if times is None else np.asarray(times, dtype=np.float64)
    if starts.shape != (len(frames),) or not np.isfinite(starts).all() or starts[0] < 0 or (np.diff(starts) <= 0).any():
        raise UserError(f"times of an animation must be {len(frames)} rising seconds from 0 or later, one per mesh")
    atomic_write_bytes(path, _Scene(frames, triangles, color, np.append(starts, starts[-1] + 1 / fps)).content())


def _mesh(
    vertices: ArrayLike, faces: ArrayLike, camera_frame: bool, frames: bool
) -> tuple[Float32, NDArray[np.uint32]]:
    points = np.array(vertices, dtype=np.float32)
    triangles = np.asarray(faces)
    wanted = "(V, 3) or (T, V, 3)" if frames else "(V, 3)"
    if points.ndim not in ((2, 3) if frames else (2,)) or points.shape[-1] != 3 or not points.size:
        raise UserError(f"vertices of a mesh file have shape {points.shape}, and {wanted} is needed")
    if triangles.ndim != 2 or triangles.shape[1] != 3 or triangles.dtype.kind not in "iu" or not triangles.size:
        raise UserError(f"faces of a mesh file have shape {triangles.shape}, and (F, 3) of whole numbers is needed")
    if triangles.min() < 0 or triangles.max() >= points.shape[-2]:
        raise UserError(f"faces of a mesh file name vertices outside 0 to {points.shape[-2] - 1}")
    if not np.isfinite(points).all():
        raise UserError("vertices of a mesh file hold NaN or infinite numbers")
    if camera_frame:
        points[..., 1:] *= -1
    return points.reshape(-1, *points.shape[-2:]), triangles.astype(np.uint32)


class _Scene:
    """Collects the one buffer and the JSON that describes it."""

    def __init__(self, frames: Float32, faces: NDArray[np.uint32], color: Sequence[float], times: Float64) -> None:
        self.blob = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []
        indices = self._add(faces.reshape(-1), "SCALAR", _UINT, _INDICES)
        meshes, nodes = [], []
        for number, points in enumerate(frames):
            attributes = {
                "POSITION": self._add(points, "VEC3", _FLOAT, _VERTICES, bounds=True),
                "NORMAL": self._add(_normals(points, faces), "VEC3", _FLOAT, _VERTICES),
            }
            meshes.append({"primitives": [{"attributes": attributes, "indices": indices, "material": 0}]})
            node: dict[str, Any] = {"mesh": number, "name": f"frame {number}"}
            nodes.append(node | ({"scale": [0.0, 0.0, 0.0]} if number else {}))
        self.json: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": f"posekit {__version__}"},
            "scene": 0,
            "scenes": [{"nodes": list(range(len(frames)))}],
            "nodes": nodes,
            "meshes": meshes,
            "materials": [_material(color)],
        }
        if len(frames) > 1:
            self.json["animations"] = [self._animation(times)]

    def _add(
        self, array: NDArray[Any], kind: str, component: int, target: int | None = None, bounds: bool = False
    ) -> int:
        """Appends an array to the buffer; returns its accessor."""
        content = np.ascontiguousarray(array, dtype="<u4" if component == _UINT else "<f4")
        view = {"buffer": 0, "byteOffset": len(self.blob), "byteLength": content.nbytes}
        self.views.append(view | ({"target": target} if target else {}))
        self.blob += content.tobytes()
        accessor: dict[str, Any] = {"bufferView": len(self.views) - 1, "componentType": component}
        accessor |= {"count": len(content), "type": kind}
        if bounds:
            columns = content.reshape(len(content), -1)
            accessor |= {"min": columns.min(0).tolist(), "max": columns.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def _animation(self, times: Float64) -> dict[str, Any]:
        """Shows frame k from times[k] to times[k + 1], in steps."""
        samplers, channels = [], []
        count = len(times) - 1
        for k in range(count):
            keys = np.array(sorted({0.0, *times[k : k + 2].tolist()}))
            on = (keys == times[k]).astype(np.float32)
            if k == 0:
                on[keys < times[k]] = 1  # the first frame is there from the beginning
            if k == count - 1:
                on[keys > times[k]] = 1  # the last frame stays
            inputs = self._add(keys, "SCALAR", _FLOAT, bounds=True)
            outputs = self._add(np.repeat(on[:, None], 3, 1), "VEC3", _FLOAT)
            samplers.append({"input": inputs, "output": outputs, "interpolation": "STEP"})
            channels.append({"sampler": k, "target": {"node": k, "path": "scale"}})
        return {"name": "motion", "samplers": samplers, "channels": channels}

    def content(self) -> bytes:
        """Returns the file: a header, the JSON padded with blanks, the buffer padded with zeros."""
        self.blob += b"\0" * (-len(self.blob) % 4)
        buffers = {"buffers": [{"byteLength": len(self.blob)}], "bufferViews": self.views, "accessors": self.accessors}
        text = json.dumps(self.json | buffers, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        chunks += struct.pack("<I4s", len(self.blob), b"BIN\0") + bytes(self.blob)
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _material(color: Sequence[float]) -> dict[str, Any]:
    # glTF wants linear values.
    linear = [((c / 255 + 0.055) / 1.055) ** 2.4 if c / 255 > 0.04045 else c / 255 / 12.92 for c in color]
    surface = {"baseColorFactor": [*(round(float(c), 4) for c in linear), 1.0], "metallicFactor": 0.0}
    return {"name": "body", "pbrMetallicRoughness": surface | {"roughnessFactor": 0.7}}


def _normals(points: Float32, faces: NDArray[np.uint32]) -> Float32:
    normals = vertex_normals(points, faces)
    normals[np.linalg.norm(normals, axis=1) < 0.5] = (0, 0, 1)  # vertices of no face: glTF wants unit length
    return normals
