"""OKS AP: equal to pycocotools on recorded, real and random cases; degenerate input; merging and repeated samples."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.errors import UserError
from posekit.metrics import KeypointAP, evaluate_coco_keypoints, keypoint_ap, oks, oks_nms
from posekit.skeletons import COCO17, CROWDPOSE14
from tests.metrics.coco_made import NAMES, dicts, difference, made, official
from tests.shared import SHARED, requires_shared

pytestmark = pytest.mark.filterwarnings("ignore:.*repeat another one", "ignore:.*before the ``update``")
GOLDEN = SHARED / "golden" / "logocap" / "cocoeval"


@requires_shared
def test_recorded_cases():
    want = json.loads((GOLDEN / "expected.json").read_text())
    gt, results = (json.loads((GOLDEN / f).read_text()) for f in ("gt.json", "dt.json"))
    order = json.loads((GOLDEN / "perm.json").read_text())

    def boxed(scale):
        out = []
        for r in results:
            xy = np.array(r["keypoints"]).reshape(-1, 3)[:, :2]
            size = (xy.max(0) - xy.min(0)) * scale
            out.append({**r, "bbox": [*xy.min(0).tolist(), *size.tolist()]})
        return out

    mean_scores = [{**r, "score": float(np.mean(r["keypoints"][2::3]))} for r in results]
    cases = {
        "standard": evaluate_coco_keypoints(GOLDEN / "gt.json", GOLDEN / "dt.json"),
        "shuffled_order": evaluate_coco_keypoints(gt, [results[i] for i in order]),
        "with_own_bbox": evaluate_coco_keypoints(gt, boxed(1.0)),
        "own_bbox_sides_times_3.0": evaluate_coco_keypoints(gt, boxed(3.0)),
        "own_bbox_sides_times_0.1": evaluate_coco_keypoints(gt, boxed(0.1)),
        "imgIds_1_2_4": evaluate_coco_keypoints(gt, results, image_ids=[1, 2, 4]),
        "score_is_mean_keypoint_score": evaluate_coco_keypoints(gt, mean_scores),
    }
    for name, got in cases.items():
        assert difference(got, dict(zip(NAMES, want[name]["stats"], strict=True))) < 1e-12, name


@requires_shared
@pytest.mark.parametrize("noise", [0.0, 4.0, 12.0])
def test_real_annotations(noise):
    file = SHARED / "data" / "coco_val2017_keypoints" / "person_keypoints_val2017_538img.json"
    gt = json.loads(file.read_text())
    rng = np.random.default_rng(int(noise))
    results = []
    for a in gt["annotations"]:
        k = np.array(a["keypoints"], float).reshape(-1, 3)
        for _ in range(rng.integers(0, 3)):
            p = k[:, :2] + rng.normal(0, noise, (17, 2))
            keypoints = np.c_[p, np.ones(17)].ravel().tolist()
            results.append({"image_id": a["image_id"], "category_id": 1, "keypoints": keypoints, "score": rng.random()})
    assert difference(evaluate_coco_keypoints(gt, results), official(gt, results)) < 1e-12


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31), images=st.integers(1, 12), people=st.sampled_from([0.3, 2.0, 6.0]),
    found=st.sampled_from([0.3, 1.5, 4.0]), ties=st.booleans(), crowded=st.sampled_from([0.0, 0.5]),
)  # fmt: skip
def test_random_cases_equal_pycocotools(seed, images, people, found, ties, crowded):
    gt, results = made(seed, images, people, found, ties=ties, crowded=crowded)
    if not results:
        return
    want = official(gt, results)
    assert difference(evaluate_coco_keypoints(gt, results), want) < 1e-12
    preds, target = dicts(gt, results)
    assert difference(keypoint_ap(preds, target), want) < 1e-12
    metric = KeypointAP()
    for i in range(0, len(preds), 5):
        metric.update(preds[i : i + 5], target[i : i + 5])
    assert difference(metric.compute(), want) < 1e-12


def test_another_skeleton_and_a_category_more():
    gt, results = made(3, joints=14)
    want = official(gt, results, sigmas=CROWDPOSE14.sigmas)
    assert difference(evaluate_coco_keypoints(gt, results, CROWDPOSE14.sigmas), want) < 1e-12
    gt, results = made(4)
    gt["categories"] = [*gt["categories"], {"id": 7, "name": "other"}, {"id": 8, "name": "nobody"}]
    for i, entry in enumerate([*gt["annotations"], *results]):
        entry["category_id"] = 7 if i % 3 == 0 else 1
    assert difference(evaluate_coco_keypoints(gt, results), official(gt, results)) < 1e-12


def test_annotation_with_id_zero_counts_as_in_the_tool():
    gt, results = made(5)
    for a in gt["annotations"]:
        a["id"] -= 1
    with pytest.warns(UserWarning, match="id 0"):
        got = evaluate_coco_keypoints(gt, results)
    assert difference(got, official(gt, results)) < 1e-12


def test_boxes_decide_the_area_of_a_detection():
    gt, results = made(6)
    for i, r in enumerate(results):
        r["bbox"] = [0.0, 0.0, 10.0 + 7 * i, 40.0]
    preds, target = dicts(gt, results)
    for p in preds:
        number = p["sample_ids"].double()
        p["boxes"] = torch.stack([number * 0, number * 0, 10 + 7 * number, number * 0 + 40], 1)
    assert difference(keypoint_ap(preds, target), official(gt, results)) < 1e-12


def empty_pred(joints=17):
    return {"keypoints": torch.zeros(0, joints, 3), "scores": torch.zeros(0)}


def empty_target(joints=17):
    zero = torch.zeros(0)
    return {"keypoints": torch.zeros(0, joints, 3), "area": zero, "boxes": torch.zeros(0, 4), "iscrowd": zero}


def test_degenerate_input():
    preds, target = dicts(*made(7))
    nobody = keypoint_ap([empty_pred() for _ in target], target)
    assert nobody["AP"] == 0
    assert nobody["AR"] == 0
    no_truth = keypoint_ap(preds, [empty_target() for _ in preds])
    assert set(no_truth.values()) == {-1.0}
    assert set(keypoint_ap([], []).values()) == {-1.0}
    assert set(keypoint_ap([empty_pred()], [empty_target()]).values()) == {-1.0}
    nan = [{**p, "keypoints": p["keypoints"] * float("nan")} for p in preds]
    assert keypoint_ap(nan, target)["AP"] == 0
    assert keypoint_ap([{"keypoints": [], "scores": []}], [{"keypoints": [], "area": [], "boxes": [], "iscrowd": []}])


def test_wrong_shapes_are_named():
    preds, target = dicts(*made(7))
    with pytest.raises(ValueError, match=r"17, 2 or more"):
        keypoint_ap([{**preds[0], "keypoints": torch.zeros(2, 14, 3)}], target[:1])
    with pytest.raises(ValueError, match="scores has shape"):
        keypoint_ap([{**preds[0], "scores": torch.zeros(99)}], target[:1])
    with pytest.raises(ValueError, match="no 'area'"):
        keypoint_ap(preds[:1], [{k: v for k, v in target[0].items() if k != "area"}])
    with pytest.raises(ValueError, match="one dict per image"):
        KeypointAP().update(preds[:2], target[:1])
    with pytest.raises(ValueError, match="set_targets"):
        KeypointAP().update(preds[:2])


def test_top_down_rows_of_an_image_in_different_batches():
    gt, results = made(8)
    preds, target = dicts(gt, results)
    want = official(gt, results)
    metric = KeypointAP()
    metric.set_targets(target)
    rows = {
        "keypoints": torch.tensor([r["keypoints"] for r in results], dtype=torch.float64).reshape(-1, 17, 3),
        "scores": torch.tensor([r["score"] for r in results], dtype=torch.float64),
        "image_id": torch.tensor([r["image_id"] for r in results]),
        "sample_id": torch.arange(len(results)),
        "boxes": torch.ones(len(results), 4),
    }
    order = torch.randperm(len(results), generator=torch.Generator().manual_seed(0))
    for part in [*order.split(7), order[:3], order[-2:]]:  # the last two repeat samples, as a sampler's padding does
        metric.update_rows({k: v[part] for k, v in rows.items()})
    assert difference(metric.compute(), want) < 1e-12
    metric.reset()  # the ground truth stays
    metric.update_rows(rows)
    assert difference(metric.compute(), want) < 1e-12
    metric.update([{**preds[0], "image_id": 999}] if len(preds[0]["scores"]) else [{**preds[1], "image_id": 999}])
    with pytest.raises(ValueError, match="999"):
        metric.compute()


def test_only_seen_images_count_on_request():
    gt, results = made(9)
    preds, target = dicts(gt, results)
    metric = KeypointAP(only_seen=True)
    metric.set_targets(target)
    metric.update(preds[:5])
    want = official(gt, [r for r in results if r["image_id"] < 5], image_ids=range(5))
    assert difference(metric.compute(), want) < 1e-12


def test_repeated_images_are_dropped_by_image_id():
    gt, results = made(10)
    preds, target = dicts(gt, results)
    preds = [{k: v for k, v in p.items() if k != "sample_ids"} for p in preds]
    metric = KeypointAP()
    metric.update(preds, target)
    metric.update(preds[:4], target[:4])
    assert difference(metric.compute(), official(gt, results)) < 1e-12


def test_states_do_not_alias_the_input_and_forward_works():
    preds, target = dicts(*made(11))
    want = keypoint_ap(preds, target)
    metric = KeypointAP()
    metric(preds[:6], target[:6])
    metric(preds[6:], target[6:])
    for entry in (*preds, *target):
        entry["keypoints"].zero_()
    assert difference(metric.compute(), want) < 1e-12
    assert difference(metric.clone().compute(), want) < 1e-12


def test_oks_shapes_and_rules():
    rng = np.random.default_rng(0)
    target = np.c_[rng.uniform(0, 100, (5, 17, 2)).reshape(-1, 2), rng.integers(0, 3, 85)].reshape(5, 17, 3)
    found = target[..., :2] + rng.normal(0, 3, (5, 17, 2))
    every = oks(found[:, None], target[None], np.full(5, 4000.0))
    assert every.shape == (5, 5)
    vis = target[2, :, 2] > 0
    e = ((found[1] - target[2, :, :2]) ** 2).sum(-1) / (2 * np.array(COCO17.sigmas)) ** 2 / (4000 + np.spacing(1)) / 2
    assert every[1, 2] == pytest.approx(np.exp(-e)[vis].mean(), abs=1e-14)
    unlabelled = np.zeros((17, 3))
    inside = np.tile([5.0, 5.0], (17, 1))
    assert oks(inside, unlabelled, 100.0, boxes=np.array([0.0, 0, 10, 10])) == 1
    assert oks(inside + 16, unlabelled, 100.0, boxes=np.array([0.0, 0, 10, 10])) < 1
    assert oks(inside, unlabelled, 100.0) == 0
    assert oks(torch.tensor(inside), torch.tensor(target[0]), torch.tensor(4.0)).shape == ()


def test_oks_nms_equals_the_plain_loop():
    rng = np.random.default_rng(1)
    base = rng.uniform(0, 100, (6, 17, 2))
    xy = base[rng.integers(0, 6, 60)] + rng.normal(0, 3, (60, 17, 2))
    score, area, image = np.round(rng.random(60), 1), rng.uniform(2000, 9000, 60), rng.integers(0, 4, 60)
    want = []
    for i in range(4):
        rows = np.flatnonzero(image == i)
        rows = rows[np.argsort(-score[rows], kind="stable")]
        while len(rows):
            best, rest = rows[0], rows[1:]
            want.append(best)
            d = ((xy[rest] - xy[best]) ** 2).sum(-1) / (2 * np.array(COCO17.sigmas)) ** 2
            similarity = np.exp(-d / ((area[rest] + area[best]) / 2 + np.spacing(1))[:, None] / 2).mean(-1)
            rows = rest[similarity <= 0.6]
    assert oks_nms(xy, score, area, 0.6, image=image).tolist() == want
    assert oks_nms(xy[:0], score[:0], area[:0], 0.6).tolist() == []


def test_option_oks_nms_drops_copies():
    person = torch.rand(1, 17, 3, generator=torch.Generator().manual_seed(0)) * 100
    person[..., 2] = 2
    pred = {"keypoints": person.repeat(3, 1, 1), "scores": torch.tensor([0.9, 0.8, 0.7]), "image_id": 1}
    truth = {
        "image_id": 1, "keypoints": person, "area": torch.tensor([9000.0]), "boxes": torch.tensor([[0.0, 0, 100, 100]]),
        "iscrowd": torch.zeros(1),
    }  # fmt: skip
    metric = KeypointAP(oks_nms=0.9)
    metric.update([pred], [truth])
    assert len(metric.collected()[0].score) == 1


@pytest.mark.parametrize("threshold", [-1, 0, 2, float("nan"), "a", True])
def test_thresholds_of_suppression_that_leave_one_person_or_everybody_are_refused(threshold):
    with pytest.raises(UserError, match=r"KeypointAP: oks_nms must be a number in \(0, 1\] \(or null\), not"):
        KeypointAP(oks_nms=threshold)
    with pytest.raises(UserError, match=r"oks_nms: threshold must be a number in \(0, 1\], not"):
        oks_nms(torch.zeros(2, 17, 2), torch.ones(2), torch.ones(2), threshold)


def test_groups_of_joints():
    gt, results = made(12)
    preds, target = dicts(gt, results)
    metric = KeypointAP(groups={"all": range(17), "face": range(5)})
    metric.update(preds, target)
    result = metric.compute()
    assert result["AP/all"] == result["AP"]
    for a in gt["annotations"]:
        visible = np.array(a["keypoints"]).reshape(-1, 3)
        visible[5:, 2] = 0
        a["keypoints"], a["num_keypoints"] = visible.ravel().tolist(), int((visible[:, 2] > 0).sum())
    assert result["AP/face"].item() == pytest.approx(official(gt, results)["AP"], abs=1e-12)


def test_neither_lightning_nor_opencv_is_needed():
    code = "import sys, posekit.metrics; assert not {'lightning', 'cv2', 'posekit.data'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
