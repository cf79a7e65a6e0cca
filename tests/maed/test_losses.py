"""MAED's losses: masks, padding, both forms."""

import pytest
import torch

from posekit.errors import UserError
from posekit.geometry import axis_angle_to_matrix
from posekit_maed.clips import targets_of
from posekit_maed.losses import BodyLoss, Predicted, acceleration_loss


def perfect(targets):
    return Predicted(targets.points, targets.joints3d, axis_angle_to_matrix(targets.pose), targets.shape)


def noisy(targets, scale=0.1, seed=3):
    torch.manual_seed(seed)
    return Predicted(*(value + scale * torch.randn_like(value) for value in perfect(targets)))


@pytest.fixture
def targets(clips):
    return targets_of(clips())


@pytest.mark.parametrize("form", ["mean", "sum"])
def test_perfect_prediction_leaves_the_norm_alone(targets, form):
    total, terms = BodyLoss({"acceleration": 1.0}, form)(perfect(targets), targets)
    assert all(terms[name] < 1e-9 for name in ("points", "joints3d", "shape", "acceleration"))
    assert terms["pose"] < 1e-4
    torch.testing.assert_close(total, terms["norm"] + terms["pose"], atol=1e-5, rtol=0)
    size = torch.cat([targets.pose.flatten(2), targets.shape], -1).norm() / 8
    torch.testing.assert_close(terms["norm"], size, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", ["mean", "sum"])
def test_padding_counts_nowhere(clips, form):
    short, whole = clips(frames=3), clips(frames=3)
    for name, value in whole.items():
        if value.ndim > 1 and name not in ("image",):
            whole[name] = torch.cat([value, value[:, -1:]], 1)
    whole["image"] = torch.cat([whole["image"], whole["image"][:, -1:]], 1)
    whole["valid"] = torch.tensor([[True] * 3 + [False]] * 2)
    loss = BodyLoss({"acceleration": 2.0}, form)
    one, other = targets_of(short), targets_of(whole)
    predicted = noisy(one)
    padded = Predicted(*(torch.cat([value, 9 * torch.ones_like(value[:, -1:])], 1) for value in predicted))
    for name, value in loss(predicted, one)[1].items():
        torch.testing.assert_close(loss(padded, other)[1][name], value, msg=name)


def test_clips_without_3d_take_part_in_2d_alone(clips):
    flat = {n: v for n, v in clips(seed=5).items() if not n.startswith(("joints3d", "body"))}
    both = [targets_of(clips()), targets_of(flat)]
    targets = type(both[0])(*(torch.cat(pair) for pair in zip(*both, strict=True)))
    predicted = noisy(targets)
    _, terms = BodyLoss()(predicted, targets)
    _, alone = BodyLoss()(Predicted(*(value[:2] for value in predicted)), both[0])
    for name in ("joints3d", "pose", "shape", "norm"):
        torch.testing.assert_close(terms[name], alone[name])
    _, second = BodyLoss()(Predicted(*(value[2:] for value in predicted)), both[1])
    torch.testing.assert_close(terms["points"], (alone["points"] + second["points"]) / 2)
    assert all(second[name] == 0 for name in ("joints3d", "pose", "shape", "norm"))


def test_masks_are_respected_by_default_and_ignored_on_request(targets):
    picture = type(targets)(*(value[:, :1] for value in targets))._replace(body_weight=torch.tensor([[1.0], [0.0]]))
    predicted = noisy(picture)
    one = BodyLoss()(predicted, picture)[1]
    alone = BodyLoss()(*(type(t)(*(value[:1] for value in t)) for t in (predicted, picture)))[1]
    torch.testing.assert_close(one["pose"], alone["pose"])
    every = picture._replace(body_weight=torch.ones(2, 1))
    torch.testing.assert_close(
        BodyLoss(official_masking=True)(predicted, picture)[1]["pose"], BodyLoss()(predicted, every)[1]["pose"]
    )


def test_confidence_weighs_and_hidden_joints_may_be_anything(targets):
    loss = BodyLoss()
    predicted = noisy(targets)
    half = targets._replace(confidence=0.5 * targets.confidence)
    torch.testing.assert_close(loss(predicted, half)[1]["points"], 0.5 * loss(predicted, targets)[1]["points"])
    blank = targets._replace(
        confidence=torch.zeros_like(targets.confidence), points=torch.full_like(targets.points, float("nan"))
    )
    points = predicted.points.clone().requires_grad_()
    total, terms = loss(predicted._replace(points=points), blank)
    total.backward()
    assert terms["points"] == 0
    assert torch.isfinite(points.grad).all()


def test_sum_of_norms(targets):
    predicted = noisy(targets)
    terms = BodyLoss(form="sum").terms(predicted, targets)
    hips = [27, 28]
    centre = lambda j: j - j[..., hips, :].mean(-2, keepdim=True)  # noqa: E731
    expected = (centre(predicted.joints3d) - centre(targets.joints3d)).norm(dim=-1).sum() / 8
    torch.testing.assert_close(terms["joints3d"], expected)
    torch.testing.assert_close(terms["shape"], (predicted.shape - targets.shape).norm(dim=-1).mean())


@pytest.mark.parametrize("form", ["mean", "sum"])
def test_where_a_person_walks_is_no_error_of_acceleration(targets, form):
    """Predictions stand at the body's origin, labels in the camera's frame."""
    walk = torch.randn(2, 4, 1, 3)
    moving = targets._replace(joints3d=targets.joints3d + walk)
    loss = BodyLoss({"acceleration": 1.0}, form)
    assert loss(perfect(targets), moving)[1]["acceleration"] < 1e-9
    bent = targets.joints3d.clone()
    bent[:, 2, 30] += 0.1
    assert loss(perfect(targets)._replace(joints3d=bent), moving)[1]["acceleration"] > 1e-6


def test_acceleration_of_labelled_triples():
    still = torch.zeros(1, 5, 2, 3)
    moved = still.clone()
    moved[0, 2, 0, 0] = 1.0
    weight, frames = torch.ones(1, 5, 2), torch.ones(1, 5)
    value = acceleration_loss(moved, still, weight, frames)
    assert value.item() == pytest.approx((1 + 4 + 1) / (3 * 2 * 3))
    weight[0, 2, 0] = 0
    assert acceleration_loss(moved, still, weight, frames) == 0
    assert acceleration_loss(moved, still, weight, frames, last_only=True).item() == pytest.approx(5 / 18)
    assert acceleration_loss(moved[:, :2], still[:, :2], weight[:, :2], frames[:, :2]) == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(({"kp_2d": 1.0},), "points"), (({"pose": -1.0},), "loss_weights.pose"), ((None, "total"), "mean")],
)
def test_mistakes(arguments, text):
    with pytest.raises(UserError, match=text):
        BodyLoss(*arguments)


def test_official_pictures_count_all_people_in_3d_terms_and_norm(targets):
    """One person of two has 3D labels: the published means are over both."""
    picture = type(targets)(*(value[:, :1] for value in targets))
    picture = picture._replace(
        body_weight=torch.tensor([[1.0], [0.0]]),
        joints3d_weight=picture.joints3d_weight * torch.tensor([1.0, 0.0])[:, None, None],
    )
    predicted = noisy(picture)
    ours, official = BodyLoss()(predicted, picture)[1], BodyLoss(official_masking=True)(predicted, picture)[1]
    torch.testing.assert_close(official["joints3d"], ours["joints3d"] / 2)
    every = picture._replace(joints3d_weight=torch.ones_like(picture.joints3d_weight))
    torch.testing.assert_close(official["norm"], BodyLoss()(predicted, every)[1]["norm"])
    assert official["norm"] != ours["norm"]
