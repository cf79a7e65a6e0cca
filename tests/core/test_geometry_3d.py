import numpy as np
import pytest
import roma
import torch

from posekit.errors import UserError
from posekit.geometry import (
    axis_angle_to_matrix,
    crop_affine,
    crop_camera,
    crop_points,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    matrix_to_rot6d,
    mirror_body_pose,
    mirror_body_rotations,
    mirror_joints3d,
    project_points,
    project_weak_perspective,
    quaternion_to_matrix,
    rot6d_to_matrix,
    weak_perspective_to_translation,
)
from posekit.skeletons import COCO17, SMPL24


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("columns", ["interleaved", "consecutive"])
def test_6d_round_trip_and_layout(columns):
    matrices = axis_angle_to_matrix(random(4, 7, 3) * 2)
    rot6d = matrix_to_rot6d(matrices, columns)
    assert rot6d.shape == (4, 7, 6)
    torch.testing.assert_close(rot6d_to_matrix(rot6d, columns), matrices)
    first = rot6d[..., 0::2] if columns == "interleaved" else rot6d[..., :3]
    torch.testing.assert_close(first, matrices[..., 0])
    # Any length and any part of the second vector along the first one give the same rotation.
    other = matrices[..., :2].clone()
    other[..., 1] += 0.7 * other[..., 0]
    other = torch.cat([other, other[..., :1]], -1)
    torch.testing.assert_close(rot6d_to_matrix(3 * matrix_to_rot6d(other, columns), columns), matrices)


def test_6d_agrees_with_roma():
    x = random(50, 6)
    expected = roma.special_gramschmidt(x.reshape(50, 3, 2))
    torch.testing.assert_close(rot6d_to_matrix(x), expected)


def test_6d_of_zero_parallel_and_half_precision_input_is_finite():
    x = torch.zeros(2, 3, 6, requires_grad=True)
    matrix = rot6d_to_matrix(x)
    assert not matrix.detach().any()
    matrix.sum().backward()
    assert torch.isfinite(x.grad).all()
    parallel = torch.tensor([1.0, 2, 2, 4, 3, 6], requires_grad=True)
    rot6d_to_matrix(parallel).sum().backward()
    assert torch.isfinite(parallel.grad).all()
    half = rot6d_to_matrix(random(5, 6, dtype=torch.float32).bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half @ half.mT, torch.eye(3).expand(5, 3, 3), atol=1e-5, rtol=0)


def test_6d_layout_misspelt_is_one_line():
    with pytest.raises(UserError, match="interleaved"):
        rot6d_to_matrix(torch.ones(6), "interleave")  # type: ignore[arg-type]


def test_quaternions_agree_with_roma_in_torch_and_numpy():
    vectors = random(3, 40, 3) * 2
    matrices = axis_angle_to_matrix(vectors)
    quaternions = matrix_to_quaternion(matrices)
    expected = roma.rotmat_to_unitquat(matrices)[..., [3, 0, 1, 2]]
    torch.testing.assert_close(quaternions, expected * torch.where(expected[..., :1] < 0, -1.0, 1.0))
    torch.testing.assert_close(quaternion_to_matrix(-2.5 * quaternions), matrices)
    np.testing.assert_allclose(matrix_to_quaternion(matrices.numpy()), quaternions.numpy(), atol=1e-14)
    np.testing.assert_allclose(quaternion_to_matrix(quaternions.numpy()), matrices.numpy(), atol=1e-14)


def test_gradients_are_finite_at_zero():
    quaternion = torch.zeros(4, requires_grad=True)
    matrix = quaternion_to_matrix(quaternion)
    assert torch.equal(matrix.detach(), torch.eye(3))
    matrix.sum().backward()
    assert torch.isfinite(quaternion.grad).all()
    for start in (torch.zeros(3, 3), torch.eye(3)):
        for function in (matrix_to_axis_angle, matrix_to_quaternion):
            value = start.clone().requires_grad_()
            function(value).sum().backward()
            assert torch.isfinite(value.grad).all()


def test_weak_perspective_is_the_pinhole_at_its_translation():
    camera = torch.tensor([[0.9, 0.1, -0.2], [1.3, 0.0, 0.05]])
    points = random(2, 17, 3, dtype=torch.float32) * 0.4
    shift = weak_perspective_to_translation(camera)
    torch.testing.assert_close(shift[:, 2], 2 * 5000 / (224 * camera[:, 0]))
    intrinsics = torch.tensor([[5000.0, 0, 112], [0, 5000, 112], [0, 0, 1]])
    pixels = project_points(points + shift[:, None], intrinsics)
    torch.testing.assert_close(project_weak_perspective(points, camera), pixels / 112 - 1, atol=2e-4, rtol=0)
    # Far away, it is scale * (x + tx).
    flat = points * torch.tensor([1.0, 1.0, 0.0])
    expected = camera[:, None, :1] * (flat[..., :2] + camera[:, None, 1:])
    torch.testing.assert_close(project_weak_perspective(flat, camera), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rotation", [0.0, 35.0])
def test_crop_camera_projects_into_the_crop(rotation):
    camera = torch.tensor([[1100.0, 0, 640], [0, 1090, 360], [0, 0, 1]]).expand(3, 5, 3, 3)
    points = random(3, 5, 17, 3, dtype=torch.float32) * 0.5 + torch.tensor([0.2, 0.1, 5])
    affine = torch.tensor(crop_affine((700, 380), (300, 300), (224, 224), rotation), dtype=torch.float32)
    whole = project_points(points, camera)
    expected = crop_points(whole.reshape(1, -1, 2), affine[None]).reshape(whole.shape)
    found = project_points(points, crop_camera(camera, affine.expand(3, 5, 2, 3)))
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
    torch.testing.assert_close(crop_camera(camera, affine)[0, 0, 2], torch.tensor([0.0, 0.0, 1.0]))


def test_projection_stays_exact_under_autocast():
    camera = torch.tensor([[1100.0, 0, 640], [0, 1100, 360], [0, 0, 1]])
    points = random(17, 3, dtype=torch.float32) + torch.tensor([0, 0, 6.0])
    weak = torch.tensor([0.9, 0.1, -0.1])
    expected = project_points(points, camera), project_weak_perspective(points, weak)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(project_points(points, camera), expected[0])
        assert torch.equal(project_weak_perspective(points, weak), expected[1])


def test_points_behind_the_camera_are_finite():
    points = torch.tensor([[0.1, 0.2, 0.0], [0.1, 0.2, -3.0]], requires_grad=True)
    pixels = project_points(points, torch.eye(3))
    pixels.sum().backward()
    assert torch.isfinite(pixels).all()
    assert torch.isfinite(points.grad).all()


def test_mirroring_twice_changes_nothing_and_matches_mirrored_matrices():
    pose = random(2, 3, 24, 3)
    mirrored = mirror_body_pose(pose)
    torch.testing.assert_close(mirror_body_pose(mirrored), pose)
    torch.testing.assert_close(axis_angle_to_matrix(mirrored), mirror_body_rotations(axis_angle_to_matrix(pose)))
    np.testing.assert_allclose(mirror_body_pose(pose.numpy()), mirrored.numpy())
    left = SMPL24.index("left_knee")
    torch.testing.assert_close(mirrored[..., left, 0], pose[..., SMPL24.index("right_knee"), 0])


def test_mirrored_joints_project_to_the_mirrored_picture():
    joints = random(2, 17, 3, dtype=torch.float32) + torch.tensor([0.3, 0, 5.0])
    camera = torch.tensor([[500.0, 0, 111.5], [0, 500, 111.5], [0, 0, 1]])
    flipped = project_points(mirror_joints3d(joints, COCO17.flip_index), camera)
    expected = project_points(joints, camera)[:, list(COCO17.flip_index)]
    expected[..., 0] = 223 - expected[..., 0]
    torch.testing.assert_close(flipped, expected, atol=1e-3, rtol=0)


def test_mirroring_about_the_hips_keeps_their_middle_and_carries_confidences():
    joints = random(4, 17, 4)
    mirrored = mirror_joints3d(joints, COCO17.flip_index, (11, 12))
    torch.testing.assert_close(mirrored[:, 11:13, 0].mean(1), joints[:, 11:13, 0].mean(1))
    torch.testing.assert_close(mirrored[:, 5, 3], joints[:, 6, 3])
    torch.testing.assert_close(mirror_joints3d(mirrored, COCO17.flip_index, (11, 12)), joints)
