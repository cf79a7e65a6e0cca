import json
import struct

import numpy as np
import pytest

from posekit.body import load_builtin_body
from posekit.body.export import write_glb, write_obj
from posekit.errors import UserError


@pytest.fixture(scope="module")
def mesh():
    body = load_builtin_body()
    return body.v_template * np.float32([1, -1, -1]) + np.float32([0, 0, 3]), body.faces


def read_glb(path):
    """A reader of its own: header, JSON, and each accessor as an array."""
    content = path.read_bytes()
    magic, version, length = struct.unpack("<4sII", content[:12])
    assert (magic, version, length) == (b"glTF", 2, len(content))
    size, kind = struct.unpack("<I4s", content[12:20])
    assert kind == b"JSON"
    assert size % 4 == 0
    scene = json.loads(content[20 : 20 + size])
    binary_size, kind = struct.unpack("<I4s", content[20 + size : 28 + size])
    assert kind == b"BIN\0"
    blob = content[28 + size :]
    assert len(blob) == binary_size == scene["buffers"][0]["byteLength"]
    arrays = []
    for accessor in scene["accessors"]:
        view = scene["bufferViews"][accessor["bufferView"]]
        assert view["byteOffset"] % 4 == 0
        raw = blob[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        array = np.frombuffer(raw, {5126: "<f4", 5125: "<u4"}[accessor["componentType"]])
        array = array.reshape(accessor["count"], {"SCALAR": 1, "VEC3": 3}[accessor["type"]])
        if "min" in accessor:
            np.testing.assert_allclose(array.min(0), accessor["min"], rtol=1e-6)
            np.testing.assert_allclose(array.max(0), accessor["max"], rtol=1e-6)
        arrays.append(array)
    return scene, arrays


def signed_volume(points, faces):
    a, b, c = (points[faces[:, k]].astype(float) for k in range(3))
    return (np.cross(a, b) * c).sum() / 6


def test_obj_holds_the_mesh_upright_and_outwards(mesh, tmp_path):
    write_obj(tmp_path / "deep" / "body.obj", *mesh)
    lines = (tmp_path / "deep" / "body.obj").read_text().splitlines()
    points = np.array([line.split()[1:] for line in lines if line.startswith("v ")], dtype=float)
    faces = np.array([line.split()[1:] for line in lines if line.startswith("f ")], dtype=int) - 1
    np.testing.assert_allclose(points, load_builtin_body().v_template - [0, 0, 3], atol=1e-6)
    np.testing.assert_array_equal(faces, mesh[1])
    assert signed_volume(points, faces) > 0.05
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["body.obj"]


def test_glb_of_one_mesh(mesh, tmp_path):
    write_glb(tmp_path / "body.glb", *mesh, color=(255, 0, 0))
    scene, arrays = read_glb(tmp_path / "body.glb")
    assert scene["asset"]["version"] == "2.0"
    assert "animations" not in scene
    (primitive,) = scene["meshes"][0]["primitives"]
    points, normals = (arrays[primitive["attributes"][name]] for name in ("POSITION", "NORMAL"))
    faces = arrays[primitive["indices"]].reshape(-1, 3)
    np.testing.assert_allclose(points, mesh[0] * [1, -1, -1], atol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    assert signed_volume(points, faces) > 0.05
    # Normals point outwards: moving along them grows the body.
    assert signed_volume(points + 0.01 * normals, faces) > 1.05 * signed_volume(points, faces)
    assert scene["materials"][0]["pbrMetallicRoughness"]["baseColorFactor"] == [1.0, 0.0, 0.0, 1.0]


def test_glb_animation_shows_one_frame_at_a_time(mesh, tmp_path):
    frames = np.stack([mesh[0] + [0.1 * k, 0, 0] for k in range(4)])
    write_glb(tmp_path / "walk.glb", frames, mesh[1], fps=10)
    scene, arrays = read_glb(tmp_path / "walk.glb")
    assert len(scene["meshes"]) == len(scene["nodes"]) == 4
    assert len({m["primitives"][0]["indices"] for m in scene["meshes"]}) == 1
    (animation,) = scene["animations"]
    for time, visible in ((0.0, 0), (0.05, 0), (0.11, 1), (0.25, 2), (0.31, 3), (9.0, 3)):
        shown = []
        for channel in animation["channels"]:
            sampler = animation["samplers"][channel["sampler"]]
            assert sampler["interpolation"] == "STEP"
            times, scales = arrays[sampler["input"]][:, 0], arrays[sampler["output"]]
            assert (np.diff(times) > 0).all()
            if scales[max(np.searchsorted(times, time, "right") - 1, 0), 0] == 1:
                shown.append(channel["target"]["node"])
        assert shown == [visible], time


def test_no_mesh_is_one_line_and_leaves_no_file(mesh, tmp_path):
    vertices, faces = mesh
    path = tmp_path / "x.glb"
    for points, triangles, message in (
        (vertices[:, :2], faces, r"shape \(1500, 2\)"),
        (vertices, faces[:, :2], r"shape \(2996, 2\)"),
        (vertices, faces + 1, "outside 0 to 1499"),
        (vertices * np.nan, faces, "NaN"),
        (vertices, faces.astype(float), "whole numbers"),
    ):
        with pytest.raises(UserError, match=message):
            write_glb(path, points, triangles)
        with pytest.raises(UserError, match=message):
            write_obj(path, points, triangles)
    with pytest.raises(UserError, match="fps"):
        write_glb(path, vertices, faces, fps=0)
    assert not list(tmp_path.iterdir())
