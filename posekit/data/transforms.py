"""Pixels and augmentation: ImageNet normalisation, and person crops as ONE affine for pixels and joints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from posekit.arrays import Bytes, Float64, Int64
from posekit.errors import UserError
from posekit.geometry.affine import apply_affine, crop_affine, fit_aspect
from posekit.skeletons import Skeleton

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_SCALE = np.array([1 / (255 * s) for s in IMAGENET_STD], dtype=np.float32)
_SHIFT = np.array([-m / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)], dtype=np.float32)


def normalize_image(image: Bytes) -> Tensor:
    """Turns RGB bytes (H, W, 3) into a normalised float32 image (3, H, W), ImageNet's mean 0 and deviation 1."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)  # bytes are cheap to reorder, floats not
    planes *= _SCALE[:, None, None]
    planes += _SHIFT[:, None, None]
    return torch.from_numpy(planes)


def denormalize_image(image: Tensor) -> Bytes:
    """Turns a normalised image (3, H, W) back into RGB bytes (H, W, 3), clipped to 0..255."""
    pixels = image.detach().float().cpu().numpy().transpose(1, 2, 0)
    values = (pixels - _SHIFT) / _SCALE
    return np.ascontiguousarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def augmentation_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Returns the random stream of one sample: the same in any worker and any process."""
    return np.random.default_rng((seed, epoch, index))


class PersonCrop(NamedTuple):
    """A crop and the map that led to it."""

    image: Tensor  # (3, H, W) float32, normalised RGB
    affine: Float64  # (2, 3), image px -> crop px


def warp(image: Bytes, affine: Float64, size: Sequence[int]) -> Bytes:
    """Samples an image through an image-to-output affine (2, 3); bilinear, black outside. ``size`` is (W, H) px."""
    return np.asarray(cv2.warpAffine(image, affine, (size[0], size[1]), flags=cv2.INTER_LINEAR), dtype=np.uint8)


def person_affine(box: ArrayLike, output_size: Sequence[int], box_scale: float = 1.25) -> Float64:
    """Returns the 2x3 map of a person's box, grown to the crop's aspect ratio and by ``box_scale``, to the crop.

    Args:
        box: (4,) xywh, image px.
        output_size: (W, H) of the crop, px.
        box_scale: Enlargement of both sides after the aspect ratio is met; 1.25 in HRNet's recipe.
    """
    center, size = _framing(np.asarray(box, dtype=np.float64), output_size, box_scale)
    return crop_affine(center, size, output_size)


def crop_person(image: Bytes, box: ArrayLike, output_size: Sequence[int], box_scale: float = 1.25) -> PersonCrop:
    """Cuts one person out of an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: (4,) xywh, image px.
        output_size: (W, H) of the crop, px.
        box_scale: Enlargement of the box.
    """
    affine = person_affine(box, output_size, box_scale)
    return PersonCrop(normalize_image(warp(image, affine, output_size)), affine)


def mirror(affine: Float64, width: int) -> Float64:
    """Returns the affine (2, 3) followed by the mirror x -> width - 1 - x of its output."""
    mirrored = affine.copy()
    mirrored[0] *= -1
    mirrored[0, 2] += width - 1
    return mirrored


def move_joints(
    keypoints: NDArray[np.floating],
    visible: NDArray[np.integer],
    affine: Float64,
    size: Sequence[int],
    flip_index: Sequence[int] | None = None,
) -> tuple[Float64, Int64]:
    """Moves joints along with their pixels.

    Args:
        keypoints: (…, K, 2) image px.
        visible: (…, K) in {0, 1, 2}.
        affine: (2, 3) image px -> output px.
        size: (W, H) of the output, px.
        flip_index: The skeleton's permutation, if the affine mirrors the picture.

    Returns:
        Joints (…, K, 2) in output px, zeros where there is no label, and visibility (…, K), 0 also where a joint left
        the output.
    """
    moved = np.asarray(apply_affine(keypoints, affine), dtype=np.float64)
    visible = np.asarray(visible, dtype=np.int64)
    if flip_index is not None:
        moved, visible = moved[..., list(flip_index), :], visible[..., list(flip_index)]
    moved = np.where(visible[..., None] > 0, moved, 0.0)
    inside = ((moved >= 0) & (moved <= np.array([size[0] - 1, size[1] - 1]))).all(-1)
    return moved, np.asarray(np.where(inside, visible, 0), dtype=np.int64)


@dataclass(frozen=True)
class PersonAugmentation:
    """Random views of a person crop; HRNet's recipe for COCO by default (``lib/dataset/JointsDataset.py``).

    Attributes:
        flip: Probability of a mirror image.
        rotation: Degrees: the deviation of a normal law clipped at twice that, or half the width of a uniform law.
        rotation_probability: Probability of any rotation.
        scale: The box is enlarged by 1 + N(0, scale), or U(-scale, scale), within 1 - scale … 1 + scale.
        law: ``"normal"`` (HRNet) or ``"uniform"``, for rotation and scale.
        half_body: Probability of a crop around the upper or the lower body only.
        half_body_joints: Half-body crops are for people with more labelled joints than this.
        shift: Largest displacement of the crop along each axis, as a share of the box's side.
        color: Strength of brightness and contrast jitter in [0, 1].
    """

    flip: float = 0.5
    rotation: float = 45.0
    rotation_probability: float = 0.6
    scale: float = 0.35
    law: str = "normal"
    half_body: float = 0.3
    half_body_joints: int = 8
    shift: float = 0.0
    color: float = 0.0

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            UserError: A value is out of its range.
        """
        require_probabilities(self, "flip", "rotation_probability", "half_body", "color")
        if self.law not in ("normal", "uniform"):
            raise UserError(f"augmentation: law is {self.law!r}, but must be 'normal' or 'uniform'")
        if not 0 <= self.scale < 1 or self.rotation < 0 or self.shift < 0:
            raise UserError("augmentation: scale must be in [0, 1), rotation and shift must not be negative")

    def affine(
        self,
        rng: np.random.Generator,
        box: Float64,
        joints: Float64,
        skeleton: Skeleton,
        output_size: Sequence[int],
        box_scale: float,
    ) -> tuple[Float64, bool]:
        """Draws a view.

        Args:
            rng: The sample's stream.
            box: (4,) xywh, image px.
            joints: (K, 3) x, y in image px and visibility.
            skeleton: The joint set.
            output_size: (W, H) of the crop, px.
            box_scale: Enlargement of the box.

        Returns:
            The 2x3 map from image px to crop px, and whether it mirrors the picture.
        """
        center, size = self._half_body(rng, joints, skeleton, output_size) or _framing(box, output_size, box_scale)
        scale = 1 + self._spread(rng, self.scale, self.scale)
        turned = rng.random() < self.rotation_probability
        rotation = self._spread(rng, self.rotation, 2 * self.rotation) if turned else 0.0
        center = center + rng.uniform(-self.shift, self.shift, 2) * size if self.shift else center
        affine = crop_affine(center, size * scale, output_size, rotation)
        flipped = bool(rng.random() < self.flip)
        return (mirror(affine, output_size[0]) if flipped else affine), flipped

    def _spread(self, rng: np.random.Generator, strength: float, limit: float) -> float:
        if self.law == "uniform":
            return float(rng.uniform(-strength, strength))
        return float(np.clip(rng.standard_normal() * strength, -limit, limit))

    def _half_body(
        self, rng: np.random.Generator, joints: Float64, skeleton: Skeleton, output_size: Sequence[int]
    ) -> tuple[Float64, Float64] | None:
        """Returns centre and size of a box around half of the body, or None for the whole."""
        labelled = joints[:, 2] > 0
        if labelled.sum() <= self.half_body_joints or rng.random() >= self.half_body:
            return None
        upper = np.isin(np.arange(len(joints)), skeleton.upper_body)
        halves = [joints[labelled & upper, :2], joints[labelled & ~upper, :2]]
        # HRNet compares a normal number with 0.5, which prefers the upper body in 69 % of the cases.
        first, second = halves if rng.standard_normal() < 0.5 else halves[::-1]
        half = first if len(first) > 2 else second
        size = np.ptp(half, axis=0) if len(half) >= 2 else np.zeros(2)
        if size.max() < 1:  # px: joints on one spot make no box
            return None
        return half.mean(0), fit_aspect(size, output_size[0] / output_size[1]) * 1.5

    def jitter(self, rng: np.random.Generator, image: Bytes) -> Bytes:
        """Changes brightness and contrast of an image (H, W, 3)."""
        return jitter_color(rng, image, self.color)


def jitter_color(rng: np.random.Generator, image: Bytes, strength: float) -> Bytes:
    """Changes brightness and contrast of bytes (H, W, 3) by up to ``strength`` (1 = black, doubled contrast)."""
    if not strength:
        return image
    gain, offset = rng.uniform(1 - strength, 1 + strength), rng.uniform(-strength, strength) * 128
    table = np.clip((np.arange(256) - 128) * gain + 128 + offset, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table), dtype=np.uint8)


def require_probabilities(settings: object, *names: str) -> None:
    """Checks that attributes lie in [0, 1].

    Raises:
        UserError: One does not.
    """
    for name in names:
        value = getattr(settings, name)
        if not 0 <= value <= 1:
            raise UserError(f"augmentation: {name} is {value}, but must be in [0, 1]")


def _framing(box: Float64, output_size: Sequence[int], box_scale: float) -> tuple[Float64, Float64]:
    """Returns centre and size of the enlarged box, of the crop's aspect ratio."""
    return box[:2] + box[2:] / 2, fit_aspect(box[2:], output_size[0] / output_size[1]) * box_scale
