"""Made COCO content for the tests, pycocotools' numbers on it, and the same content as KeypointAP's dicts."""

import contextlib
import copy
import io
from collections import defaultdict

import numpy as np
import torch

NAMES = ["AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"]
CATEGORIES = [{"id": 1, "name": "person", "keypoints": [str(j) for j in range(17)], "skeleton": []}]


def official(gt, results, image_ids=None, sigmas=None):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(gt)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "keypoints")
        if image_ids is not None:
            evaluation.params.imgIds = list(image_ids)
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.asarray(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(NAMES, (float(s) for s in evaluation.stats), strict=True))


def made(seed, images=12, people=3.0, found=2.0, joints=17, ties=True, crowded=0.0):
    """Random people and detections: ties of score and of OKS, crowds, unlabelled people, areas on the bounds."""
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for image in range(images):
        for _ in range(rng.poisson(people)):
            k = np.c_[rng.integers(0, 200, (joints, 2)), rng.choice([0, 1, 2], joints, p=[0.3, 0.2, 0.5])].astype(float)
            k[k[:, 2] == 0] = 0
            k *= rng.random() > 0.15
            area = float(rng.choice([1.0, 1023.0, 1024.0, 9216.0, 9217.0, rng.uniform(500, 40000)]))
            copies = 1 + (rng.random() < 0.2)  # people with equal joints give equal OKS
            for _ in range(copies):
                entry = {"id": len(annotations) + 1, "image_id": image, "category_id": 1, "area": area}
                entry |= {"iscrowd": int(rng.random() < 0.15), "bbox": [20.0, 20.0, 120.0, 150.0]}
                entry |= {"num_keypoints": int((k[:, 2] > 0).sum()), "keypoints": k.ravel().tolist()}
                annotations.append(entry)
            for _ in range(rng.poisson(found) + int(rng.random() < crowded) * 25):
                p = k.copy()
                p[:, :2] += np.round(rng.normal(0, rng.choice([0, 2, 8, 30]), (joints, 2)), 1)
                score = float(np.round(rng.random(), 1 if ties else 9))
                results.append({"image_id": image, "category_id": 1, "keypoints": p.ravel().tolist(), "score": score})
    rng.shuffle(results)
    entries = [{"id": i, "file_name": "", "width": 200, "height": 200} for i in range(images)]
    return {"images": entries, "annotations": annotations, "categories": CATEGORIES}, results


def dicts(gt, results, joints=17):
    """The same as KeypointAP's lists, one dict per image."""
    people, found = defaultdict(list), defaultdict(list)
    for a in gt["annotations"]:
        people[a["image_id"]].append(a)
    for number, r in enumerate(results):
        found[r["image_id"]].append((number, r))
    preds, target = [], []

    def points(entries):
        return torch.tensor([e["keypoints"] for e in entries], dtype=torch.float64).reshape(-1, joints, 3)

    for image in sorted(i["id"] for i in gt["images"]):
        rows, truth = found[image], people[image]
        preds.append(
            {
                "keypoints": torch.tensor([r["keypoints"] for _, r in rows], dtype=torch.float64).reshape(
                    -1, joints, 3
                ),
                "scores": torch.tensor([r["score"] for _, r in rows], dtype=torch.float64),
                "sample_ids": torch.tensor([n for n, _ in rows], dtype=torch.int64),
                "image_id": image,
            }
        )
        target.append(
            {
                "keypoints": points(truth),
                "area": torch.tensor([a["area"] for a in truth], dtype=torch.float64),
                "boxes": torch.tensor([a["bbox"] for a in truth], dtype=torch.float64).reshape(-1, 4),
                "iscrowd": torch.tensor([a["iscrowd"] for a in truth]) > 0,
                "num_keypoints": torch.tensor([a["num_keypoints"] for a in truth], dtype=torch.int64),
                "image_id": image,
            }
        )
    return preds, target


def difference(got, want):
    return max(abs(float(got[n]) - want[n]) for n in NAMES)
