"""The losses against hand-computed numbers, and the random views they are fed with."""

import math

import numpy as np
import pytest
import torch

from posekit.errors import UserError
from posekit.skeletons import LIMB17, get_skeleton
from posekit_nlrd import geometry as g
from posekit_nlrd.augment import Draws, ViewAugmentation, _from_rgb, _to_rgb, contrast_view, jitter, scale_value
from posekit_nlrd.joints import limb_sources, to_limb17
from posekit_nlrd.losses import critic_accuracy, critic_loss, generator_loss, info_nce, logit_weights, weighted_l1
from posekit_nlrd.relations import flip_pose, turn_image, turn_pose
from posekit_nlrd.stages import source
from posekit_nlrd.stages.source import SourceOptions, running_scale, unit_length
from tests.nlrd.figures import METRES, wave

CPU = torch.device("cpu")


def test_info_nce_by_hand():
    q = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    k = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    t = 0.5
    root = 1 / math.sqrt(2)
    dots = [[1.0, 0.0, -1.0], [0.0, root, 0.0], [-1.0, 0.0, 0.0]]  # positives on the diagonal
    expected = [-math.log(math.exp(row[i] / t) / sum(math.exp(x / t) for x in row)) for i, row in enumerate(dots)]
    assert info_nce(q, k, t).item() == pytest.approx(np.mean(expected), rel=1e-5)
    assert info_nce(q, k, t, first_anchor_only=True).item() == pytest.approx(expected[0], rel=1e-5)


def test_info_nce_of_identical_clips_is_log_b():
    same = torch.ones(8, 5)
    assert info_nce(same, same).item() == pytest.approx(math.log(8), rel=1e-5)


def test_critic_losses_by_hand():
    weights = logit_weights(torch.zeros(1))
    assert weights.sum().item() == pytest.approx(1.0)
    assert weights[0].item() == pytest.approx(1 / 51)
    assert weights[17].item() == pytest.approx(1 / 15)
    assert weights[22].item() == pytest.approx(1 / 3)
    real, fake = torch.full((4, 23), 0.5), torch.full((4, 23), 0.25)
    assert critic_loss(real, fake).item() == pytest.approx((0.5 + 1.25) / 2)
    assert generator_loss(fake).item() == pytest.approx(0.75)
    assert [x.item() for x in critic_accuracy(real, fake)] == [1.0, 0.0]
    assert critic_loss(torch.ones(4, 1), -torch.ones(4, 1)).item() == 0.0


def test_weighted_l1_leaves_unlabelled_joints_out():
    pred, target = torch.zeros(2, 3, 3), torch.ones(2, 3, 3)
    target[:, 2] = 100
    assert weighted_l1(pred, target, torch.tensor([1.0, 1, 0]).expand(2, 3)).item() == pytest.approx(1.0)
    assert weighted_l1(pred, target[:, :2].new_zeros(2, 3, 3)).item() == 0.0
    assert weighted_l1(pred, target, torch.zeros(2, 3)).item() == 0.0


def test_draws_depend_on_the_key_alone():
    a, b, c = Draws(CPU, 0, 1, 2), Draws(CPU, 0, 1, 2), Draws(CPU, 0, 2, 1)
    first = a.uniform(5)
    assert torch.equal(first, b.uniform(5))
    assert not torch.equal(first, c.uniform(5))
    assert 0 <= a.number(7) < 7


def test_views_turn_mirror_and_reverse_whole_windows():
    window = torch.randn(1, 30, 17, 3).expand(64, -1, -1, -1)
    plain = ViewAugmentation(tilt=0, flip=0)(window, Draws(CPU, 0))
    assert torch.allclose(plain[..., 2], window[..., 2], atol=1e-6)  # an azimuth keeps heights
    assert (plain[0] - plain[1]).abs().max() > 0.1
    views = ViewAugmentation(reverse=0.5)(window, Draws(CPU, 1))
    lengths = g.bone_lengths(views).sum(-1)
    forward = (lengths - g.bone_lengths(window).sum(-1)).abs().amax(-1) < 1e-3
    backward = (lengths - g.bone_lengths(window).sum(-1).flip(1)).abs().amax(-1) < 1e-3
    assert (forward | backward).all()
    assert 0.3 < forward.float().mean() < 0.7
    mirrored = ViewAugmentation(tilt=0, flip=1.0)(window, Draws(CPU, 2))
    unturned = ViewAugmentation(tilt=0, flip=0.0)(window, Draws(CPU, 2))
    assert torch.allclose(mirrored, flip_pose(unturned), atol=1e-5)


def test_tilt_reaches_but_does_not_pass_its_limit():
    up = torch.zeros(500, 1, 17, 3)
    up[..., 2] = 1
    views = ViewAugmentation(tilt=60, flip=0)(up, Draws(CPU, 3))
    angle = torch.rad2deg(torch.acos(views[:, 0, 0, 2].clamp(-1, 1)))
    assert angle.max() <= 60.01
    assert angle.max() > 50
    assert 0.4 < (angle < 0.1).float().mean() < 0.6


def pictures(count=6):
    return _from_rgb(torch.rand(count, 3, 9, 8, generator=torch.Generator().manual_seed(0)))


def test_jitter_keeps_untouched_pictures_and_shifts_hue():
    images = pictures()
    assert torch.equal(jitter(images, Draws(CPU, 0), 0.0), images)
    red = _from_rgb(torch.tensor([1.0, 0.2, 0.2])[:, None, None].expand(40, 3, 4, 4))
    changed = _to_rgb(jitter(red, Draws(CPU, 1), 1.0))
    assert changed.min() >= 0
    assert changed.max() <= 1
    turned = changed[:, 0, 0, 0] < 0.99  # hue moved by 0.3 to 0.5: red is no longer the brightest
    assert 0.2 < turned.float().mean() < 0.8
    grey = _from_rgb(torch.full((4, 3, 2, 2), 0.5))
    assert torch.isfinite(jitter(grey, Draws(CPU, 2), 1.0)).all()


def test_hsv_round_trip_and_value_scaling():
    from posekit_nlrd.augment import _hsv_to_rgb, _to_hsv

    rgb = torch.rand(3, 3, 5, 5)
    assert torch.allclose(_hsv_to_rgb(*_to_hsv(rgb)), rgb, atol=1e-5)
    images = pictures(50)
    before, after = _to_rgb(images), _to_rgb(scale_value(images, Draws(CPU, 4)))
    ratio = after / before.clamp(min=1e-3)
    assert ratio.max() < 1.51
    assert after.max() <= 1.0
    assert (ratio[..., 0, 0].amax(1) < 0.75).any()
    assert contrast_view(images, Draws(CPU, 5)).shape == images.shape


def test_joint_sets_map_by_meaning():
    assert limb_sources("LIMB17")[1:] == tuple(range(1, 17))
    assert limb_sources("SMPL24")[1:9] == (12, 17, 19, 21, 16, 18, 20, 15)
    assert limb_sources("SMPL24")[9:] == (2, 5, 8, 11, 1, 4, 7, 10)
    assert limb_sources("H36M17")[1:] == (8, 14, 15, 16, 11, 12, 13, 10, 1, 2, 3, -1, 4, 5, 6, -1)


def test_pelvis_is_between_the_hips_and_missing_feet_have_no_weight():
    points = torch.randn(2, 17, 3)
    pose, weight = to_limb17(points, "H36M17")
    assert pose[:, 0].abs().max() == 0
    assert torch.allclose(pose[:, 9], -pose[:, 13], atol=1e-6)
    assert weight[0].nonzero().flatten().tolist() == [j for j in range(17) if j not in (12, 16)]
    half = torch.ones(2, 17)
    half[:, 1] = 0  # the right hip is not labelled
    assert to_limb17(points, "H36M17", half)[1][0, 0] == 0


def test_labelled_pictures_are_changed_row_by_row(monkeypatch):
    images, pose, weight = torch.randn(12, 3, 6, 6), torch.stack([wave(i)[0] for i in range(12)]), torch.rand(12, 17)
    options = SourceOptions(jitter=0.0, mirror=0.4, tilt=10.0, tilt_probability=0.3)
    turned = []
    monkeypatch.setattr(
        source, "turn_image", lambda x, angle: (turned.append((len(x), angle)), turn_image(x, angle))[1]
    )
    found = source.augment_labelled(images, pose, weight, options, Draws(CPU, 3))
    draws = Draws(CPU, 3)
    degrees, tilts, mirrors = draws.number(20) - 10.0, draws.chance(0.3, 12), draws.chance(0.4, 12)
    assert turned == [(int(tilts.sum()), degrees)]
    assert 0 < tilts.sum() < 12
    for i in range(12):
        picture, person, share = images[i], pose[i], weight[i]
        if tilts[i]:
            picture, person = turn_image(picture[None], degrees)[0], turn_pose(person, degrees)
        if mirrors[i]:
            picture, person, share = picture.flip(-1), flip_pose(person), source.flip_weights(share)
        for value, expected in zip(found, (picture, person, share), strict=True):
            assert torch.allclose(value[i], expected, atol=1e-5)


def test_what_hangs_on_an_unlabelled_joint_has_no_weight():
    names, pose = LIMB17.joints, wave(1)[:2]
    share, spoilt = torch.ones(2, 17), pose.clone()
    share[0, names.index("right_shoulder")] = 0
    spoilt[0, names.index("right_shoulder")] = 9.0  # an unlabelled joint stands anywhere
    share[1, names.index("left_hip")] = 0
    found, weight = to_limb17(spoilt, "LIMB17", share)
    lost = {"right_shoulder", "right_elbow", "right_wrist"}
    assert {name for name, w in zip(names, weight[0], strict=True) if w == 0} == lost
    assert weight[1].sum() == 0
    whole, _ = to_limb17(pose, "LIMB17")
    assert unit_length(found, weight) == pytest.approx(unit_length(whole[:1], weight[:1]).item(), rel=1e-4)
    error = (g.fit_canonical(found) - g.fit_canonical(whole)).norm(dim=-1)
    assert (error * weight).max() < 1e-4


def test_weights_of_labelled_joints_stay_as_given():
    share = torch.full((1, 17), 0.5)
    assert to_limb17(wave(0)[:1], "LIMB17", share)[1].tolist() == share.tolist()


@pytest.mark.parametrize("step", [0, 1, 200])
def test_a_batch_without_labels_leaves_the_scale(step):
    scale = torch.tensor(0.12)
    assert running_scale(scale, torch.zeros(2, 17, 3), torch.zeros(2, 17), step) == scale
    moved = running_scale(scale, wave(0)[:2], torch.ones(2, 17), step)
    assert METRES <= moved.item() + 1e-4 < 0.12 + 1e-4
    assert moved != scale


@pytest.mark.parametrize("name", ["COCO17", "LSP14"])
def test_sets_without_a_needed_joint_are_refused(name):
    if name == "COCO17":
        with pytest.raises(UserError, match="COCO17 lacks neck, head_top"):
            limb_sources(name)
    with pytest.raises(UserError, match="rows"):
        to_limb17(torch.zeros(3, 3), "SMPL24")
    assert len(get_skeleton(name)) > 3
