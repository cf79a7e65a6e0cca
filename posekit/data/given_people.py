"""The batch of ``predict`` of a method: people of a picture, on the method's device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from posekit.arrays import Bytes
from posekit.data.given_boxes import given_boxes
from posekit.data.images import require_picture
from posekit.data.transforms import crop_person


def given_people(image: Bytes, boxes: ArrayLike | None, size: tuple[int, int], box_scale: float) -> dict[str, Tensor]:
    """Cuts people out of a picture.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (N, 4) xywh in px, or one (4,); None takes the whole picture as one box, not enlarged.
        size: (W, H) of the crops, px.
        box_scale: How much boxes are enlarged before cropping.

    Returns:
        What a ``CropBatch`` says of N people without labels; ``image_id`` is 0, ``sample_id`` the box's number.

    Raises:
        UserError: The picture is of another type or shape (a file's name), or a box is no four numbers or has no area.
    """
    require_picture(image)
    if boxes is None:
        boxes, box_scale = [[0, 0, image.shape[1], image.shape[0]]], 1.0
    rows = given_boxes(boxes)
    crops = [crop_person(image, box, size, box_scale) for box in rows]
    width, height = size
    affines = np.array([c.affine for c in crops]).reshape(-1, 2, 3)
    return {
        "image": torch.stack([c.image for c in crops]) if crops else torch.zeros(0, 3, height, width),
        "affine": torch.tensor(affines, dtype=torch.float32),
        "box": torch.tensor(rows, dtype=torch.float32),
        "box_score": torch.ones(len(rows)),
        "image_id": torch.zeros(len(rows), dtype=torch.int64),
        "sample_id": torch.arange(len(rows)),
    }


def moved(batch: dict[str, Any], module: Any) -> dict[str, Any]:
    """Returns a batch on a method's device, its pictures of the weights' type: a fit in ``64-true`` leaves double.

    Args:
        batch: Tensors, and what stays as it is.
        module: The method.
    """
    found = {name: value.to(module.device) if isinstance(value, Tensor) else value for name, value in batch.items()}
    return {**found, "image": found["image"].to(module.dtype)}
