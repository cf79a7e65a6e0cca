"""Speed of the metrics against the tools that people use; ``posekit bench metrics`` prints it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np

from posekit.arrays import Float64
from posekit.resources import best_cpu_seconds


def made_coco(images: int = 5000, seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Makes a ground truth and results in COCO's format: two people and 2.9 detections per image on average.

    A fifth of the joints is unlabelled, 1 % of the people are crowds and 5 % have no labelled joint at all.
    """
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in range(images):
        for _ in range(rng.poisson(2)):
            joints = np.c_[rng.uniform(0, 400, (17, 2)), rng.choice([0, 1, 2], 17, p=[0.2, 0.2, 0.6])]
            joints *= rng.random() > 0.05
            annotations.append(_annotation(len(annotations) + 1, image, joints, rng))
            for _ in range(rng.integers(0, 4)):
                found = np.c_[joints[:, :2] + rng.normal(0, rng.uniform(1, 30), (17, 2)), np.ones(17)]
                results.append(
                    {"image_id": image, "category_id": 1, "keypoints": np.round(found, 2).ravel().tolist(),
                     "score": float(np.round(rng.random(), 3))}
                )  # fmt: skip
    names = [{"id": 1, "name": "person", "keypoints": [str(j) for j in range(17)], "skeleton": []}]
    entries = [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(images)]
    return {"images": entries, "annotations": annotations, "categories": names}, results


def _annotation(number: int, image: int, joints: Float64, rng: np.random.Generator) -> dict[str, Any]:
    return {
        "id": number, "image_id": image, "category_id": 1, "iscrowd": int(rng.random() < 0.01),
        "area": float(rng.uniform(500, 60000)), "bbox": [50.0, 50.0, 300.0, 300.0],
        "num_keypoints": int((joints[:, 2] > 0).sum()), "keypoints": np.round(joints, 2).ravel().tolist(),
    }  # fmt: skip


def bench_metrics(images: int = 5000, repeats: int = 3) -> dict[str, float]:
    """Measures process CPU seconds (the best of the repeats) of OKS AP in one process.

    Loading and conversion are left out on all sides. faster-coco-eval is measured where it is installed.

    Returns:
        ``detections``, ``posekit_s``, ``pycocotools_s``, ``faster_coco_eval_s``, the ratios to posekit, and the largest
        difference of any of the ten numbers from pycocotools'.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from posekit.metrics.coco_files import load_coco
    from posekit.metrics.oks_ap import AP_NAMES, evaluate_coco, summarise
    from posekit.skeletons import COCO17

    gt, results = made_coco(images)
    loaded = load_coco(gt, results, COCO17.sigmas)
    ours, own = _cpu(lambda: summarise(*(evaluate_coco(d, t, COCO17.sigmas) for t, d in loaded)), repeats)
    theirs, stats = _official(COCO, COCOeval, gt, results, repeats)
    report = {
        "detections": float(len(results)), "posekit_s": ours,
        "pycocotools_s": theirs, "pycocotools_ratio": theirs / ours,
        "largest_difference": float(max(abs(own[n] - s) for n, s in zip(AP_NAMES, stats, strict=True))),
    }  # fmt: skip
    with contextlib.suppress(ImportError):
        from faster_coco_eval import COCO as FastCOCO
        from faster_coco_eval import COCOeval_faster

        fast, _ = _official(FastCOCO, COCOeval_faster, gt, results, repeats)
        report |= {"faster_coco_eval_s": fast, "faster_coco_eval_ratio": fast / ours}
    return report


def _cpu(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Returns the least process CPU time of the repeats, seconds, and what the last of them gave."""
    results: list[Any] = []
    best = best_cpu_seconds(lambda: results.append(work()), repeats, warmup=0)
    return best, results[-1]


def _official(coco: Any, evaluator: Any, gt: Any, results: Any, repeats: int) -> tuple[float, Any]:
    """Times evaluate, accumulate and summarize of a tool with pycocotools' interface."""
    import copy

    def work() -> Any:
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return evaluation.stats

    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco()
        truth.dataset = copy.deepcopy(gt)
        truth.createIndex()
        evaluation = evaluator(truth, truth.loadRes(copy.deepcopy(results)), "keypoints")
        return _cpu(work, repeats)


def bench_procrustes(poses: int = 10_000, repeats: int = 5) -> dict[str, float]:
    """Measures process CPU seconds of PA-MPJPE: all poses together, and one by one with numpy's SVD.

    Returns:
        ``poses``, ``posekit_s``, ``numpy_loop_s``, ``ratio`` and the largest difference of the errors in mm.
    """
    import torch

    from posekit.metrics.mpjpe import pa_mpjpe

    x, y = np.random.default_rng(0).standard_normal((2, poses, 17, 3))
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    ours, errors = _cpu(lambda: pa_mpjpe(a, b), repeats)
    loop, expected = _cpu(lambda: [_one_by_one(p, t) for p, t in zip(x, y, strict=True)], 1)
    difference = float(np.abs(errors.numpy() - 1000 * np.array(expected)).max())
    return {
        "poses": float(poses), "posekit_s": ours, "numpy_loop_s": loop, "ratio": loop / ours,
        "largest_difference_mm": difference,
    }  # fmt: skip


def _one_by_one(pose: Float64, target: Float64) -> float:
    """PA-MPJPE of one pose, the textbook way."""
    centre, middle = pose.mean(0), target.mean(0)
    x, y = pose - centre, target - middle
    u, s, vt = np.linalg.svd(x.T @ y)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = (s * sign).sum() / (x * x).sum()
    aligned = scale * x @ ((u * sign) @ vt) + middle
    return float(np.linalg.norm(aligned - target, axis=-1).mean())
