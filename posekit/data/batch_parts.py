"""Batches of any kind as the parts that they are made of: how many samples, the first few of them, more of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from posekit.data.batch import CROP_FIELDS

Part = Mapping[str, Any]


def batch_parts(batch: Any) -> Iterator[Part]:
    """Yields what lies in a batch: itself, or the mappings of a ``HybridBatch`` and of the streams of a method."""
    if not isinstance(batch, Mapping):
        return
    inner = [value for value in batch.values() if isinstance(value, Mapping)]
    if not inner:
        yield batch
    for part in inner:
        yield from batch_parts(part)


def part_size(part: Part) -> int:
    """Returns the number of samples of a part: clips count as one each."""
    return max((len(value) for value in part.values() if _has_rows(value)), default=0)


def count_samples(batch: Any) -> int:
    """Returns the number of samples of a batch, that of all its parts together; 1 where nothing can be counted."""
    return sum(part_size(part) for part in batch_parts(batch)) or 1


def resized(batch: Any, size: int) -> Any:
    """Returns a batch whose first part has ``size`` samples, the others keeping their proportion, at least one.

    Samples are repeated where there are too few.

    Args:
        batch: With at least one sample in each part.
        size: At least 1.
    """
    parts = [part for part in batch_parts(batch) if part_size(part)]
    if not parts:
        return batch
    share = size / part_size(parts[0])

    def walk(part: Any) -> Any:
        if any(isinstance(value, Mapping) for value in part.values()):
            return {name: walk(value) if isinstance(value, Mapping) else value for name, value in part.items()}
        count = part_size(part)
        rows = [row % count for row in range(max(1, round(count * share)))] if count else []
        return {name: _take(value, rows) for name, value in part.items()}

    return walk(batch)


def one_frame_clips(crops: Part, frame: Tensor | None = None) -> dict[str, Any]:
    """Returns crops as clips of one frame, which is their key frame and no padding.

    Args:
        crops: A ``CropBatch``, or one sample of it.
        frame: (B,) number of each frame; 0 when None.
    """
    axis = crops["image"].ndim - 3
    first = torch.zeros(crops["image"].shape[:axis], dtype=torch.int64, device=crops["image"].device)
    number = first if frame is None else frame
    fields = {name: value.unsqueeze(axis) if name in CROP_FIELDS else value for name, value in crops.items()}
    valid = torch.ones_like(first, dtype=torch.bool)
    return {**fields, "frame": number.unsqueeze(axis), "valid": valid.unsqueeze(axis), "key": first}


def _has_rows(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, Tensor) and value.ndim > 0)


def _take(value: Any, rows: list[int]) -> Any:
    if isinstance(value, list):
        return [value[row] for row in rows]
    if isinstance(value, Tensor) and value.ndim > 0:
        return value[torch.tensor(rows, device=value.device)]
    return value


def picture_batch(batch: Any) -> dict[str, Any] | None:
    """Returns the first part of a batch that has pictures, with every field that prediction reads; None without one.

    Fields that the part lacks say nothing: whole crops as boxes, a score of 1, places as ids.
    """
    for part in batch_parts(batch):
        image = part.get("image")
        if isinstance(image, Tensor) and image.ndim in (4, 5):
            return {**_neutral(image), **part}
    return None


def _neutral(image: Tensor) -> dict[str, Tensor]:
    count, (height, width) = len(image), image.shape[-2:]
    lead, device = image.shape[:-3], image.device
    number = torch.arange(count, device=device)
    fields = {
        "affine": torch.eye(2, 3, device=device).expand(*lead, 2, 3),
        "box": torch.tensor([0.0, 0.0, width, height], device=device).expand(*lead, 4),
        "box_score": torch.ones(count, device=device),
        "image_id": number if len(lead) == 1 else number[:, None].expand(lead),
        "sample_id": number,
    }
    if len(lead) == 2:
        fields["frame"] = torch.arange(lead[1], device=device).expand(lead)
        fields["valid"] = torch.ones(lead, dtype=torch.bool, device=device)
        fields["key"] = torch.full((count,), lead[1] // 2, device=device)
    return fields
