"""Whole pictures as a method itself makes its inputs of them, to predict on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from posekit.arrays import Bytes, Float64, Int64
from posekit.data.coco_file import OnFault
from posekit.data.crops import Key, PictureReader, read_or_skip, split_key

PictureInput = Callable[[Bytes], tuple[Tensor, Float64]]
"""Makes of a picture (H, W, 3) uint8 RGB a normalised input (3, H', W'), and the map (2, 3) from picture to input."""


class PictureDataset(Dataset[Any]):
    """Inputs of whole pictures with ``image``, ``affine``, ``image_id`` and ``sample_id``, by ``(epoch, index)`` keys.

    Args:
        read: Gives pictures by a row.
        rows: (N,) the pictures to use.
        image_ids: (I,) by row.
        make_input: The method's ``picture_input()``. It travels to the loader's processes.
        on_broken_image: ``"error"`` raises when a picture turns out to be broken; ``"skip"`` warns and gives None.
    """

    def __init__(
        self,
        read: PictureReader,
        rows: Int64,
        image_ids: Int64,
        make_input: PictureInput,
        on_broken_image: OnFault = "error",
    ) -> None:
        self.read = read
        self.rows = rows
        self.image_ids = image_ids
        self.make_input = make_input
        self.on_broken_image = on_broken_image

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> dict[str, Tensor] | None:
        """Returns a picture's input.

        Raises:
            IndexError: The index is out of range.
            UserError: The picture is broken.
        """
        _, index = split_key(key)
        if not 0 <= index < len(self):
            raise IndexError(index)
        row = int(self.rows[index])
        picture = read_or_skip(self.read, row, self.on_broken_image)
        if picture is None:
            return None
        image, affine = self.make_input(picture)
        image_id = torch.tensor(int(self.image_ids[row]))
        return {
            "image": image,
            "affine": torch.from_numpy(np.asarray(affine, dtype=np.float32)),
            "image_id": image_id,
            "sample_id": image_id.clone(),
        }


def collate_pictures(samples: Sequence[dict[str, Tensor] | None]) -> dict[str, Any]:
    """Makes a batch of inputs of any sizes: ``image`` is a list of (3, H, W), the rest is stacked; None is left out."""
    found = [sample for sample in samples if sample is not None]
    return {
        "image": [sample["image"] for sample in found],
        "affine": torch.stack([sample["affine"] for sample in found]) if found else torch.zeros(0, 2, 3),
        **{name: torch.tensor([int(s[name]) for s in found], dtype=torch.int64) for name in ("image_id", "sample_id")},
    }
