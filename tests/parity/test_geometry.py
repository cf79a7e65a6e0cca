"""Rotations, mirroring and projection against numbers recorded from MAED's published code."""

import numpy as np
import pytest
import torch

from posekit.geometry import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    mirror_body_pose,
    mirror_joints3d,
    project_weak_perspective,
    quaternion_to_matrix,
    rot6d_to_matrix,
)
from posekit.skeletons import SPIN49
from tests.shared import SHARED, requires_shared

pytestmark = requires_shared


@pytest.fixture(scope="module")
def golden():
    with np.load(SHARED / "golden" / "maed" / "geometry.npz") as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


@pytest.fixture(scope="module")
def augmentation():
    with np.load(SHARED / "golden" / "maed" / "data.npz") as archive:
        return {name: archive[name] for name in archive.files if "kp" in name or "pose" in name}


def test_6d_to_matrix(golden):
    found = rot6d_to_matrix(golden["x6"])
    plain = [0, 1, 2, 4, 5, 6]
    torch.testing.assert_close(found[plain], golden["rot6d_to_rotmat"][plain], atol=1e-6, rtol=0)
    # Row 3 holds parallel vectors: its second column is rounding noise over 1e-6, its first one is sound.
    torch.testing.assert_close(found[3, :, 0], golden["rot6d_to_rotmat"][3, :, 0], atol=1e-6, rtol=0)
    assert torch.isfinite(found).all()


def test_rodrigues(golden):
    torch.testing.assert_close(axis_angle_to_matrix(golden["aa"]), golden["batch_rodrigues"], atol=2e-6, rtol=0)


def test_matrix_to_axis_angle_and_quaternion(golden):
    matrices = golden["batch_rodrigues"]
    # The matrix of an angle of pi - 1e-3 holds its sine to 1e-7 / 1e-3.
    torch.testing.assert_close(matrix_to_axis_angle(matrices), golden["rotmat_to_aa"], atol=2e-5, rtol=0)
    quaternions = matrix_to_quaternion(matrices)
    expected = golden["quat"] * torch.where(golden["quat"][:, :1] < 0, -1.0, 1.0)
    torch.testing.assert_close(quaternions, expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(quaternion_to_matrix(golden["quat"]), matrices, atol=2e-6, rtol=0)


def test_weak_perspective(golden):
    found = project_weak_perspective(golden["j3d"], golden["cam"])
    torch.testing.assert_close(found, golden["proj"], atol=2e-6, rtol=0)


def test_mirrored_joints_and_pose(augmentation):
    hips = (27, 28)
    found = mirror_joints3d(augmentation["kp_3d"], SPIN49.flip_index, hips)
    np.testing.assert_allclose(found, augmentation["hflip_kp3d"], atol=1e-12)
    pose = augmentation["pose"].reshape(-1, 24, 3)
    expected = augmentation["hflip_pose"].reshape(-1, 24, 3)
    assert np.array_equal(expected[:, 23], pose[:, 23])  # the published code's loop ends a joint early
    np.testing.assert_allclose(mirror_body_pose(pose)[:, :23], expected[:, :23], atol=1e-12)
    np.testing.assert_allclose(mirror_body_pose(pose)[:, 23], pose[:, 22] * [1, -1, -1], atol=1e-12)
