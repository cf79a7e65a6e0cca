"""PennAction: videos of sports with 2D joints."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from posekit.arrays import Float64
from posekit.data.body3d.frames import open_frames
from posekit.data.body3d.module import BodyDataModule, Part, Recording
from posekit.data.body3d.person import Person
from posekit.data.body3d.vibe_boxes import BOX_RULES, BoxRule
from posekit.data.joint_maps import JointSource
from posekit.errors import UserError, one_of
from posekit.mat5 import read_mat5

_WHAT = "label file"

# In the data set's documented order. Its head is the upper end, as MAED takes it.
JOINTS = JointSource(
    "PennAction's joints",
    (
        "head_top", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
)  # fmt: skip


class PennAction(BodyDataModule):
    """Penn Action (Zhang et al., ICCV 2013) as clips of people with 13 joints in 2D.

    ``root`` holds ``labels/0001.mat`` and ``frames/0001/000001.jpg``. Training videos are those that the label file's
    ``train`` calls so; validation and test take the others. Pixels count from 0: 1 is taken off the file's. Boxes are
    the file's where it has one for every frame, else the visible joints' extent. The rate is not known.

    Args:
        root: Folder of the data.
        boxes: ``"own"``: the file's; ``"vibe"``: the visible joints' extent, as in VIBE's and MAED's label files.
        options: Of :class:`~posekit.data.body3d.module.BodyDataModule`, by name.
    """

    HOME: ClassVar[str] = "http://dreamdragon.github.io/PennAction (for research)"

    def __init__(self, root: str = "data/penn_action", boxes: BoxRule = "own", **options: Any) -> None:
        super().__init__(root, **options)
        one_of("boxes of PennAction", boxes, BOX_RULES)
        self.boxes: BoxRule = boxes
        self._training: dict[Path, bool] = {}

    def recordings(self, split: Part) -> list[Recording]:
        """Lists all videos; those of other splits turn out to hold nobody.

        Raises:
            UserError: There are no label files.
        """
        folder = self.root / "labels"
        if not folder.is_dir():
            raise self.missing("folder", folder)
        files = sorted(folder.glob("*.mat"))
        if not files:
            raise UserError(f"PennAction: {folder} holds no *.mat; get it from {self.HOME}")
        wanted = [path for path in files if self._is_training(path) in (None, split == "train")]
        return [Recording(path.stem, partial(self._read, path)) for path in wanted]

    def _is_training(self, path: Path) -> bool | None:
        """Tells whether a video is for training; None where the file is faulty, which shows when it is read."""
        if path not in self._training:
            try:
                self._training[path] = float(np.asarray(read_mat5(path, ["train"], _WHAT)["train"]).reshape(-1)[0]) > 0
            except (UserError, ValueError, TypeError, IndexError):
                return None
        return self._training[path]

    def _read(self, path: Path) -> list[Person]:
        content = read_mat5(path, ["x", "y", "visibility", "train"], _WHAT)
        x, y, seen = (_rows(path, content, name) for name in ("x", "y", "visibility"))
        if not x.shape == y.shape == seen.shape:
            raise UserError(f"{_WHAT} {path}: x, y and visibility have shapes {x.shape}, {y.shape} and {seen.shape}")
        count = len(x)
        rows = np.arange(count)
        folder = self.root / "frames" / path.stem
        read = open_frames(f"video {path.stem}", rows, [(folder, ["%06d.jpg"])], offset=1, verify=self.verify_images)
        return [
            Person(
                name=path.stem,
                video=path.stem,
                read=read,
                image_rows=rows,
                frames=rows,
                joints=np.stack([x - 1, y - 1, 2.0 * (seen > 0)], -1),
                source=JOINTS,
                boxes=None if self.boxes == "vibe" else _boxes(content.get("bbox"), count),
            )
        ]


def _rows(path: Path, content: dict[str, Any], name: str) -> Float64:
    array = np.asarray(content[name])
    if array.dtype.kind not in "fiub" or array.ndim != 2 or array.shape[1] != 13:
        raise UserError(f"{_WHAT} {path}: {name} has shape {array.shape}, expected (T, 13)")
    return np.asarray(array, dtype=np.float64)


def _boxes(corners: Any, count: int) -> Float64 | None:
    """Returns xywh boxes (T, 4) of corners x1, y1, x2, y2 that count from 1, if there are that many good ones."""
    array = np.asarray(corners) if corners is not None else np.zeros(0)
    if array.dtype.kind not in "fiu" or array.shape != (count, 4):
        return None
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        return None
    boxes = np.concatenate([array[:, :2] - 1, array[:, 2:] - array[:, :2]], -1)
    return boxes if (boxes[:, 2:] > 0).all() else None
