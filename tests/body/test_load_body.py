import copy
import io
import shutil
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from torch import nn

from posekit.body import load_body, load_builtin_body
from posekit.body.files import BODY_FOLDER
from posekit.body.load import _asset
from posekit.errors import UserError
from posekit.geometry import axis_angle_to_matrix, rot6d_to_matrix
from posekit.skeletons import SKELETONS, SMPL24

from .toys import builtin_smplx, toy_arrays


def motion(count=3, betas=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rotations = axis_angle_to_matrix(torch.randn(count, 24, 3, generator=generator) * 0.5)
    return rotations, torch.randn(count, betas, generator=generator)


@pytest.fixture(scope="module")
def body():
    return load_body()


@pytest.fixture
def toy(tmp_path):
    path = tmp_path / "toy.npz"
    np.savez(path, **toy_arrays())
    return path


def changed(path, **arrays):
    """Writes a copy of the toy with other arrays; None leaves one out."""
    content = {**toy_arrays(), **arrays}
    np.savez(path, **{name: value for name, value in content.items() if value is not None})
    return path


def refusal(path, **options):
    with pytest.raises(UserError) as error:
        load_body(path, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_builtin_agrees_with_smplx_and_with_the_numpy_body(body):
    rotations, betas = motion()
    output = body(rotations, betas, torch.tensor([[0.1, 0.2, 3.0]]).expand(3, 3))
    reference = builtin_smplx(batch_size=3)(
        betas=betas,
        global_orient=rotations[:, :1],
        body_pose=rotations[:, 1:],
        transl=torch.tensor([[0.1, 0.2, 3.0]]).expand(3, 3),
        pose2rot=False,
    )
    torch.testing.assert_close(output.vertices, reference.vertices.detach(), atol=1e-6, rtol=0)
    torch.testing.assert_close(body.joints45(output), reference.joints.detach(), atol=1e-6, rtol=0)
    vertices, joints = load_builtin_body().pose(betas.numpy(), rotations.numpy())
    still = body(rotations, betas)
    np.testing.assert_allclose(still.vertices, vertices, atol=2e-6)
    np.testing.assert_allclose(still.joints24, joints, atol=2e-6)
    assert (body.name, body.is_builtin, body.num_vertices) == ("builtin_1500", True, 1500)
    assert body.faces.shape == (2996, 3)
    assert body.parents == SMPL24.parents


def test_pose_components_and_any_number_of_betas_agree_with_smplx(tmp_path):
    from smplx import SMPL
    from smplx.utils import Struct

    np.savez(tmp_path / "wide.npz", **toy_arrays(betas=16))
    output_text = io.StringIO()
    with redirect_stdout(output_text):
        wide = load_body(tmp_path / "wide.npz", num_betas=16)
    assert output_text.getvalue() == ""
    narrow = load_body(tmp_path / "wide.npz", num_betas=4)
    reference = SMPL("", data_struct=Struct(**toy_arrays(betas=16)), create_transl=False, vertex_ids=_any_ids())
    rotations, betas = motion(betas=16)
    expected = reference(
        betas=betas[:, :10], global_orient=rotations[:, :1], body_pose=rotations[:, 1:], pose2rot=False
    )
    betas[:, 10:] = 0
    torch.testing.assert_close(wide(rotations, betas).vertices, expected.vertices, atol=1e-6, rtol=0)
    torch.testing.assert_close(wide(rotations, betas).joints24, expected.joints[:, :24], atol=1e-6, rtol=0)
    betas[:, 4:] = 0
    torch.testing.assert_close(narrow(rotations, betas[:, :4]).vertices, wide(rotations, betas).vertices)


def _any_ids():
    from posekit.body.joint_sets import PICKS

    return dict.fromkeys(PICKS, 0)


@pytest.mark.parametrize("skeleton", list(SKELETONS))
def test_builtin_gives_every_joint_set(body, skeleton):
    output = body(*motion())
    joints = body.joints(output, skeleton)
    expected = torch.from_numpy(load_builtin_body().regressor(skeleton)) @ output.vertices
    torch.testing.assert_close(joints, expected)
    assert joints.shape == (3, len(SKELETONS[skeleton]), 3)


def test_float32_under_autocast(body):
    rotations, betas = motion()
    expected = body(rotations, betas)
    with torch.autocast("cpu", torch.bfloat16):
        output = body(rotations, betas)
        joints = body.joints(output, "SPIN49")
    assert torch.equal(output.vertices, expected.vertices)
    assert torch.equal(joints, body.joints(expected, "SPIN49"))
    half = body(rotations.bfloat16(), betas.bfloat16())
    assert half.vertices.dtype == torch.float32


def test_nothing_of_the_body_is_in_checkpoints_and_it_moves_with_its_module(body):
    model = nn.Sequential(nn.Linear(2, 2), copy.deepcopy(body))
    assert all(name.startswith("0.") for name in model.state_dict())
    assert not list(body.parameters())
    model.to("meta")
    assert all(buffer.is_meta for buffer in model[1].buffers())


def test_stays_in_float32_in_a_module_of_half_precision_and_takes_no_people(body):
    half = nn.Sequential(nn.Linear(2, 2), copy.deepcopy(body)).bfloat16()
    assert half[0].weight.dtype == torch.bfloat16
    rotations, betas = motion()
    assert torch.equal(half[1](rotations, betas).vertices, body(rotations, betas).vertices)
    nobody = body(rotations[:0], betas[:0], torch.zeros(0, 3))
    assert nobody.vertices.shape == (0, 1500, 3)
    assert body.joints(nobody, "SPIN49").shape == (0, 49, 3)


def test_gradients_reach_rotations_betas_and_translation(body):
    rotations, betas = (v.requires_grad_() for v in motion(1))
    translation = torch.zeros(1, 3, requires_grad=True)
    body.joints(body(rotations, betas, translation), "COCO17").square().sum().backward()
    for value in (rotations, betas, translation):
        assert torch.isfinite(value.grad).all()
        assert value.grad.abs().sum() > 0


def test_compiles_without_breaks(body):
    rotations, betas = motion()
    explained = torch._dynamo.explain(lambda r, b: body.joints(body(r, b), "SPIN49"))(rotations, betas)
    assert explained.graph_break_count == 0


def test_builtin_stands_upright_before_the_camera_at_its_mean_parameters(body):
    mean = body.mean_parameters
    rotations = rot6d_to_matrix(mean.pose.view(1, 24, 6))
    joints = body.joints(body(rotations, mean.shape[None]), "COCO17")[0]
    assert joints[0, 1] < joints[5, 1] < joints[11, 1] < joints[15, 1]  # y points down
    assert joints[0, 2] < joints[3, 2]  # the nose is nearer to the camera than the ears
    assert joints[9, 1] > joints[7, 1]  # the wrists hang
    assert mean.camera.tolist() == pytest.approx([0.9, 0, 0])


def test_file_of_a_free_body_brings_its_landmarks_and_regressors(body, tmp_path):
    with _asset("body_1500.npz") as asset:
        shutil.copy(asset, tmp_path / "other.npz")
    other = load_body(tmp_path / "other.npz")
    assert other.is_builtin
    rotations, betas = motion()
    torch.testing.assert_close(
        other.joints(other(rotations, betas), "SPIN49"), body.joints(body(rotations, betas), "SPIN49")
    )
    content = dict(np.load(tmp_path / "other.npz"))
    content["base_vertex"] = content["base_vertex"] + 1
    np.savez(tmp_path / "broken.npz", **content)
    assert "lacks the landmark vertex" in refusal(tmp_path / "broken.npz")


def test_larger_builtin_is_found_by_the_variable(tmp_path, monkeypatch):
    monkeypatch.delenv(BODY_FOLDER, raising=False)
    assert "build_body.py" in refusal("builtin_6890")
    monkeypatch.setenv(BODY_FOLDER, str(tmp_path))
    assert "has no body_6890.npz" in refusal("builtin_6890")
    with _asset("body_1500.npz") as asset:
        shutil.copy(asset, tmp_path / "body_6890.npz")
    assert load_body("builtin_6890").name == "body_6890.npz"


def test_toy_without_regressors_says_which_file_is_needed(toy, tmp_path):
    toy_body = load_body(toy)
    output = toy_body(*motion())
    assert toy_body.joints(output, "SMPL24") is output.joints24
    assert toy_body.mean_parameters is None
    with pytest.raises(UserError, match=r"J_regressor_h36m\.npy.*SPIN"):
        toy_body.joints(output, "H36M17")
    with pytest.raises(UserError, match=r"J_regressor_extra\.npy.*SPIN"):
        toy_body.joints(output, "SPIN49")
    with pytest.raises(UserError, match="known for 6890 alone"):
        toy_body.joints(output, "COCO17")
    with pytest.raises(UserError, match="unknown skeleton"):
        toy_body.joints(output, "COCO18")


def test_folder_brings_its_regressors(tmp_path):
    np.savez(tmp_path / "SMPL_MALE.npz", **toy_arrays())
    rows = np.random.default_rng(1).random((17, 48))
    np.save(tmp_path / "J_regressor_h36m.npy", rows)
    male = load_body(tmp_path, gender="male")
    output = male(*motion())
    torch.testing.assert_close(male.joints(output, "H36M17"), torch.tensor(rows).float() @ output.vertices)
    assert "holds no SMPL_NEUTRAL.npz" in refusal(tmp_path)
    assert "known: female, male, neutral" in refusal(tmp_path, gender="mal")


def test_a_file_brings_the_regressors_beside_it(toy, tmp_path):
    rows = np.random.default_rng(1).random((17, 48))
    np.save(tmp_path / "J_regressor_h36m.npy", rows)
    body = load_body(toy)
    output = body(*motion())
    torch.testing.assert_close(body.joints(output, "H36M17"), torch.tensor(rows).float() @ output.vertices)


def test_a_free_body_among_smpl_s_files_keeps_its_own_regressors(tmp_path):
    with _asset("body_1500.npz") as asset:
        shutil.copy(asset, tmp_path / "free.npz")
    np.save(tmp_path / "J_regressor_h36m.npy", np.zeros((17, 6890)))
    assert load_body(tmp_path / "free.npz").is_builtin


def test_joint_sets_of_an_smpl_file(tmp_path):
    """A body of SMPL's size: which of the 54 points each set takes."""
    arrays = toy_arrays(vertices=6890, betas=1)
    arrays["posedirs"] = np.zeros((6890, 3, 207), dtype=np.float32)
    np.savez(tmp_path / "SMPL_NEUTRAL.npz", **arrays)
    extra = np.random.default_rng(1).random((9, 6890)).astype(np.float32)
    np.save(tmp_path / "J_regressor_extra.npy", extra)
    smpl = load_body(tmp_path, num_betas=1)
    assert not smpl.is_builtin
    output = smpl(*motion(betas=1))
    spin = smpl.joints(output, "SPIN49")
    coco = smpl.joints(output, "COCO17")
    torch.testing.assert_close(coco[:, 0], output.vertices[:, 332])
    torch.testing.assert_close(coco[:, 11], output.joints24[:, 1])
    further = torch.from_numpy(extra) @ output.vertices
    torch.testing.assert_close(spin[:, 45 - 7], further[:, 3])  # head top
    lsp = smpl.joints(output, "LSP14")
    torch.testing.assert_close(lsp, spin[:, 25:39])
    limb = smpl.joints(output, "LIMB17")
    torch.testing.assert_close(limb[:, SKELETONS["LIMB17"].index("left_foot")], output.joints24[:, 10])
    assert smpl.joints(output, "MPII16").shape == (3, 16, 3)


def test_wrong_files_are_one_line_each(toy, tmp_path):
    bad = tmp_path / "bad.npz"
    assert "does not exist" in refusal(tmp_path / "SMPL_NEUTRAL.pkl")
    assert "licence" in refusal(tmp_path / "SMPL_NEUTRAL.pkl")
    assert "lacks weights, f" in refusal(changed(bad, weights=None, f=None))
    assert "v_template has shape (48, 2)" in refusal(changed(bad, v_template=np.zeros((48, 2))))
    assert "J_regressor has shape (24, 49), and (24, 48) is needed" in refusal(
        changed(bad, J_regressor=np.zeros((24, 49)))
    )
    assert "weights holds NaN" in refusal(changed(bad, weights=np.full((48, 24), np.nan)))
    assert "f names vertices outside 0 to 47" in refusal(changed(bad, f=np.full((3, 3), 48)))
    assert "f has shape (3, 4)" in refusal(changed(bad, f=np.zeros((3, 4), int)))
    assert "has 52 joints" in refusal(changed(bad, kintree_table=np.zeros((2, 52), int)))
    table = toy_arrays()["kintree_table"]
    table[0, 5] = 1
    assert "another joint tree" in refusal(changed(bad, kintree_table=table))
    assert "posedirs has shape" in refusal(changed(bad, posedirs=np.zeros((48, 3, 135))))
    assert "num_betas is 12, and body file" in refusal(toy, num_betas=12)
    assert "ends in .txt" in refusal(_file(tmp_path / "x.txt"))
    assert "is not a readable numpy file" in refusal(_file(tmp_path / "x.npz"))
    objects = tmp_path / "objects.npz"
    np.savez(objects, **{**toy_arrays(), "f": np.array([{}])}, allow_pickle=True)
    assert "holds pickled objects" in refusal(objects)
    assert "no gender 'male'" in refusal(None, gender="male")


def _file(path):
    path.write_bytes(b"no such thing")
    return path


def test_wrong_regressors_and_mean_parameters_are_one_line_each(toy, tmp_path):
    path = tmp_path / "r.npy"
    np.save(path, np.zeros((9, 6890)))
    assert "(9, 6890), and (9, 48) is needed: it was made for another topology" in refusal(
        toy, joint_regressor_extra=path
    )
    assert "(17, 48) is needed: it regresses another joint set" in refusal(toy, joint_regressor_h36m=path)
    assert "does not exist" in refusal(toy, joint_regressor_h36m=tmp_path / "none.npy")
    mean = tmp_path / "mean.npz"
    np.savez(mean, pose=np.zeros(144), shape=np.zeros(10))
    assert "must be an .npz with pose, shape and cam" in refusal(toy, mean_params=mean)
    np.savez(mean, pose=np.zeros(144), shape=np.zeros(9), cam=np.zeros(3))
    assert "shape has shape (9,), and (10) is needed" in refusal(toy, mean_params=mean)


def test_wrong_number_of_betas_in_a_batch_is_one_line(body):
    with pytest.raises(UserError, match="takes 10 shape coefficients"):
        body(*motion(betas=11))
