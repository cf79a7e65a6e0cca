"""Two gloo processes give the numbers of one: uneven shards, an empty rank, samples that a sampler repeats."""

import json

import pytest
import torch

from posekit.metrics import MPJPE, PAMPJPE, PCK3D, PVE, AccelerationError, KeypointAP, PCKh, PoseTrackAP
from posekit.skeletons import MPII16
from tests.metrics.coco_made import dicts, difference, made, official
from tests.metrics.ddp import run_on_processes


def shard(entries, rank, world):
    """What DistributedSampler gives: every world-th entry, the first ones repeated to fill the last round."""
    padded = entries + entries[: -len(entries) % world]
    return padded[rank::world]


def ap_work(rank, world):
    results = {}
    content = made(21, images=9)
    preds, target = dicts(*content)
    pairs = list(zip(preds, target, strict=True))

    def compute(metric):
        calls, values = [], metric.values
        metric.values = lambda: calls.append(1) or values()
        return {k: float(v) for k, v in metric.compute().items()}, len(calls)

    repeated = KeypointAP()
    for p, t in shard(pairs, rank, world):
        repeated.update([p], [t])
    results["repeated"] = compute(repeated)

    anonymous = KeypointAP()
    for p, t in pairs[rank::world]:  # uneven, without ids: nothing is repeated
        bare = ({k: v for k, v in e.items() if k not in ("image_id", "sample_ids")} for e in (p, t))
        p, t = bare
        anonymous.update([p], [t])
    results["anonymous"] = compute(anonymous)

    one_sided = KeypointAP()
    if rank == 0:
        one_sided.update(preds, target)
    results["empty rank"] = compute(one_sided)

    top_down = KeypointAP()
    top_down.set_targets(target)
    rows = [{**p, **{k: p[k][i : i + 1] for k in ("keypoints", "scores", "sample_ids")}}
            for p in preds for i in range(len(p["scores"]))]  # fmt: skip
    for row in shard(rows, rank, world):
        top_down.update([row])
    results["top-down"] = compute(top_down)
    if rank == 1:
        top_down.reset()
    results["top-down, local rows stay"] = len(top_down.det_xy)

    nothing = KeypointAP()
    results["nothing"] = compute(nothing)

    wrong = KeypointAP()
    wrong.set_targets(target)
    wrong.update([{**preds[0], "image_id": 777}])
    try:
        wrong.compute()
        results["wrong"] = "no error"
    except (ValueError, RuntimeError) as error:
        results["wrong"] = type(error).__name__
    return results


@pytest.fixture(scope="module")
def ap_results():
    return run_on_processes(ap_work, 2)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", ["repeated", "anonymous", "empty rank", "top-down"])
def test_two_processes_equal_one(ap_results, case):
    want = official(*made(21, images=9))
    for rank, result in enumerate(ap_results):
        value, calls = result[case]
        assert difference(value, want) < 1e-12, rank
        assert calls == (1 if rank == 0 else 0), "the first process alone computes"


def test_no_samples_at_all_and_failure(ap_results):
    for result in ap_results:
        assert set(result["nothing"][0].values()) == {-1.0}
    assert [r["wrong"] for r in ap_results] == ["ValueError", "RuntimeError"]


def error_work(rank, world, annotations):
    """One update per sample; the second process gets repeated samples, or none at all."""
    pred, target, boxes = error_data()
    frames = torch.arange(7)
    results = {}
    for case in ("repeated", "empty rank"):
        mine = shard(list(range(7)), rank, world) if case == "repeated" else list(range(7)) * (rank == 0)
        metrics = error_metrics(annotations)
        for i in mine:
            at = slice(i, i + 1)
            for name, metric in metrics.items():
                if name == "PCKh":
                    metric.update(pred[at, :, :2], target[at, :, :2], boxes[at], sample_ids=frames[at])
                elif name == "acceleration":
                    clip = torch.zeros(1, dtype=torch.long)
                    metric.update(pred[at], target[at], clip_ids=clip, frame_ids=frames[at])
                elif name == "PoseTrack":
                    points = torch.cat([100 * target[at, :15, :2], pred[at, :15, 2:]], -1)
                    metric.update({"keypoints": points, "image_id": i % 2, "sample_id": frames[at]})
                else:
                    metric.update(pred[at], target[at], sample_ids=frames[at])
        values = {name: metric.compute() for name, metric in metrics.items()}
        results[case] = {
            (name, key): float(number)
            for name, value in values.items()
            for key, number in (value.items() if isinstance(value, dict) else [("", value)])
        }
    return results


def error_data():
    rng = torch.Generator().manual_seed(0)
    pred, target = torch.rand(7, 16, 3, generator=rng), torch.rand(7, 16, 3, generator=rng)
    return pred, target, torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(7, 4)


def error_metrics(annotations):
    return {
        "MPJPE": MPJPE(), "PA-MPJPE": PAMPJPE(joints=MPII16.joints), "PVE": PVE(), "PCK3D": PCK3D(), "PCKh": PCKh(),
        "acceleration": AccelerationError(), "PoseTrack": PoseTrackAP(annotations),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_other_metrics_on_two_processes(tmp_path):
    joints = [{"id": [j], "x": [100.0 * j], "y": [5.0 * j]} for j in range(15)]
    person = {"annopoints": [{"point": joints}], "x1": [0], "y1": [0], "x2": [99], "y2": [99]}
    frames = [{"image": [{"name": f"{i}.jpg"}], "annorect": [person]} for i in range(2)]
    (tmp_path / "a.json").write_text(json.dumps({"annolist": frames}))
    alone = error_work(0, 1, tmp_path)["repeated"]
    for result in run_on_processes(error_work, 2, tmp_path):
        for case in ("repeated", "empty rank"):
            assert result[case] == pytest.approx(alone, rel=1e-12, nan_ok=True), case


@pytest.mark.cuda
def test_cuda_tensors():
    content = made(22)
    preds, target = dicts(*content)
    metric = KeypointAP().to("cuda")
    move = lambda e: {k: v.cuda() if torch.is_tensor(v) else v for k, v in e.items()}  # noqa: E731
    metric.update([move(p) for p in preds], [move(t) for t in target])
    assert difference(metric.compute(), official(*content)) < 1e-12
