"""LabelledFolder: pictures of one person each, with a list of their joints."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posekit import PoseDataModule, UserError
from posekit.data.batch import ImageTarget
from posekit.data.crops import CropDataset, CropTable, FileReader
from posekit.data.transforms import PersonAugmentation
from posekit.skeletons import get_skeleton


class LabelledFolder(PoseDataModule):
    """``root/people.json``: a list of ``{"file", "box", "keypoints"}``, by split; files are relative to ``root``.

    Args:
        root: Folder of the data.
        image_size: [W, H] of the crops in px.
        kwargs: Arguments of PoseDataModule.
    """

    def __init__(self, root: str, image_size: tuple[int, int] = (96, 128), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)
        self.image_size = image_size

    def people(self, split: str) -> list[dict[str, Any]]:
        path = self.root / "people.json"
        if not path.is_file():
            raise UserError(f"LabelledFolder: {path} does not exist; make it by your labelling tool")
        people = json.loads(path.read_text())["train" if split == "train" else "val"]
        missing = [person["file"] for person in people if not (self.root / person["file"]).is_file()]
        if missing:
            raise UserError(f"LabelledFolder: {len(missing)} pictures are missing, the first is {missing[0]}")
        return people

    def make_dataset(self, split: str) -> CropDataset:
        people = self.people(split)
        ids = np.arange(len(people))
        joints = np.array([p["keypoints"] for p in people], dtype=np.float64)  # (N, K, 3) x, y, visibility
        boxes = np.array([p["box"] for p in people], dtype=np.float64)
        table = CropTable(ids, ids, boxes, np.ones(len(people)), ids, joints)
        read = FileReader([self.root / p["file"] for p in people])
        augmentation = PersonAugmentation() if split == "train" else None
        return CropDataset(
            table, read, get_skeleton(self.skeleton), self.image_size, augmentation=augmentation, seed=self.seed
        )

    def ground_truth(self, split: str) -> list[ImageTarget]:
        boxes, joints = (torch.tensor([p[key] for p in self.people(split)]) for key in ("box", "keypoints"))
        area = 0.53 * boxes[:, 2] * boxes[:, 3]  # these labels have no segments
        rows = zip(boxes.double(), joints.double(), area.double(), strict=True)
        crowd = torch.zeros(1, dtype=torch.bool)
        return [
            {"image_id": i, "keypoints": j[None], "area": a[None], "boxes": b[None], "iscrowd": crowd}
            for i, (b, j, a) in enumerate(rows)
        ]
