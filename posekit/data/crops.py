"""Person crops of real pictures: a table of people, a reader of pictures, and the data set over both."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from posekit.arrays import Bytes, Float64, Int64
from posekit.data.coco_file import OnFault
from posekit.data.images import check_image_files, read_image, size_fault
from posekit.data.recent import Recent
from posekit.data.transforms import (
    PersonAugmentation,
    augmentation_rng,
    move_joints,
    normalize_image,
    person_affine,
    warp,
)
from posekit.errors import UserError
from posekit.skeletons import Skeleton

log = logging.getLogger(__name__)

Key = int | tuple[int, int]

_RECENT = Recent()


class PictureReader(Protocol):
    """Gives the picture of a row: RGB bytes (H, W, 3)."""

    def __call__(self, row: int) -> Bytes:
        """Reads it.

        Raises:
            UserError: It is absent or broken.
        """
        ...


class FileReader:
    """Reads pictures from files; the last one is kept, for neighbours are often people of one picture.

    Of many readers those lately used keep one.

    Args:
        files: One per row.
        sizes: (I, 2) W, H in px that the annotations were made for; 0 where unknown.
        apply_exif: See :func:`~posekit.data.images.read_image`.
    """

    def __init__(
        self, files: Sequence[Path], sizes: NDArray[np.integer] | None = None, apply_exif: bool = False
    ) -> None:
        self.files = list(files)
        self.sizes = sizes
        self.apply_exif = apply_exif
        self._last: tuple[int, Bytes] | None = None
        self._seen: dict[int, tuple[int, int]] = {}

    def __call__(self, row: int) -> Bytes:
        """Reads a row's picture.

        Raises:
            UserError: It is absent, broken, or of another size than the annotations say.
        """
        if self._last is None or self._last[0] != row:
            self._last = (row, self._load(row))
            _RECENT.use(self)
        return self._last[1]

    def close(self) -> None:
        """Forgets the last picture."""
        self._last = None

    def size(self, row: int) -> tuple[int, int]:
        """Returns W, H in px of a row's picture, which is decoded if it has not been.

        Raises:
            UserError: As for reading it.
        """
        if row not in self._seen:
            height, width = self(row).shape[:2]
            self._seen[row] = (width, height)
        return self._seen[row]

    def suspect(self, rows: Sequence[int]) -> dict[Path, str]:
        """Returns why some pictures cannot be used, by path, as far as heads and tails of their files tell."""
        sizes = None if self.sizes is None else self.sizes[np.asarray(rows, dtype=np.int64)].tolist()
        return check_image_files((self.files[row] for row in rows), sizes, self.apply_exif)

    def broken(self, rows: Sequence[int]) -> dict[int, str]:
        """Decodes pictures and returns the reasons, by row, why some cannot be used."""
        with ThreadPoolExecutor() as pool:
            reasons = pool.map(self._reason, rows)
            return {row: reason for row, reason in zip(rows, reasons, strict=True) if reason}

    def _reason(self, row: int) -> str | None:
        try:
            height, width = self._load(row).shape[:2]
            self._seen[row] = (width, height)
        except UserError as error:
            return str(error).removeprefix(f"image {self.files[row]}: ")
        return None

    def _load(self, row: int) -> Bytes:
        image = read_image(self.files[row], self.apply_exif)
        self._check_size(row, image)
        return image

    def _check_size(self, row: int, image: Bytes) -> None:
        wanted = (0, 0) if self.sizes is None else self.sizes[row].tolist()
        reason = size_fault(self.files[row], image.shape[1::-1], wanted, self.apply_exif)
        if reason is not None:
            raise UserError(f"image {self.files[row]}: {reason}")


@dataclass(frozen=True)
class CropTable:
    """The people to crop, one per row.

    Attributes:
        image_ids: (I,) ids of the pictures.
        image_rows: (N,) row of each person's picture.
        boxes: (N, 4) xywh px of the picture; NaN stands for the whole picture, which is not enlarged.
        scores: (N,) of the boxes.
        sample_ids: (N,) unique.
        joints: (N, K, 3) x, y in px and visibility; all 0 without labels.
    """

    image_ids: Int64
    image_rows: Int64
    boxes: Float64
    scores: Float64
    sample_ids: Int64
    joints: Float64

    def __len__(self) -> int:
        return len(self.sample_ids)

    def take(self, rows: NDArray[Any]) -> CropTable:
        """Returns some of the people: (M,) row numbers or (N,) bool."""
        names = ("image_rows", "boxes", "scores", "sample_ids", "joints")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


def split_key(key: Key) -> tuple[int, int]:
    """Returns epoch and index of a data set's key; a bare index means epoch 0."""
    epoch, index = key if isinstance(key, tuple) else (0, key)
    return int(epoch), int(index)


def read_or_skip(read: PictureReader, row: int, on_broken_image: OnFault) -> Bytes | None:
    """Reads a row's picture; None, and a warning that names it, for a broken one that is to be skipped.

    Raises:
        UserError: The picture is broken and not to be skipped.
    """
    try:
        return read(row)
    except UserError as error:
        if on_broken_image == "error":
            raise
        log.warning("skipped: %s", error)
        return None


class CropDataset(Dataset[dict[str, Any]]):
    """Samples of a ``CropBatch``, by ``(epoch, index)`` keys.

    Args:
        table: The people.
        read: Gives their pictures.
        skeleton: The joint set.
        image_size: (W, H) of the crops, px.
        box_scale: Enlargement of the boxes.
        augmentation: Random views, or None.
        seed: Of the random views.
        on_broken_image: ``"error"`` raises when a picture turns out to be broken; ``"skip"`` warns and gives a sample
            that neither a loss nor a metric counts: black, nothing visible, ``box_score`` 0.
    """

    def __init__(
        self,
        table: CropTable,
        read: PictureReader,
        skeleton: Skeleton,
        image_size: tuple[int, int],
        box_scale: float = 1.25,
        augmentation: PersonAugmentation | None = None,
        seed: int = 0,
        on_broken_image: OnFault = "error",
    ) -> None:
        self.table = table
        self.read = read
        self.skeleton = skeleton
        self.image_size = image_size
        self.box_scale = box_scale
        self.augmentation = augmentation
        self.seed = seed
        self.on_broken_image = on_broken_image

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """Returns a person's crop.

        Raises:
            IndexError: The index is out of range.
            UserError: The picture is broken.
        """
        epoch, index = split_key(key)
        if not 0 <= index < len(self):
            raise IndexError(index)
        image = read_or_skip(self.read, int(self.table.image_rows[index]), self.on_broken_image)
        return self._blank(index) if image is None else self._sample(epoch, index, image)

    def _sample(self, epoch: int, index: int, image: Bytes) -> dict[str, Any]:
        box, box_scale = self.table.boxes[index], self.box_scale
        if np.isnan(box[0]):
            box, box_scale = np.array([0, 0, image.shape[1], image.shape[0]], dtype=np.float64), 1.0
        joints, flipped = self.table.joints[index], False
        if self.augmentation is None:
            affine = person_affine(box, self.image_size, box_scale)
            crop = warp(image, affine, self.image_size)
        else:
            rng = augmentation_rng(self.seed, epoch, index)
            affine, flipped = self.augmentation.affine(rng, box, joints, self.skeleton, self.image_size, box_scale)
            crop = self.augmentation.jitter(rng, warp(image, affine, self.image_size))
        flip_index = self.skeleton.flip_index if flipped else None
        points, visible = move_joints(joints[:, :2], joints[:, 2].astype(np.int64), affine, self.image_size, flip_index)
        return {
            "image": normalize_image(crop),
            "keypoints": torch.from_numpy(points.astype(np.float32)),
            "visible": torch.from_numpy(visible),
            "affine": torch.from_numpy(affine.astype(np.float32)),
            "box": torch.from_numpy(box.astype(np.float32)),
            "box_score": torch.tensor(self.table.scores[index], dtype=torch.float32),
            **self._ids(index),
        }

    def _blank(self, index: int) -> dict[str, Any]:
        width, height = self.image_size
        joints = len(self.skeleton)
        return {
            "image": torch.zeros(3, height, width),
            "keypoints": torch.zeros(joints, 2),
            "visible": torch.zeros(joints, dtype=torch.int64),
            "affine": torch.eye(2, 3),
            "box": torch.from_numpy(np.nan_to_num(self.table.boxes[index]).astype(np.float32)),
            "box_score": torch.tensor(0.0),
            **self._ids(index),
        }

    def _ids(self, index: int) -> dict[str, torch.Tensor]:
        table = self.table
        image_id = int(table.image_ids[table.image_rows[index]])
        return {"image_id": torch.tensor(image_id), "sample_id": torch.tensor(int(table.sample_ids[index]))}
