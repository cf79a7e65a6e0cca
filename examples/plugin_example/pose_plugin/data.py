"""LabelledFolder: pictures of one person each, with a list of their joints."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from posekit import PoseDataModule, UserError
from posekit.data.batch import ImageTarget
from posekit.data.crops import CropDataset, CropTable, FileReader
from posekit.data.transforms import PersonAugmentation
from posekit.errors import excerpt
from posekit.json_file import read_json
from posekit.skeletons import get_skeleton


def numbers(value: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    """Returns numbers of this shape as float64."""
    try:
        array = np.array(value)
    except ValueError:  # lists of different lengths
        array = np.array(None)
    if array.dtype.kind not in "iuf" or array.shape != shape or not np.isfinite(array).all():
        raise UserError(f"{what} must be {' x '.join(map(str, shape))} numbers, not {excerpt(value)}")
    return array.astype(np.float64)


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
        """Returns the checked people of a split: file, box (4,) x, y, w, h and keypoints (K, 3) x, y, visibility."""
        path = self.root / "people.json"
        content, part = read_json(path, "LabelledFolder: file"), "train" if split == "train" else "val"
        listed = content.get(part) if isinstance(content, dict) else None
        if not isinstance(listed, list) or not listed:
            raise UserError(f"LabelledFolder: {path} must hold a list of people under {part!r}")
        people = [self.person(entry, f"LabelledFolder: {path}: {part}[{i}]") for i, entry in enumerate(listed)]
        missing = [person["file"] for person in people if not (self.root / person["file"]).is_file()]
        if missing:
            raise UserError(f"LabelledFolder: {len(missing)} pictures are missing, the first is {excerpt(missing[0])}")
        return people

    def person(self, entry: Any, where: str) -> dict[str, Any]:
        for key in ("file", "box", "keypoints"):
            if not isinstance(entry, dict) or key not in entry:
                raise UserError(f"{where} has no {key!r}")
        if not isinstance(entry["file"], str):
            raise UserError(f"{where}: file must be a name, not {excerpt(entry['file'])}")
        box = numbers(entry["box"], (4,), f"{where}: box")
        if min(box[2:]) <= 0:
            raise UserError(f"{where}: box must have a width and a height, not {excerpt(box)}")
        joints = numbers(entry["keypoints"], (len(get_skeleton(self.skeleton)), 3), f"{where}: keypoints")
        return {"file": entry["file"], "box": box, "keypoints": joints}

    def make_dataset(self, split: str) -> CropDataset:
        people = self.people(split)
        ids = np.arange(len(people))
        joints, boxes = (np.stack([p[key] for p in people]) for key in ("keypoints", "box"))
        table = CropTable(ids, ids, boxes, np.ones(len(people)), ids, joints)
        read = FileReader([self.root / p["file"] for p in people])
        augmentation = PersonAugmentation() if split == "train" else None
        return CropDataset(
            table, read, get_skeleton(self.skeleton), self.image_size, augmentation=augmentation, seed=self.seed
        )

    def ground_truth(self, split: str) -> list[ImageTarget]:
        people = self.people(split)
        boxes, joints = (torch.from_numpy(np.stack([p[key] for p in people])) for key in ("box", "keypoints"))
        area = 0.53 * boxes[:, 2] * boxes[:, 3]  # these labels have no segments
        rows = zip(boxes, joints, area, strict=True)
        crowd = torch.zeros(1, dtype=torch.bool)
        return [
            {"image_id": i, "keypoints": j[None], "area": a[None], "boxes": b[None], "iscrowd": crowd}
            for i, (b, j, a) in enumerate(rows)
        ]
