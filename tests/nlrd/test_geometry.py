"""Section-8 tests of the geometry: the joint set, local limb frames, kinematics, canonical bones."""

import pytest
import torch

from posekit.nn.constants import _numbers
from posekit.skeletons import LIMB17
from posekit_nlrd import geometry as g

PAPER_PARENTS = [0, 0, 1, 2, 3, 1, 5, 6, 1, 0, 9, 10, 11, 0, 13, 14, 15]
PAPER_FLIP = [0, 1, 5, 6, 7, 2, 3, 4, 8, 13, 14, 15, 16, 9, 10, 11, 12]


def poses(count=500, dtype=torch.float64, seed=0):
    """Random poses: every bone in a random direction, of a random length."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(count, 17, 3, generator=generator, dtype=dtype)
    lengths = 0.5 + torch.rand(count, 17, generator=generator, dtype=dtype)
    return g.accumulate(g.unit(directions) * lengths[..., None])


def rotation(seed=0):
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    return q * torch.linalg.det(q)


def test_joint_set_is_the_papers_and_symmetric():
    assert list(g.PARENTS) == PAPER_PARENTS
    assert list(g.FLIP) == PAPER_FLIP
    assert [g.FLIP[g.FLIP[i]] for i in range(17)] == list(range(17))
    assert all(g.PARENTS[g.FLIP[i]] == g.FLIP[g.PARENTS[i]] for i in range(17))
    assert all(g.CANONICAL[g.FLIP[i]] == g.CANONICAL[i] for i in range(17))
    assert g.CANONICAL[LIMB17.index("neck")] == 4.75
    assert g.CANONICAL[LIMB17.index("left_shoulder")] == pytest.approx(1.37)
    assert g.CANONICAL[LIMB17.index("head_top")] == 2.0
    walk = [0, *(j for level in g.LEVELS for j in level)]
    assert sorted(walk) == list(range(17))
    assert all(walk.index(g.PARENTS[j]) < walk.index(j) for j in walk[1:])


def test_camera_and_view_frames_are_a_rotation_apart():
    points = torch.tensor([[1.0, 2.0, 3.0]])  # right, down, forward
    assert g.camera_to_view(points).tolist() == [[1.0, 3.0, -2.0]]
    assert torch.equal(g.view_to_camera(g.camera_to_view(points)), points)
    assert torch.linalg.det(g.camera_to_view(torch.eye(3))).item() == pytest.approx(1.0)


def test_round_trip_in_float64_with_own_lengths():
    pose = poses()
    back = g.forward_kinematics(g.to_local(pose), g.bone_lengths(pose))
    assert (back - pose).abs().max() < 1e-6


def test_round_trip_in_float32_with_canonical_bones():
    pose = g.fit_canonical(poses(200)).float()
    error = (g.forward_kinematics(g.to_local(pose)) - pose).abs().amax((-1, -2))
    assert error.quantile(0.95) < 1e-4  # random limbs may come near a frame's pole
    mild = g.fit_canonical(poses(200, seed=1))
    local = g.to_local(mild).float()
    again = g.to_local(g.forward_kinematics(local))
    assert (again - local).abs().amax((-1, -2)).median() < 1e-5


def test_limbs_do_not_see_the_view_and_the_trunk_turns_along():
    pose, turn = g.fit_canonical(poses()), rotation()
    limbs = [j for j in range(17) if j not in g.TORSO]
    local, turned = g.to_local(pose), g.to_local(g.rotate(pose, turn))
    assert (turned - local)[:, limbs].abs().max() < 1e-6
    trunk = list(g.TORSO)
    assert (turned[:, trunk] - g.rotate(local[:, trunk], turn)).abs().max() < 1e-9


def test_any_vectors_give_canonical_bones():
    local = g.unit(torch.randn(50, 17, 3))
    lengths = g.bone_lengths(g.forward_kinematics(local))
    assert (lengths - torch.tensor(g.CANONICAL)).abs().max() < 1e-4


def t_pose(dtype=torch.float32):
    """Arms straight along the shoulders, legs straight down."""
    d = torch.zeros(17, 3, dtype=dtype)
    up, right = torch.tensor([0.0, 0, 1], dtype=dtype), torch.tensor([1.0, 0, 0], dtype=dtype)
    for joint in (1, 8):
        d[joint] = -up
    for joint in (2, 3, 4, 9):
        d[joint] = right
    for joint in (5, 6, 7, 13):
        d[joint] = -right
    for joint in (10, 11, 12, 14, 15, 16):
        d[joint] = up
    return g.accumulate(d * torch.tensor(g.CANONICAL, dtype=dtype)[:, None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_t_pose_is_finite_and_comes_back(dtype):
    pose = t_pose(dtype)[None].requires_grad_()
    local = g.to_local(pose)
    back = g.forward_kinematics(local)
    assert (back - pose).abs().max() < 1e-4
    (back * torch.randn_like(back)).sum().backward()
    assert torch.isfinite(pose.grad).all()


def test_limb_exactly_on_its_frames_pole_comes_back_per_sample():
    """One sample of a batch has an upper arm along the fixed direction: only its frame changes."""
    fine = g.fit_canonical(poses(1, seed=3))
    d = g.bones(fine)[0].clone()
    frame = g.trunk_frames(d)[0][0]
    pole = (frame * torch.tensor([0.9975, 0.0023, 0.0709], dtype=d.dtype)[:, None]).sum(0)
    d[3] = g.unit(pole) * 2.8
    batch = torch.cat([fine, g.accumulate(d)[None]]).requires_grad_()
    local = g.to_local(batch)
    back = g.forward_kinematics(local)
    assert (back - batch).abs().max() < 1e-6
    assert torch.allclose(local[0], g.to_local(fine)[0])
    back.square().sum().backward()
    assert torch.isfinite(batch.grad).all()
    alone = g.to_local(batch[1:].detach())
    assert torch.allclose(alone[0], local[1].detach())


def test_collapsed_pose_is_finite():
    pose = torch.zeros(1, 17, 3, requires_grad=True)
    out = g.forward_kinematics(g.to_local(pose))
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert torch.isfinite(pose.grad).all()


def test_fit_keeps_directions_and_is_idempotent():
    pose = poses(20)
    fitted = g.fit_canonical(pose)
    assert torch.allclose(g.unit(g.bones(fitted)), g.unit(g.bones(pose)), atol=1e-9)
    assert torch.allclose(g.fit_canonical(fitted), fitted, atol=1e-9)
    assert torch.equal(fitted[:, 0], torch.zeros(20, 3, dtype=fitted.dtype))


def test_gradients_agree_with_finite_differences():
    local = g.unit(torch.randn(2, 17, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4)))
    assert torch.autograd.gradcheck(g.forward_kinematics, local.requires_grad_(), atol=1e-4)


def test_turns_have_the_stated_sense():
    quarter = torch.tensor(torch.pi / 2, dtype=torch.float64)
    x, z = torch.tensor([[1.0, 0, 0]]).double(), torch.tensor([[0.0, 0, 1]]).double()
    assert torch.allclose(g.rotate(x, g.tilt_matrix(quarter)), z)  # right goes up: counter-clockwise in the picture
    assert torch.allclose(g.rotate(x, g.azimuth_matrix(quarter)), torch.tensor([[0.0, 1, 0]]).double())


def test_geometry_stays_precise_under_autocast():
    pose = g.fit_canonical(poses(20)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = g.forward_kinematics(g.to_local(pose))
    assert torch.equal(inside, g.forward_kinematics(g.to_local(pose)))
    assert inside.dtype == torch.float32


def test_constants_made_in_inference_mode_serve_training():
    _numbers.cache_clear()
    with torch.inference_mode():
        g.fit_canonical(torch.randn(1, 17, 3))
    pose = torch.randn(1, 17, 3, requires_grad=True)
    g.fit_canonical(pose).sum().backward()
    assert torch.isfinite(pose.grad).all()
