"""Two gloo processes give the numbers of one: uneven shards, an empty rank, samples that a sampler repeats."""

import pytest
import torch

from posekit.metrics import KeypointAP
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


@pytest.mark.cuda
def test_cuda_tensors():
    content = made(22)
    preds, target = dicts(*content)
    metric = KeypointAP().to("cuda")
    move = lambda e: {k: v.cuda() if torch.is_tensor(v) else v for k, v in e.items()}  # noqa: E731
    metric.update([move(p) for p in preds], [move(t) for t in target])
    assert difference(metric.compute(), official(*content)) < 1e-12
