"""Pixels and augmentation: ImageNet normalisation, and person crops as ONE affine for pixels and joints."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_SCALE = np.array([1 / (255 * s) for s in IMAGENET_STD], dtype=np.float32)
_SHIFT = np.array([-m / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)], dtype=np.float32)


def normalize_image(image: NDArray[np.uint8]) -> Tensor:
    """Turns RGB bytes (H, W, 3) into a normalised float32 image (3, H, W), ImageNet's mean 0 and deviation 1."""
    normalised = image.astype(np.float32) * _SCALE + _SHIFT
    return torch.from_numpy(np.ascontiguousarray(normalised.transpose(2, 0, 1)))


def denormalize_image(image: Tensor) -> NDArray[np.uint8]:
    """Turns a normalised image (3, H, W) back into RGB bytes (H, W, 3), clipped to 0..255."""
    pixels = image.detach().float().cpu().numpy().transpose(1, 2, 0)
    values = (pixels - _SHIFT) / _SCALE
    return np.ascontiguousarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
