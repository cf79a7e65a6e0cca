"""The objective's terms: values, bounds, where gradients go, and labels that are not there."""

import math

import pytest
import torch

from posekit.errors import UserError
from posekit.heatmaps import gaussian_heatmaps
from posekit_tip.losses import (
    complementary_loss,
    localisation_loss,
    redundancy_loss,
    standardised,
    synthesis_loss,
    variety_loss,
)

GROUPS = ((0, 1), (3, 2))
ORDER = torch.tensor([0, 1, 3, 2])


def maps(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def case():
    weight = torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    return {"rough": maps(2, 4, 24, 18), "target": maps(2, 4, 24, 18, seed=1), "weight": weight}


def test_localisation_is_a_pixel_sum_over_labelled_joints(case):
    predicted = maps(2, 4, 24, 18, seed=2)
    square = (predicted - case["target"]).square().sum((-2, -1))
    expected = sum(square[b, j] for b, j in [(0, 0), (0, 2), (0, 3), (1, 2), (1, 3)]) / 5
    torch.testing.assert_close(localisation_loss(predicted, case["target"], case["weight"]), expected)
    mean = localisation_loss(predicted, case["target"], case["weight"], "mean")
    torch.testing.assert_close(mean, expected / (24 * 18))
    with pytest.raises(UserError, match="pixel_sum"):
        localisation_loss(predicted, case["target"], case["weight"], "sum")


def test_an_empty_map_costs_the_energy_of_a_gaussian():
    target = gaussian_heatmaps(torch.tensor([[[36.0, 48.0]]]), torch.ones(1, 1), (96, 72), 3.0)
    loss = localisation_loss(torch.zeros_like(target), target, torch.ones(1, 1))
    assert loss.item() == pytest.approx(math.pi * 9, rel=1e-4)


def test_complementary_is_ln2_while_motion_adds_nothing(case):
    nothing = [torch.zeros(2, 2, 24, 18, requires_grad=True) for _ in GROUPS]
    loss = complementary_loss(case["rough"], nothing, ORDER, case["target"], case["weight"])
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)
    loss.backward()
    assert nothing[0].grad.abs().max() > 0


def test_complementary_is_a_softplus_of_a_difference_of_divergences(case):
    additions = [maps(2, 2, 24, 18, seed=3), maps(2, 2, 24, 18, seed=4)]
    found = complementary_loss(case["rough"], additions, ORDER, case["target"], case["weight"])
    joints = torch.cat(additions, 1)[:, [0, 1, 3, 2]]  # back to the joints' order
    values = []
    for b, j in [(0, 0), (0, 2), (0, 3), (1, 2), (1, 3)]:
        truth = (case["target"][b, j] / case["target"][b, j].sum()).flatten().double()
        kl = []
        for logits in (case["rough"][b, j], case["rough"][b, j] + joints[b, j]):
            q = torch.softmax(logits.flatten().double() / 0.05, 0)
            kl.append((truth * (truth.log() - q.log())).sum())
        values.append(torch.nn.functional.softplus(kl[1] - kl[0]))
    assert found.item() == pytest.approx(torch.stack(values).mean().item(), rel=1e-4)


def test_complementary_falls_when_motion_points_at_the_joint(case):
    points = torch.tensor([[4.0, 7.0], [11.0, 15.0], [9.0, 3.0], [2.0, 20.0]]).expand(2, 4, 2)
    target = gaussian_heatmaps(points, torch.ones(2, 4), (24, 18), 1.0)
    # The softmax of (R + a) / T is the normalised target for a = T log H - R.
    right = 0.05 * target.clamp(min=1e-9).log() - case["rough"]
    helps, misleads = ([part[:, list(g)] for g in GROUPS] for part in (right, -20 * target))
    assert complementary_loss(case["rough"], helps, ORDER, target, case["weight"]) < 0.1
    assert complementary_loss(case["rough"], misleads, ORDER, target, case["weight"]) > 2


def test_complementary_leaves_the_rough_maps_alone(case):
    rough = case["rough"].requires_grad_()
    additions = [torch.zeros(2, 2, 24, 18, requires_grad=True) for _ in GROUPS]
    complementary_loss(rough, additions, ORDER, case["target"], case["weight"]).backward()
    assert rough.grad is None


def test_correlations_lie_between_0_and_1():
    z = [maps(2, 8, 24, 18, seed=s) for s in range(3)]
    features = maps(2, 16, 24, 18, seed=9)
    for value in (redundancy_loss(z, features), variety_loss(z)):
        assert 0 <= value <= 1


def test_identical_single_channels_are_wholly_redundant():
    one = 50 * maps(2, 1, 24, 18)
    assert redundancy_loss([one, one], one).item() == pytest.approx(1, abs=1e-3)
    assert variety_loss([one, one]).item() == pytest.approx(1, abs=1e-3)
    assert redundancy_loss([3 * one + 5], -2 * one).item() == pytest.approx(1, abs=1e-3)


def test_redundancy_is_a_mean_of_squared_correlations():
    import numpy as np

    z, features = maps(2, 3, 16, 12, seed=1) * 50, maps(2, 4, 16, 12, seed=2) * 50
    pool = lambda x: torch.nn.functional.avg_pool2d(x, 4).permute(0, 2, 3, 1).reshape(-1, x.shape[1]).numpy()  # noqa: E731
    whole = np.corrcoef(pool(z).T, pool(features).T)[:3, 3:]
    assert redundancy_loss([z], features).item() == pytest.approx((whole**2).mean(), rel=1e-3)


def test_variety_is_a_mean_over_pairs_of_groups():
    z = [50 * maps(2, 3, 16, 12, seed=s) for s in range(3)]
    pairs = [redundancy_loss([z[a]], z[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    torch.testing.assert_close(variety_loss(z), torch.stack(pairs).mean())


def test_gradients_of_correlations_go_to_motion_alone():
    z = [maps(2, 3, 16, 12, seed=s).requires_grad_() for s in range(2)]
    features = maps(2, 4, 16, 12, seed=5).requires_grad_()
    redundancy_loss(z, features).backward()
    assert features.grad is None
    assert all(x.grad.abs().max() > 0 for x in z)
    for x in z:
        x.grad = None
    variety_loss(z).backward()
    assert all(x.grad.abs().max() > 0 for x in z)


def test_one_sample_and_one_group_give_zero_with_a_live_graph():
    single = [maps(1, 3, 4, 4).requires_grad_(), maps(1, 3, 4, 4, seed=1).requires_grad_()]
    assert len(standardised(single[0])) == 1
    for value in (redundancy_loss(single, maps(1, 2, 4, 4)), variety_loss(single)):
        assert value == 0
        value.backward()
    assert variety_loss([maps(2, 3, 16, 12)]) == 0
    assert variety_loss([torch.ones(2, 3, 16, 12)] * 2) == 0


def test_synthesis_looks_at_the_middle_pose_of_whole_windows():
    interim, target = maps(2, 4, 3, 24, 18), maps(2, 4, 24, 18, seed=1)
    weight, whole = torch.ones(2, 4), torch.tensor([True, False])
    expected = (interim[0, :, 1] - target[0]).square().sum((-2, -1)).mean()
    torch.testing.assert_close(synthesis_loss(interim, target, weight, whole), expected)
    assert synthesis_loss(interim, target, weight, torch.zeros(2, dtype=torch.bool)) == 0


@pytest.mark.parametrize("name", ["loc", "com", "s"])
def test_unlabelled_joints_change_nothing(case, name):
    def value(target):
        free = maps(2, 4, 24, 18, seed=7).requires_grad_()
        if name == "loc":
            loss = localisation_loss(free, target, case["weight"])
        elif name == "com":
            loss = complementary_loss(case["rough"], [free[:, :2], free[:, 2:]], ORDER, target, case["weight"])
        else:
            loss = synthesis_loss(free[:, :, None], target, case["weight"], torch.ones(2, dtype=torch.bool))
        loss.backward()
        return loss, free.grad

    other = torch.where(case["weight"][..., None, None] > 0, case["target"], torch.full_like(case["target"], 1e6))
    for a, b in zip(value(case["target"]), value(other), strict=True):
        assert torch.equal(a, b)


def test_all_terms_are_finite_without_any_label():
    free = maps(2, 4, 24, 18).requires_grad_()
    none, empty = torch.zeros(2, 4), torch.zeros(2, 4, 24, 18)
    parts = [
        localisation_loss(free, empty, none),
        complementary_loss(free, [free[:, :2], free[:, 2:]], ORDER, empty, none),
        synthesis_loss(free[:, :, None], empty, none, torch.ones(2, dtype=torch.bool)),
    ]
    assert all(part == 0 for part in parts)
    sum(parts).backward()
    assert torch.isfinite(free.grad).all()
    assert (free.grad == 0).all()
