"""MPJPE family, Procrustes, acceleration, PCK family: recorded numbers, hand-made cases, degenerate input."""

import time

import numpy as np
import pytest
import torch

from posekit.geometry.procrustes import best_rotation, procrustes, procrustes_align
from posekit.metrics import (
    MPJPE,
    NMPJPE,
    PAMPJPE,
    PCK,
    PCK3D,
    PVE,
    AccelerationError,
    PCKh,
    acceleration,
    acceleration_error,
    head_sizes,
    mpjpe,
    n_mpjpe,
    pa_mpjpe,
    pck3d,
)
from posekit.metrics.joint_rows import weighted_mean
from posekit.metrics.pck import pck_and_auc
from posekit.skeletons import MPII16
from tests.shared import SHARED, requires_shared


def numpy_procrustes(x, y):
    """One pose at a time by numpy's SVD: the reference, and what speed is measured against."""
    mx, my = x.mean(0), y.mean(0)
    a, b = x - mx, y - my
    u, _, vt = np.linalg.svd(a.T @ b)
    flip = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    r = vt.T @ flip @ u.T
    scale = np.trace(r @ a.T @ b) / (a * a).sum()
    return scale * a @ r.T + my


@pytest.fixture(scope="module")
def recorded():
    return dict(np.load(SHARED / "golden" / "maed" / "metrics.npz"))


@requires_shared
def test_recorded_errors(recorded):
    gt, pred = torch.tensor(recorded["gt"]), torch.tensor(recorded["pred"])
    assert mpjpe(pred, gt, root=(2, 3)).numpy() == pytest.approx(1000 * recorded["mpjpe_per_pose"], abs=1e-3)
    middle = lambda x: x - x[:, 2:4].mean(1, keepdim=True)  # noqa: E731
    # The recorded poses are centred in float32; the reference of each pose is float64 from there on.
    got = pa_mpjpe(middle(pred), middle(gt)).numpy()
    assert got == pytest.approx(1000 * recorded["pa_mpjpe_per_pose_numpy64"], abs=1e-4)
    assert got[1] > 100  # the mirrored pose: no reflection is used
    pred, gt = middle(pred), middle(gt)
    assert acceleration(pred).numpy() == pytest.approx(1000 * recorded["accel"], abs=1e-2)
    assert acceleration_error(pred, gt).numpy() == pytest.approx(1000 * recorded["accel_err"], abs=1e-2)
    seen = acceleration_error(pred, gt, torch.tensor(recorded["vis"]))
    assert seen[~seen.isnan()].numpy() == pytest.approx(1000 * recorded["accel_err_vis"], abs=1e-2)


@requires_shared
def test_recorded_evaluation(recorded):
    target = torch.tensor(recorded["eval_target_j3d_with_vis"])
    pred, weight = torch.tensor(recorded["pred"]), target[..., 3:]
    pred, gt = pred * weight, target[..., :3] * weight  # what the official evaluator does to hidden joints
    for cls, name in ((MPJPE, "eval_mpjpe"), (PAMPJPE, "eval_pa-mpjpe")):
        metric = cls(root=(2, 3))
        metric.update(pred, gt)
        assert metric.compute().item() == pytest.approx(float(recorded[name]), abs=1e-2)
    middle = lambda x: x - x[:, 2:4].mean(1, keepdim=True)  # noqa: E731
    metric = AccelerationError(across_clips=True)
    metric.update(middle(pred).reshape(3, 4, 14, 3), middle(gt).reshape(3, 4, 14, 3), clip_ids=torch.arange(3))
    assert metric.compute().item() == pytest.approx(float(recorded["eval_accel_err"]), abs=2e-2)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e5])
def test_procrustes_equals_numpy_for_well_and_badly_determined_poses(scale):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((400, 14, 3)) * scale, rng.standard_normal((400, 14, 3))
    x[:50, :, 2] *= 1e-9  # nearly planar
    y[50:100, :, 1] = 0  # planar
    x[100:150] = y[100:150] * [-1, 1, 1]  # mirrored
    x[150:200] = y[150:200] @ np.linalg.qr(rng.standard_normal((3, 3)))[0] * 3 + 1
    x[200:220, :, 1:] = 0  # on a line
    got = procrustes_align(torch.tensor(x), torch.tensor(y)).numpy()
    want = np.stack([numpy_procrustes(a, b) for a, b in zip(x, y, strict=True)])
    errors = [np.linalg.norm(v - y, axis=-1).mean(-1) for v in (got, want)]
    assert errors[0] == pytest.approx(errors[1], abs=1e-9)
    fit = procrustes(torch.tensor(x), torch.tensor(y))
    assert (torch.linalg.det(fit.rotation) - 1).abs().max() < 1e-9


def test_a_pose_that_is_nan_spoils_no_other_one():
    rng = np.random.default_rng(0)
    y = rng.standard_normal((50, 14, 3))
    y = np.linalg.qr(y - y.mean(1, keepdims=True))[0] * [1.0, 0.8, 0.8]  # no closed form where it is mirrored:
    turns = np.linalg.qr(rng.standard_normal((50, 3, 3)))[0]
    x = y @ (-np.linalg.det(turns)[:, None, None] * turns) + 0.01 * rng.standard_normal(y.shape)
    x, y = torch.tensor(x), torch.tensor(y)
    broken = torch.full_like(x[:1], float("nan"))
    together = pa_mpjpe(torch.cat([x, broken]), torch.cat([y, y[:1]]))
    assert together[:-1].allclose(pa_mpjpe(x, y), rtol=0, atol=1e-9)
    assert together[-1].isnan()


def test_procrustes_degenerate_and_weighted():
    y = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert procrustes_align(torch.ones(5, 3), y).allclose(y.double().mean(0).expand(5, 3))  # all joints in one point
    assert procrustes(torch.zeros(0, 5, 3), torch.zeros(0, 5, 3)).rotation.shape == (0, 3, 3)
    nothing = procrustes(y, y + 1, torch.zeros(5))
    assert torch.equal(nothing.rotation, torch.eye(3, dtype=torch.float64))
    assert nothing.scale == 1
    x = y.flip(-1) * torch.tensor([1.0, 1.0, -1.0]) * 2
    broken, weight = x.clone(), torch.tensor([1.0, 1, 1, 1, 0])
    broken[4] = float("nan")
    assert pa_mpjpe(broken, y, weight) < 1e-3
    rigid = procrustes(x, y, scale=False)
    assert rigid.scale == 1
    assert best_rotation(torch.zeros(3, 3)).det() == pytest.approx(1)


def test_batched_procrustes_is_much_faster_than_a_loop():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 10_000, 17, 3))
    start = time.process_time()
    for a, b in zip(x[:1000], y[:1000], strict=True):
        numpy_procrustes(a, b)
    loop = (time.process_time() - start) * 10
    x, y = torch.tensor(x), torch.tensor(y)
    best = min(_seconds(x, y) for _ in range(5))
    assert loop / best > 8, (loop, best)  # measured 25 to 30 on a quiet machine


def _seconds(x, y):
    start = time.process_time()
    procrustes_align(x, y)
    return time.process_time() - start


def test_leading_shapes_weights_and_units():
    pred, target = torch.rand(2, 3, 4, 5, 3), torch.rand(2, 3, 4, 5, 3)
    for function in (mpjpe, pa_mpjpe, n_mpjpe):
        assert function(pred, target).shape == (2, 3, 4)
    weight = torch.ones(5)
    weight[2] = 0
    bad = pred.clone()
    bad[..., 2, :] = float("nan")
    assert mpjpe(bad, target, weight).allclose(mpjpe(pred, target, weight))
    assert n_mpjpe(bad, target, weight).allclose(n_mpjpe(pred, target, weight))
    assert mpjpe(pred, target, torch.zeros(5)).isnan().all()
    assert n_mpjpe(3 * target, target).max() < 1e-3
    assert n_mpjpe(0 * target, target).isfinite().all()
    with pytest.raises(ValueError, match="differ in shape"):
        mpjpe(pred, target[..., :4, :])
    assert acceleration_error(pred[0], target[0]).shape == (3, 2)
    assert acceleration_error(pred[0, :, :2], target[0, :, :2]).shape == (3, 0)


@pytest.mark.parametrize("cls", [MPJPE, PAMPJPE, NMPJPE])
def test_class_breakdowns_and_repeated_samples(cls):
    pred, target = torch.rand(6, 4, 3), torch.rand(6, 4, 3)
    ids = torch.arange(6)
    plain = cls()
    plain.update(pred, target, sample_ids=ids)
    plain.update(pred[:2], target[:2], sample_ids=ids[:2])
    assert plain.compute().shape == ()
    assert len(plain.per_joint()) == 4
    named = cls(joints=["a", "b", "c", "d"], groups={"ends": ["a", "d"], "middle": [1, 2]})
    named.update(pred, target)
    result = named.compute()
    assert result[cls.label].item() == pytest.approx(plain.compute().item())
    assert result["ends"].item() == pytest.approx((result["a"] + result["d"]).item() / 2)
    assert torch.stack([result[j] for j in "abcd"]).numpy() == pytest.approx(plain.per_joint().numpy())
    with pytest.raises(ValueError, match="unknown joint"):
        cls(joints=["a"], groups={"g": ["b"]})
    with pytest.raises(ValueError, match="names"):
        named.update(pred[:, :3], target[:, :3])


@pytest.mark.filterwarnings("ignore")
def test_no_samples_give_nan():
    for metric in (MPJPE(), PAMPJPE(joints=["a"]), PVE(), AccelerationError(), PCK3D(), PCKh(), PCK()):
        value = metric.compute()
        for number in value.values() if isinstance(value, dict) else [value]:
            assert number.isnan()


def test_acceleration_never_crosses_clips():
    rng = torch.Generator().manual_seed(0)
    target = torch.rand(3, 6, 4, 3, generator=rng)
    pred = torch.rand(3, 6, 4, 3, generator=rng)
    want = acceleration_error(pred, target).mean().item()
    clips = AccelerationError()
    clips.update(pred, target)
    assert clips.compute().item() == pytest.approx(want)
    frames = AccelerationError()
    clip, frame = torch.arange(3).repeat_interleave(6), torch.arange(6).repeat(3)
    order = torch.randperm(18, generator=rng)
    flat = [v.reshape(18, 4, 3)[order] for v in (pred, target)]
    for part in (slice(0, 7), slice(7, 18), slice(3, 5)):  # the last part repeats frames
        ids = {"clip_ids": clip[order][part], "frame_ids": frame[order][part]}
        frames.update(flat[0][part], flat[1][part], **ids)
    assert frames.compute().item() == pytest.approx(want)
    gap = AccelerationError()
    gap.update(pred[:1, :4], target[:1, :4], clip_ids=torch.tensor([0]), frame_ids=torch.tensor([0, 1, 3, 4]))
    assert gap.compute().isnan()
    official = AccelerationError(across_clips=True)
    official.update(pred, target, clip_ids=torch.arange(3))
    joined = acceleration_error(pred.reshape(1, 18, 4, 3), target.reshape(1, 18, 4, 3))
    assert official.compute().item() == pytest.approx(joined.mean().item())
    hidden = AccelerationError()
    hidden.update(pred[:1], target[:1], visible=torch.tensor([[True, True, False, True, True, True]]))
    assert hidden.compute().item() == pytest.approx(acceleration_error(pred[0, 3:], target[0, 3:]).mean().item())
    with pytest.raises(ValueError, match="clip_ids"):
        hidden.update(pred[0], target[0])


@pytest.mark.parametrize("root", [0, (2, 3)])
def test_a_pose_without_a_labelled_root_has_no_root_relative_error(root):
    pred, target = torch.rand(2, 6, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = torch.ones(6, 4)
    weight[1, 0], weight[2, 3], weight[4, 1] = 0, 0, 0
    hidden = target.masked_fill(weight[..., None] == 0, float("nan"))
    kept = weight.clone()
    kept[1 if root == 0 else 2] = 0
    for cls, function in ((MPJPE, mpjpe), (NMPJPE, n_mpjpe)):
        metric, reference = cls(root=root), cls(root=None if function is mpjpe else root)
        metric.update(pred, hidden, weight)
        middle = lambda x: x - x[:, [root] if root == 0 else list(root)].mean(1, keepdim=True)  # noqa: E731
        reference.update(middle(pred), middle(target), kept)
        assert metric.compute().item() == pytest.approx(reference.compute().item())
        assert function(pred, hidden, weight, root).isnan().nonzero().flatten().tolist() == [1 if root == 0 else 2]
    metric, reference = PAMPJPE(root=root), PAMPJPE()
    metric.update(pred, hidden, weight)
    reference.update(pred, target, weight)
    assert metric.compute().item() == reference.compute().item()


def test_only_positive_weights_count():
    values = np.array([1.0, 3.0, 50.0])
    assert weighted_mean(values, np.array([1.0, 1.0, -1.0])) == 2
    weight = torch.tensor([1.0, 1.0, -1.0])
    assert mpjpe(torch.zeros(3, 3), torch.ones(3, 3), weight, None).item() == pytest.approx(1000 * 3**0.5)


def test_pve():
    pred, target = torch.rand(4, 50, 3), torch.rand(4, 50, 3)
    metric = PVE()
    metric.update(pred, target)
    assert metric.compute().item() == pytest.approx(1000 * (pred - target).norm(dim=-1).mean().item(), rel=1e-5)


def test_pck3d_and_auc_by_hand():
    distance = torch.tensor([[0.0, 0.002, 0.1499, 0.15, 0.2, 9.0]], dtype=torch.float64)
    target = torch.zeros(1, 6, 3, dtype=torch.float64)
    pred = torch.stack([distance, 0 * distance, 0 * distance], -1)
    assert pck3d(pred, target).tolist() == [[True, True, True, False, False, False]]
    metric = PCK3D()
    metric.update(pred, target, weight=torch.tensor([1.0, 1, 1, 1, 1, 0]))
    result = metric.compute()
    assert result["PCK"].item() == pytest.approx(60.0)
    thresholds = np.arange(0, 151, 5)
    want = np.mean([(distance[0, :5].numpy() * 1000 < t).mean() for t in thresholds])
    assert len(thresholds) == 31
    assert result["AUC"].item() == pytest.approx(100 * want)
    errors, weights = 1000 * distance.numpy(), np.array([[1.0, 1, 1, 1, 1, 0]])
    assert pck_and_auc(errors, weights) == pytest.approx((result["PCK"].item(), result["AUC"].item()))
    assert pck_and_auc(errors, weights, threshold=101)[0] == pytest.approx(40.0)


def mpii_reference(pred, target, boxes, visible, threshold):
    """The published rules, joint by joint."""
    size = 0.6 * np.linalg.norm(boxes[:, 2:] - boxes[:, :2], axis=1)
    within = np.linalg.norm(pred - target, axis=-1) / size[:, None] <= threshold
    count = visible.sum(0)
    share = 100 * (within * visible).sum(0) / count
    kept = [j for j in range(16) if j not in (6, 7)]
    return share, (share[kept] * count[kept]).sum() / count[kept].sum()


def test_pckh_follows_the_published_rules():
    rng = np.random.default_rng(0)
    target = rng.uniform(0, 200, (40, 16, 2))
    pred = target + rng.normal(0, 12, target.shape)
    boxes = np.concatenate([rng.uniform(0, 50, (40, 2)), rng.uniform(60, 110, (40, 2))], 1)
    visible = (rng.random((40, 16)) > 0.2).astype(float)
    metric = PCKh(joints=MPII16.joints)
    metric.update(*(torch.tensor(v) for v in (pred, target, boxes, visible)))
    result = metric.compute()
    share, mean = mpii_reference(pred, target, boxes, visible, 0.5)
    assert result["PCKh"].item() == pytest.approx(mean)
    assert result["PCKh@0.1"].item() == pytest.approx(mpii_reference(pred, target, boxes, visible, 0.1)[1])
    assert result["Ankle"].item() == pytest.approx((share[0] + share[5]) / 2)
    assert result["Head"].item() == pytest.approx(share[9])
    assert [result[j].item() for j in MPII16.joints] == pytest.approx(share.tolist())


def test_pck_boundaries():
    metric = PCK(threshold=0.5)
    metric.update(torch.tensor([[[3.0, 4.0], [3.0, 4.1]]]), torch.zeros(1, 2, 2), torch.tensor([10.0]))
    assert metric.compute().item() == 50.0  # 5 px of 10 px counts, a little more does not
    zero = PCK()
    zero.update(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), torch.tensor([0.0]))
    assert zero.compute().item() == 0.0
    assert head_sizes(torch.tensor([0.0, 0.0, 30.0, 40.0])).item() == pytest.approx(30.0)


def test_plot():
    pytest.importorskip("matplotlib").use("Agg")
    metric = MPJPE(joints=["a", "b"])
    metric.update(torch.rand(2, 2, 3), torch.rand(2, 2, 3))
    assert metric.plot()[0] is not None


def test_acceleration_error_of_joints_that_are_not_always_labelled():
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.randn(2, 2, 7, 3, 3, generator=generator, dtype=torch.float64)
    visible = torch.ones(2, 7, 3, dtype=torch.bool)
    visible[..., 1] = False  # never
    visible[0, 3, 2] = False  # but in the triples from 1, 2 and 3
    target = target.masked_fill(~visible[..., None], torch.nan)
    each = acceleration_error(pred, target, visible)
    both = [acceleration_error(pred[..., [j], :], target[..., [j], :]) for j in (0, 2)]
    torch.testing.assert_close(each[1], (both[0] + both[1])[1] / 2)
    torch.testing.assert_close(each[0, 1:4], both[0][0, 1:4])
    counted = torch.cat([both[0].flatten(), both[1][0, [0, 4]], both[1][1]])
    metric = AccelerationError(joints=["a", "b", "c"])
    metric.update(pred, target, visible)
    values = metric.compute()
    torch.testing.assert_close(values["acceleration_error"], counted.mean())
    torch.testing.assert_close(values["a"], both[0].mean())
    assert values["b"].isnan()
    assert acceleration_error(pred[:, :1], target[:, :1], visible[:, :1]).shape == (2, 0)


def test_acceleration_error_by_joint_and_group():
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.randn(2, 2, 6, 3, 3, generator=generator, dtype=torch.float64)
    metric = AccelerationError(joints=["a", "b", "c"], groups={"ends": ["a", 2]})
    metric.update(pred, target)
    values = metric.compute()
    for name, members in {"a": [0], "b": [1], "c": [2], "ends": [0, 2]}.items():
        alone = AccelerationError()
        alone.update(pred[..., members, :], target[..., members, :])
        torch.testing.assert_close(values[name], alone.compute())
    means = torch.stack([values[name] for name in "abc"]).mean()
    torch.testing.assert_close(values["acceleration_error"], means)
