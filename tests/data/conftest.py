"""A COCO folder that a test may change, and ways to change it."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from posekit.data import COCOKeypoints


class CocoFolder:
    """A private copy of the small COCO folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def file(self, split="train"):
        return self.root / "annotations" / f"person_keypoints_{split}2017.json"

    def edit(self, change, split="train"):
        content = json.loads(self.file(split).read_text())
        change(content)
        self.file(split).write_text(json.dumps(content))

    def image(self, number=0, split="train"):
        return self.root / f"{split}2017" / f"{number:012d}.jpg"

    def module(self, **options):
        return COCOKeypoints(str(self.root), **{"image_size": (96, 128), "batch_size": 2, **options})


@pytest.fixture
def coco(mini_coco, tmp_path):
    shutil.copytree(mini_coco, tmp_path / "coco")
    return CocoFolder(tmp_path / "coco")


@pytest.fixture
def picture():
    rng = np.random.default_rng(3)
    return cv2.resize(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8), (120, 90))


@pytest.fixture
def write_video(tmp_path):
    def write(frames=7, name="clip.mp4"):
        path = tmp_path / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (64, 48))
        for number in range(frames):
            writer.write(np.full((48, 64, 3), 30 * number % 250, np.uint8))
        writer.release()
        return path

    return write
