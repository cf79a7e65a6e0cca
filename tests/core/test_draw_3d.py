"""Meshes and 3D skeletons on pictures."""

import numpy as np
import pytest

from posekit.body import load_builtin_body
from posekit.errors import UserError
from posekit.skeletons import COCO17, H36M17
from posekit.visualization import pose3d
from posekit.visualization.draw import LEFT, RIGHT
from posekit.visualization.mesh import draw_mesh, vertex_normals
from posekit.visualization.pose3d import draw_pose3d, side_by_side

BODY = load_builtin_body()
GREY = np.full((120, 160, 3), 128, np.uint8)


def placed(x=0.0, z=4.0):
    return BODY.v_template * [1, -1, -1] + [x, 0, z]


def changed(drawn, image=GREY):
    return (drawn != image).any(-1)


def test_mesh_covers_what_its_vertices_project_to():
    drawn = draw_mesh(GREY, placed(), BODY.faces, 200, (70, 50))
    assert (GREY == 128).all()
    vertices = placed()
    points = vertices[:, :2] / vertices[:, 2:] * 200 + [70, 50]
    rows, columns = np.nonzero(changed(drawn))
    assert abs(columns.min() - points[:, 0].min()) < 1.5
    assert abs(columns.max() - points[:, 0].max()) < 1.5
    assert abs(rows.min() - points[:, 1].min()) < 1.5
    assert abs(rows.max() - points[:, 1].max()) < 1.5
    assert changed(drawn)[50, 70]  # the pelvis
    assert not changed(drawn)[100, 20]


def test_mesh_centre_is_the_pictures_centre_by_default():
    default = draw_mesh(GREY, placed(), BODY.faces, 200)
    np.testing.assert_array_equal(default, draw_mesh(GREY, placed(), BODY.faces, 200, (79.5, 59.5)))
    columns = np.nonzero(changed(default))[1]
    assert abs((columns.min() + columns.max()) / 2 - 79.5) < 0.6


def test_nearer_body_hides_the_farther_one():
    meshes = np.stack([placed(z=3.0), placed(z=5.0)])
    red_in_front = draw_mesh(GREY, meshes, BODY.faces, 150, color=[(255, 0, 0), (0, 0, 255)])
    blue_in_front = draw_mesh(GREY, meshes[::-1], BODY.faces, 150, color=[(255, 0, 0), (0, 0, 255)])
    assert red_in_front[60, 80, 0] > 100
    assert red_in_front[60, 80, 2] == 0
    assert blue_in_front[60, 80, 2] > 100


def test_mesh_is_shaded_and_opacity_mixes():
    full = draw_mesh(GREY, placed(), BODY.faces, 200, color=(200, 200, 200))
    inside = full[changed(full)].astype(int)
    assert np.ptp(inside[:, 0]) > 60
    half = draw_mesh(GREY, placed(), BODY.faces, 200, color=(200, 200, 200), opacity=0.5)
    np.testing.assert_allclose(half, (full.astype(float) + 128) / 2, atol=1)
    np.testing.assert_array_equal(draw_mesh(GREY, placed(), BODY.faces, 200, opacity=0.0), GREY)


@pytest.mark.parametrize("shift", [[0, 0, -9.0], [90.0, 0, 0], [np.nan, 0, 0]])
def test_mesh_behind_beside_or_nowhere_draws_nothing(shift):
    np.testing.assert_array_equal(draw_mesh(GREY, placed() + shift, BODY.faces, 200), GREY)


def test_mesh_through_the_cameras_plane_is_drawn_in_part():
    drawn = draw_mesh(GREY, placed(z=0.1), BODY.faces, 100)
    assert drawn.shape == GREY.shape


def test_normals_of_the_body_point_outwards():
    normals = vertex_normals(BODY.v_template, BODY.faces)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    top = BODY.v_template[:, 1].argmax()
    assert normals[top, 1] > 0.9


def test_pose3d_shows_left_and_right_from_the_chosen_side():
    joints = BODY.regressor("H36M17") @ placed()

    def middle(drawn, color):
        return np.nonzero((np.abs(drawn.astype(int) - color) < 30).all(-1))[1].mean()

    front = draw_pose3d(joints, H36M17, 200)
    assert front.shape == (200, 200, 3)
    assert middle(front, LEFT) > middle(front, RIGHT)  # a person who faces the camera has the left arm on its right
    back = draw_pose3d(joints, H36M17, 200, yaw=180)
    assert middle(back, LEFT) < middle(back, RIGHT)
    # The same body, given in its own frame.
    own = draw_pose3d(BODY.regressor("H36M17") @ BODY.v_template, H36M17, 200, up="y")
    assert np.abs(own.astype(int) - front).max() <= 60
    assert (own != front).any(-1).mean() < 0.01


def test_pose3d_at_yaw_90_shows_the_right_side_in_front():
    joints = BODY.regressor("COCO17") @ placed()
    drawn = draw_pose3d(joints, COCO17, 200, yaw=90).astype(int)
    count = {name: (np.abs(drawn - color) < 30).all(-1).sum() for name, color in (("left", LEFT), ("right", RIGHT))}
    assert count["right"] > 2 * count["left"]


def test_pose3d_leaves_nan_out_and_keeps_its_scale_by_span():
    joints = BODY.regressor("COCO17") @ placed()
    whole = draw_pose3d(joints, COCO17, (160, 120), span=2.2)
    assert whole.shape == (120, 160, 3)
    joints[9] = np.nan
    part = draw_pose3d(joints, COCO17, (160, 120), span=2.2)
    assert (part != whole).any()
    empty = draw_pose3d(np.full((17, 3), np.nan), COCO17, 50)
    assert (empty == empty[0, 0]).all()
    with pytest.raises(UserError, match="known: -y, y, z"):
        draw_pose3d(joints, COCO17, up="x")  # type: ignore[arg-type]


def test_side_by_side_scales_panels_to_the_height():
    wide = side_by_side(GREY, [np.zeros((60, 60, 3), np.uint8), np.zeros((240, 120, 3), np.uint8)], gap=4)
    assert wide.shape == (120, 160 + 4 + 120 + 4 + 60, 3)
    np.testing.assert_array_equal(wide[:, :160], GREY)
    assert (wide[:, 160:164] == 255).all()
    np.testing.assert_array_equal(side_by_side(GREY, []), GREY)


def test_panels_beside_a_low_picture_have_a_least_height():
    wide = side_by_side(GREY, [np.zeros((60, 60, 3), np.uint8)], least=200)
    assert wide.shape == (200, 160 + 4 + 200, 3)
    np.testing.assert_array_equal(wide[:120, :160], GREY)
    assert (wide[120:, :160] == 255).all()
    assert side_by_side(GREY, [], least=200).shape == GREY.shape


def test_a_pose_in_millimetres_is_drawn_as_soon_as_one_in_metres(monkeypatch):
    lines = []
    monkeypatch.setattr(pose3d, "draw_line", lambda *args: lines.append(args))
    pose = np.random.default_rng(0).standard_normal((17, 3))
    for scale in (1.0, 1e3, 1e6):
        draw_pose3d(pose * scale, COCO17, 64)
    assert len(lines) < 3 * 200
