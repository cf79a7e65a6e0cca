"""The relations in pose, motion, image and video space, and that these agree (section 8, tests 2 to 4)."""

import cv2
import numpy as np
import pytest
import torch

from posekit.data.transforms import denormalize_image, normalize_image
from posekit.errors import UserError
from posekit.nn.constants import _table
from posekit_nlrd import geometry as g
from posekit_nlrd.relations import (
    flip_pose,
    latent_distance,
    make_relation,
    turn_image,
    turn_pose,
)

SIZE = 121
POSE_RELATIONS = ("flip", "inplane", "flip_inplane")
MOTION_RELATIONS = ("flip_backward", "inplane_backward", "flip_inplane_backward", "slow_backward")


def poses(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, 17, 3, generator=generator, dtype=torch.float64)


def test_flip_and_turn_algebra():
    pose = poses(8)
    assert torch.equal(flip_pose(flip_pose(pose)), pose)
    both = make_relation("flip_inplane", theta=37)
    assert torch.allclose(both.pose(both.pose(pose)), pose)
    assert torch.allclose(flip_pose(turn_pose(pose, 50)), turn_pose(flip_pose(pose), -50))
    assert torch.allclose(turn_pose(turn_pose(pose, 50), -50), pose)
    assert torch.allclose(both.pose(pose), flip_pose(turn_pose(pose, 37)))
    swapped = turn_pose(flip_pose(pose), 37)
    assert (both.pose(pose) - swapped).abs().max() > 0.1


def test_flip_negates_x_and_swaps_sides():
    pose = poses(1)
    flipped = flip_pose(pose)
    for joint in (0, 1, 8):
        assert torch.equal(flipped[0, joint], pose[0, joint] * torch.tensor([-1.0, 1, 1]).double())
    assert torch.equal(flipped[0, 4], pose[0, 7] * torch.tensor([-1.0, 1, 1]).double())


def test_transforms_keep_bones_and_commute_with_fitting():
    pose = poses(8)
    pose = pose - pose[:, :1]
    lengths = g.bone_lengths(pose)
    assert torch.allclose(g.bone_lengths(flip_pose(pose)), lengths[:, list(g.FLIP)])
    assert torch.allclose(g.bone_lengths(turn_pose(pose, 50)), lengths)
    for name in POSE_RELATIONS:
        relation = make_relation(name)
        assert torch.allclose(g.fit_canonical(relation.pose(pose)), relation.pose(g.fit_canonical(pose)), atol=1e-6)


def dots(pose):
    """Draws 17 dots by orthographic projection, each its own brightness, and returns the picture and their pixels."""
    pixels = (pose[:, [0, 2]] * torch.tensor([1.0, -1.0])).numpy() * 9 + (SIZE - 1) / 2
    return pixels


def blob(pixel):
    y, x = np.mgrid[:SIZE, :SIZE]
    return np.exp(-((x - pixel[0]) ** 2 + (y - pixel[1]) ** 2) / (2 * 1.5**2))


@pytest.mark.parametrize("name", POSE_RELATIONS)
@pytest.mark.parametrize("theta", [50.0, -20.0])
def test_picture_and_pose_agree(name, theta):
    relation = make_relation(name, theta)
    local = g.unit(torch.randn(17, 3, generator=torch.Generator().manual_seed(1)))
    pose = 0.4 * g.forward_kinematics(local)
    maps = torch.from_numpy(np.stack([blob(p) for p in dots(pose)])).float()
    expected = dots(relation.pose(pose))
    moved = relation.image(maps[:, None].expand(-1, 3, -1, -1) + 10.0)[:, 0]  # far from the border's black
    for joint in range(17):
        source = g.FLIP[joint] if relation.flips else joint
        found = moved[source].argmax().item()
        assert np.hypot(found % SIZE - expected[joint][0], found // SIZE - expected[joint][1]) < 1.0


def test_turned_picture_equals_opencvs():
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8), (0, 0), 2)
    matrix = cv2.getRotationMatrix2D(((80 - 1) / 2, (60 - 1) / 2), 50, 1)
    expected = cv2.warpAffine(picture, matrix, (80, 60), flags=cv2.INTER_LINEAR).astype(int)
    found = denormalize_image(turn_image(normalize_image(picture), 50)).astype(int)
    difference = np.abs(found - expected)
    assert difference.mean() < 0.6
    assert np.percentile(difference, 99) <= 4
    assert (found[0, 0] == 0).all()  # black corners


def test_borders_and_order_of_mirror_and_turn():
    image = torch.randn(2, 3, 40, 40)
    for border in ("replicate", "reflect"):
        turned = turn_image(image, 30, border)
        assert turned.shape == image.shape
        assert (turned[..., 0, 0] - turn_image(image, 30)[..., 0, 0]).abs().max() > 1e-3
    smooth = torch.nn.functional.interpolate(torch.randn(1, 3, 6, 6), size=41, mode="bicubic")
    relation = make_relation("flip_inplane")
    inverse = turn_image(smooth.flip(-1), -50)
    disc = torch.hypot(*torch.meshgrid(torch.arange(41) - 20.0, torch.arange(41) - 20.0, indexing="ij")) < 18
    assert (relation.image(smooth) - inverse)[..., disc].abs().max() < 1e-4
    assert (relation.image(smooth) - turn_image(smooth.flip(-1), 50))[..., disc].abs().max() > 0.1
    with pytest.raises(UserError, match="border"):
        make_relation("flip", border="wrap")


@pytest.mark.parametrize("name", ["flip_backward", "flip_inplane_backward"])
def test_backward_relations_are_involutions(name):
    motion = poses(2, 30)
    relation = make_relation(name)
    anchor, positive = relation.motion_pair(motion)
    assert torch.equal(anchor, motion)
    assert torch.allclose(relation.motion_pair(positive)[1], motion)
    assert torch.allclose(positive[:, 3], relation.pose(motion[:, 26]))


def test_slow_backward_takes_the_stated_frames():
    window = poses(2, 60)
    anchor, positive = make_relation("slow_backward").motion_pair(window)
    assert anchor.shape == positive.shape == (2, 30, 17, 3)
    for k in range(30):
        assert torch.equal(anchor[:, k], window[:, 2 * k])
        assert torch.equal(positive[:, k], window[:, 44 - k])


def test_slow_backward_halves_speed():
    time = torch.arange(60, dtype=torch.float64)[:, None, None]
    window = poses(1)[0] + time * poses(1, seed=1)[0]
    anchor, positive = make_relation("slow_backward").motion_pair(window)
    assert torch.allclose(2 * (positive[1:] - positive[:-1]), anchor[:-1] - anchor[1:])


@pytest.mark.parametrize("name", [*POSE_RELATIONS, *MOTION_RELATIONS])
def test_videos_go_frame_by_frame_like_motions(name):
    """Each frame of a clip shows its number in its pixels, so that order can be read off."""
    relation = make_relation(name, theta=0.0)
    window = torch.arange(60.0)[None, :, None, None, None].expand(1, 60, 3, 5, 5)
    motion = torch.arange(60.0)[None, :, None, None].expand(1, 60, 17, 3)
    clip = relation.video_pair(window)
    pair = relation.motion_pair(motion)
    for video, pose in zip(clip, pair, strict=True):
        assert torch.allclose(video[0, :, 0, 2, 2], pose[0, :, 0, 1], atol=1e-4)


def test_short_windows_and_unknown_names_are_refused():
    with pytest.raises(UserError, match="slow_backward needs windows of 60 frames, these have 30"):
        make_relation("slow_backward").motion_pair(poses(1, 30))
    with pytest.raises(UserError, match="30 frames"):
        make_relation("flip_backward").video_pair(torch.zeros(1, 29, 3, 8, 8))
    with pytest.raises(UserError, match="flip_inplane"):
        make_relation("flip_inplan")


def test_a_stages_angles_are_worked_out_once():
    _table.cache_clear()
    for degrees in [*range(-30, 30)] * 2:
        turn_image(torch.zeros(1, 3, 4, 4), degrees)
    assert _table.cache_info().misses == 60


def test_latent_distance_is_the_mean_norm():
    a = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    b = torch.tensor([[3.0, 4.0], [1.0, 1.0]])
    assert latent_distance(a, b).item() == pytest.approx(2.5)
