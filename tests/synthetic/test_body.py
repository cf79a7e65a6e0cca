import numpy as np
import pytest
import roma
import torch

from posekit.body import load_builtin_body
from posekit.errors import UserError
from posekit.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from posekit.skeletons import LIMB17, POSETRACK15, SKELETONS, SPIN49
from tests.body.toys import builtin_smplx


def test_rotations_agree_with_roma_in_torch_and_numpy():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(4, 50, 3, generator=generator, dtype=torch.float64) * 2
    matrices = axis_angle_to_matrix(vectors)
    torch.testing.assert_close(matrices, roma.rotvec_to_rotmat(vectors))
    torch.testing.assert_close(matrix_to_axis_angle(matrices), roma.rotmat_to_rotvec(matrices))
    np.testing.assert_allclose(axis_angle_to_matrix(vectors.numpy()), matrices.numpy(), atol=1e-14)
    np.testing.assert_allclose(
        matrix_to_axis_angle(matrices.numpy()), matrix_to_axis_angle(matrices).numpy(), atol=1e-12
    )
    for kind in (np.float32, np.float64):
        assert matrix_to_axis_angle(matrices.numpy().astype(kind)).dtype == kind


@pytest.mark.parametrize("angle", [0.0, 1e-8, 1e-4, 1e-3, 1.0, 3.1, np.pi - 1e-5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rotations_round_trip_with_finite_gradients(angle, dtype):
    vector = torch.tensor([0.48, -0.6, 0.64], dtype=dtype) * angle
    vector.requires_grad_()
    back = matrix_to_axis_angle(axis_angle_to_matrix(vector))
    torch.testing.assert_close(back, vector, atol=1e-5, rtol=0)
    back.sum().backward()
    assert torch.isfinite(vector.grad).all()


def test_half_turns_about_every_axis():
    axes = torch.nn.functional.normalize(
        torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 2, 3.0]]), dim=-1
    )
    matrices = axis_angle_to_matrix((axes * np.pi).double())
    torch.testing.assert_close(axis_angle_to_matrix(matrix_to_axis_angle(matrices)), matrices, atol=1e-6, rtol=0)


def test_smplx_loads_the_asset_and_gives_the_same_body():
    body, model = load_builtin_body(), builtin_smplx(batch_size=3)
    rng = np.random.default_rng(0)
    betas = rng.normal(size=(3, 10)).astype(np.float32)
    pose = (rng.normal(size=(3, 24, 3)) * 0.5).astype(np.float32)
    vertices, joints = body.pose(betas, axis_angle_to_matrix(pose))
    output = model(
        betas=torch.from_numpy(betas),
        global_orient=torch.from_numpy(pose[:, 0]),
        body_pose=torch.from_numpy(pose[:, 1:].reshape(3, -1)),
        transl=torch.zeros(3, 3),
    )
    np.testing.assert_allclose(vertices, output.vertices.detach(), atol=2e-6)
    np.testing.assert_allclose(joints, output.joints.detach()[:, :24], atol=2e-6)
    nose = output.vertices[:, body.landmarks["nose"]]
    torch.testing.assert_close(output.joints[:, 24], nose)  # smplx's first extra joint


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_regressors_are_anatomical_and_mirror_symmetric(skeleton):
    body = load_builtin_body()
    rows = body.regressor(skeleton.name)
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-3)
    joints = rows @ body.v_template
    mirrored = joints[list(skeleton.flip_index)] * [-1, 1, 1]
    np.testing.assert_allclose(joints, mirrored, atol=2e-3)
    at = {name.removeprefix("op_"): joints[i] for i, name in enumerate(skeleton.joints)}
    assert at["left_wrist"][0] > at["left_elbow"][0] > at["left_shoulder"][0] > 0
    assert at["left_ankle"][1] < at["left_knee"][1] < at["left_hip"][1] < at["left_shoulder"][1]
    if "head_top" in at:
        assert at["head_top"][1] == body.v_template[:, 1].max()


def test_joints_of_heads_necks_and_feet():
    body = load_builtin_body()

    def at(skeleton):
        return dict(zip(skeleton.joints, body.regressor(skeleton.name) @ body.v_template, strict=True))

    track, spin, limb = at(POSETRACK15), at(SPIN49), at(LIMB17)
    assert limb["neck"][1] < track["head_bottom"][1] < track["nose"][1] < track["head_top"][1]
    np.testing.assert_allclose(spin["op_neck"], (spin["left_shoulder"] + spin["right_shoulder"]) / 2, atol=1e-6)
    np.testing.assert_allclose(limb["pelvis"], (limb["left_hip"] + limb["right_hip"]) / 2, atol=1e-6)
    for side in ("left", "right"):
        heel, toe, ankle = (spin[f"op_{side}_{name}"] for name in ("heel", "big_toe", "ankle"))
        assert heel[2] < ankle[2] < limb[f"{side}_foot"][2] < toe[2]  # forward is +z
        assert max(heel[1], toe[1]) < ankle[1]
    assert spin["spine"][1] < spin["thorax"][1] < spin["neck"][1] < spin["jaw"][1] < spin["head"][1]


def test_unknown_joint_set_is_one_line():
    with pytest.raises(
        UserError, match="known: COCO17, CROWDPOSE14, H36M17, LIMB17, LSP14, MPII16, POSETRACK15, SMPL24, SPIN49"
    ):
        load_builtin_body().regressor("COCO18")
