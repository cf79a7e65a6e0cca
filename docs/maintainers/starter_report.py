"""Measures a checkpoint on drawn people and on the people of a COCO folder, beside the mean pose of those people.

    python docs/maintainers/starter_report.py CHECKPOINT COCO_ROOT results.json

The mean pose is that of the very people it is tested on, in their boxes: a baseline that knows more than it should.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posekit.data import COCOKeypoints, SyntheticPeople
from posekit.metrics import KeypointAP, oks
from posekit.skeletons import COCO17
from posekit_hdm import HDM

SPLITS = ("train", "val")


def real_people(root: str, size: tuple[int, int]) -> list[COCOKeypoints]:
    """Opens both splits of a COCO folder for evaluation with annotated boxes."""
    modules = []
    for split in SPLITS:
        names = {"val_annotations": f"annotations/person_keypoints_{split}2017.json", "val_images": f"{split}2017"}
        modules.append(COCOKeypoints(root=root, image_size=size, **names))
    return modules


def predicted(model: HDM, data: Any) -> list[dict[str, torch.Tensor]]:
    """Runs the model over a validation split."""
    with torch.inference_mode():
        return [model.predict_step(batch, 0) for batch in data.loader("val")]


def truth_by_sample(data: Any) -> dict[int, tuple[np.ndarray, np.ndarray, float]]:
    """Returns joints (K, 3), box and area of each person by sample id, as the loader names them."""
    found = {}
    for batch in data.loader("val"):
        targets = {t["image_id"]: t for t in data.ground_truth("val")}
        for image, sample, box in zip(
            batch["image_id"].tolist(), batch["sample_id"].tolist(), batch["box"], strict=True
        ):
            target = targets[image]
            row = int((target["boxes"] - box.double()).abs().sum(1).argmin())
            joints, area = target["keypoints"][row].numpy(), float(target["area"][row])
            found[sample] = (joints, target["boxes"][row].numpy(), area)
    return found


def mean_pose(people: list[tuple[np.ndarray, np.ndarray, float]]) -> np.ndarray:
    """Returns the mean place (K, 2) of labelled joints in their boxes, as a share of width and height."""
    joints = np.stack([p[0] for p in people])
    boxes = np.stack([p[1] for p in people])
    places = (joints[..., :2] - boxes[:, None, :2]) / boxes[:, None, 2:]
    weight = joints[..., 2:] > 0
    return (places * weight).sum(0) / weight.sum(0).clip(1)


def measure(
    rows: dict[int, np.ndarray], people: dict[int, Any], truths: list[Any], images: dict[int, int]
) -> dict[str, float]:
    """Returns AP, AP50, AP75 and the mean OKS of people with labelled joints."""
    metric = KeypointAP()
    metric.set_targets(truths)
    scores = []
    for sample, joints in rows.items():
        truth, box, area = people[sample]
        prediction = {"keypoints": torch.tensor(joints)[None], "scores": torch.tensor([joints[:, 2].mean()])}
        metric.update([{**prediction, "image_id": images[sample], "sample_ids": torch.tensor([sample])}])
        if (truth[:, 2] > 0).any():
            values = oks(joints[None], truth[None], np.array([area]), COCO17.sigmas, boxes=box[None])
            scores.append(float(np.asarray(values).reshape(-1)[0]))
    numbers = {k: float(v) for k, v in metric.compute().items() if k in ("AP", "AP50", "AP75")}
    return {**numbers, "mean_oks": float(np.mean(scores)), "people": len(scores)}


def real_report(model: HDM, root: str) -> dict[str, Any]:
    """Measures model and mean pose on all people of a COCO folder."""
    rows: dict[int, np.ndarray] = {}
    images: dict[int, int] = {}
    people: dict[int, Any] = {}
    truths = []
    for data in real_people(root, model.image_size):
        people |= truth_by_sample(data)
        truths += data.ground_truth("val")
        for found in predicted(model, data):
            for sample, image, joints in zip(found["sample_id"], found["image_id"], found["keypoints"], strict=True):
                rows[int(sample)], images[int(sample)] = joints.numpy().astype(np.float64), int(image)
    shape = mean_pose(list(people.values()))
    mean_rows = {
        s: np.c_[shape * box[2:] + box[:2], np.ones(len(shape))] for s, (_, box, _) in people.items() if s in rows
    }
    return {"model": measure(rows, people, truths, images), "mean_pose": measure(mean_rows, people, truths, images)}


def drawn_report(model: HDM, difficulty: str) -> dict[str, float]:
    """Measures the model on the test split of SyntheticPeople."""
    data = SyntheticPeople(difficulty=difficulty, image_size=model.image_size)
    metric = KeypointAP()
    metric.set_targets(data.ground_truth("test"))
    with torch.inference_mode():
        for batch in data.loader("test"):
            metric.update_rows(model.predict_step(batch, 0))
    return {k: float(v) for k, v in metric.compute().items() if k in ("AP", "AP50", "AP75")}


def main() -> None:
    """Reads the arguments and writes the report."""
    checkpoint, root, output = sys.argv[1:]
    model = HDM.load_from_checkpoint(checkpoint).eval()
    report = {f"drawn_{difficulty}": drawn_report(model, difficulty) for difficulty in ("easy", "hard")}
    report["photos"] = real_report(model, root)
    rounded = json.loads(json.dumps(report), parse_float=lambda text: round(float(text), 4))
    Path(output).write_text(json.dumps(rounded, indent=2) + "\n")
    print(json.dumps(rounded, indent=2))


if __name__ == "__main__":
    main()
