"""Fixtures that several rooms share."""

import json

import cv2
import numpy as np
import pytest
import torch

# Tests run in two processes: threads of each would fight over the same cores.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mini_coco(tmp_path_factory):
    """A COCO folder in the official layout: three pictures a split, three people, one of them a crowd."""
    root = tmp_path_factory.mktemp("coco")
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        (root / split).mkdir()
        images, annotations = [], []
        for k in range(3):
            name = f"{k:012d}.jpg"
            picture = cv2.resize(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8), (320, 240))
            cv2.imwrite(str(root / split / name), picture)
            images.append({"id": k, "file_name": name, "width": 320, "height": 240})
            joints = np.c_[rng.uniform((60, 40), (160, 220), (17, 2)), rng.integers(1, 3, 17)]
            annotations.append(_annotation(2 * k + 1, k, joints, crowd=0))
            annotations.append(_annotation(2 * k + 2, k, np.zeros((17, 3)), crowd=int(k == 0)))
        categories = [{"id": 1, "name": "person", "keypoints": [str(j) for j in range(17)], "skeleton": []}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"person_keypoints_{split}.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="session")
def mini_mpii(tmp_path_factory):
    """An MPII folder with HRNet's JSON files: three people a split."""
    root = tmp_path_factory.mktemp("mpii")
    rng = np.random.default_rng(1)
    (root / "annot").mkdir()
    (root / "images").mkdir()
    people = []
    for k in range(3):
        cv2.imwrite(str(root / "images" / f"{k}.jpg"), rng.integers(0, 255, (240, 320, 3), dtype=np.uint8))
        joints = np.round(rng.uniform((80, 40), (240, 200), (16, 2)), 1)
        person = {"image": f"{k}.jpg", "joints": joints.tolist(), "joints_vis": [1] * 16}
        people.append({**person, "center": [160.0, 110.0], "scale": 1.0})
    for split in ("train", "valid"):
        (root / "annot" / f"{split}.json").write_text(json.dumps(people))
    return root


def _annotation(number, image, joints, crowd):
    box = [50.0, 30.0, 120.0, 200.0]
    polygon = [50, 30, 170, 30, 170, 230, 50, 230]
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": crowd,
        "bbox": box,
        "area": 12000.0,
        "segmentation": {"size": [240, 320], "counts": [240 * 320]} if crowd else [polygon],
        "num_keypoints": int((joints[:, 2] > 0).sum()),
        "keypoints": np.round(joints, 2).ravel().tolist(),
    }
