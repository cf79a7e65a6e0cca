"""Whole pictures with all their people, and the mask of what a loss must not count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch.utils.data import Dataset

from posekit.arrays import Bool, Bytes, Float64, Int64
from posekit.data.coco_file import CocoPeople, OnFault
from posekit.data.crops import Key, PictureReader, read_or_skip, split_key
from posekit.data.transforms import (
    augmentation_rng,
    jitter_color,
    mirror,
    move_joints,
    normalize_image,
    require_probabilities,
    warp,
)
from posekit.errors import UserError
from posekit.geometry.affine import apply_affine, crop_affine
from posekit.json_file import is_whole, numbers
from posekit.skeletons import Skeleton

Fit = Literal["pad", "short_side"]
_FAR = 4  # times the longer side: what lies farther out is no outline of the picture's
_GRID = 64  # px: sides of inputs of free size are multiples of it, for networks with that total stride


@dataclass(frozen=True)
class SceneAugmentation:
    """Random views of a whole picture; the recipe of bottom-up methods (DEKR, LOGO-CAP) by default.

    Attributes:
        flip: Probability of a mirror image.
        rotation: Degrees; angles are drawn from U(-rotation, rotation).
        scale: (least, most): the picture's shorter side times a draw of it becomes the side of the view.
        shift: Largest displacement along each axis, px of the network's input. (LOGO-CAP's text has 40; its code draws
            40/200 of the view's side, which is 102.4 at 512 px.)
        color: Strength of brightness and contrast jitter in [0, 1].
    """

    flip: float = 0.5
    rotation: float = 30.0
    scale: tuple[float, float] = (0.75, 1.5)
    shift: float = 40.0
    color: float = 0.0

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            UserError: A value is out of its range.
        """
        require_probabilities(self, "flip", "color")
        if not 0 < self.scale[0] <= self.scale[1] or self.rotation < 0 or self.shift < 0:
            raise UserError("scene_augmentation: scale must be [least, most] > 0; rotation and shift not negative")

    def affine(self, rng: np.random.Generator, size: Sequence[int], output_size: Sequence[int]) -> tuple[Float64, bool]:
        """Draws a view.

        Args:
            rng: The sample's stream.
            size: (W, H) of the picture, px.
            output_size: (W, H) of the network's input, px.

        Returns:
            The 2x3 map from image px to input px, and whether it mirrors the picture.
        """
        zoom = max((o - 1) / max(s - 1, 1) for o, s in zip(output_size, size, strict=True))
        zoom /= rng.uniform(*self.scale)
        rotation = rng.uniform(-self.rotation, self.rotation)
        affine = _centred(size, output_size, zoom, rotation)
        affine[:, 2] += rng.uniform(-self.shift, self.shift, 2)
        flipped = bool(rng.random() < self.flip)
        return (mirror(affine, output_size[0]) if flipped else affine), flipped


def _centred(size: Sequence[int], output_size: Sequence[int], zoom: float, rotation: float = 0.0) -> Float64:
    center = [(size[0] - 1) / 2, (size[1] - 1) / 2]
    return crop_affine(center, [(o - 1) / zoom for o in output_size], output_size, rotation)


def scene_affine(size: Sequence[int], image_size: Sequence[int], fit: Fit = "pad") -> tuple[Float64, tuple[int, int]]:
    """Returns the map of a whole picture to the network's input, and the input's size. The aspect ratio is kept.

    Args:
        size: (W, H) of the picture, px.
        image_size: (W, H) of the input, px.
        fit: ``"pad"`` fits the picture into ``image_size``, in its middle. ``"short_side"`` gives inputs of different
            sizes: the shorter side becomes ``min(image_size)``, both sides are rounded up to multiples of 64.
    """
    if fit == "pad":
        output = (image_size[0], image_size[1])
    else:
        target, short = _round_up(min(image_size)), min(size)
        output = (_round_up(size[0] * target / short), _round_up(size[1] * target / short))
    zoom = min((o - 1) / max(s - 1, 1) for o, s in zip(output, size, strict=True))
    return _centred(size, output, zoom), output


def _round_up(length: float) -> int:
    return math.ceil(length / _GRID - 1e-9) * _GRID


def ignore_mask(people: CocoPeople, rows: Sequence[int], size: Sequence[int]) -> Bytes:
    """Draws the mask of a picture in its own pixels: (H, W) uint8, 255 where a loss counts.

    Args:
        people: The annotations.
        rows: Rows of the people to leave out (crowds, people without keypoints). Without a segmentation that can be
            read, the person's box is left out.
        size: (W, H) of the picture, px.
    """
    width, height = size
    mask = np.full((height, width), 255, dtype=np.uint8)
    for row in rows:
        region = _region(people.segmentations.get(row), width, height)
        if region is not None:
            mask[region] = 0
            continue
        x, y, w, h = people.boxes[row]
        mask[max(math.floor(y), 0) : max(math.ceil(y + h), 0), max(math.floor(x), 0) : max(math.ceil(x + w), 0)] = 0
    return mask


def _region(segmentation: Any, width: int, height: int) -> Bool | None:
    """Decodes polygons or run lengths to (H, W) bool; None if they cannot be read or are of another size."""
    try:
        if isinstance(segmentation, list):
            return _filled([polygon for polygon in segmentation if len(polygon) >= 6], width, height)
        if isinstance(segmentation, dict) and list(segmentation["size"]) == [height, width]:
            return _unrolled(segmentation["counts"], width, height)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        pass
    return None


def _filled(polygons: list[Any], width: int, height: int) -> Bool | None:
    """Fills polygons. Lines that lead far out would take their length in memory, and numbers that are none more."""
    most = _FAR * max(width, height)
    for polygon in polygons:
        if numbers(polygon, len(polygon)) is None or max(map(abs, polygon)) > most:
            return None
    if not polygons:
        return None
    code = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return np.asarray(coco_mask.decode(code), dtype=bool)


def _unrolled(counts: Any, width: int, height: int) -> Bool | None:
    """Unrolls run lengths, which pycocotools would do without a look at their sum."""
    runs = counts if isinstance(counts, list) else _run_lengths(counts)
    if not all(is_whole(run) and run >= 0 for run in runs) or sum(runs) != height * width:
        return None
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def _run_lengths(text: str | bytes) -> list[int]:
    """Reads COCO's compressed run lengths: groups of 5 bits, from the third on relative to the last but one.

    Raises:
        ValueError: There is a character of another code, or an endless number.
        IndexError: The text ends within a number.
    """
    codes = [code - 48 for code in (text.encode("ascii") if isinstance(text, str) else bytes(text))]
    if any(not 0 <= code < 64 for code in codes):
        raise ValueError("not of COCO's code")
    runs: list[int] = []
    place = 0
    while place < len(codes):
        value = shift = 0
        more = True
        while more:
            code = codes[place]
            value |= (code & 31) << shift
            more = bool(code & 32)
            place, shift = place + 1, shift + 5
            if shift > 60:
                raise ValueError("a number beyond 60 bits")
        value -= (code & 16) << (shift - 4)
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


class SceneDataset(Dataset[dict[str, Any]]):
    """Samples of a ``SceneBatch``, by ``(epoch, index)`` keys. Lists hold the people with a labelled joint in view.

    Args:
        people: The annotations.
        image_rows: (M,) the pictures to use, rows of ``people.image_ids``.
        read: Gives pictures by such a row.
        skeleton: The joint set.
        image_size: (W, H) of the input, px.
        fit: See :func:`scene_affine`; without augmentation only.
        augmentation: Random views, or None.
        seed: Of the random views.
        on_broken_image: ``"error"`` raises when a picture turns out to be broken; ``"skip"`` warns and gives a sample
            that no loss counts: black, no people, mask all False.
    """

    def __init__(
        self,
        people: CocoPeople,
        image_rows: Int64,
        read: PictureReader,
        skeleton: Skeleton,
        image_size: tuple[int, int],
        fit: Fit = "pad",
        augmentation: SceneAugmentation | None = None,
        seed: int = 0,
        on_broken_image: OnFault = "error",
    ) -> None:
        self.people = people
        self.image_rows = image_rows
        self.read = read
        self.skeleton = skeleton
        self.image_size = image_size
        self.fit = fit
        self.augmentation = augmentation
        self.seed = seed
        self.on_broken_image = on_broken_image
        self._order = np.argsort(people.image_rows, kind="stable")
        self._starts = np.searchsorted(people.image_rows[self._order], np.arange(len(people.image_ids) + 1))

    def __len__(self) -> int:
        return len(self.image_rows)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """Returns a picture with its people.

        Raises:
            IndexError: The index is out of range.
            UserError: The picture is broken.
        """
        epoch, index = split_key(key)
        if not 0 <= index < len(self):
            raise IndexError(index)
        row = int(self.image_rows[index])
        image = read_or_skip(self.read, row, self.on_broken_image)
        return self._blank(row) if image is None else self._sample(epoch, index, row, image)

    def _sample(self, epoch: int, index: int, row: int, image: Bytes) -> dict[str, Any]:
        size = (image.shape[1], image.shape[0])
        flipped, pixels = False, image
        if self.augmentation is None:
            affine, output = scene_affine(size, self.image_size, self.fit)
        else:
            rng, output = augmentation_rng(self.seed, epoch, index), self.image_size
            affine, flipped = self.augmentation.affine(rng, size, output)
            pixels = jitter_color(rng, image, self.augmentation.color)
        rows = self._order[self._starts[row] : self._starts[row + 1]]
        labelled = self.people.labelled[rows]
        mask = warp(ignore_mask(self.people, rows[~labelled].tolist(), size), affine, output)
        return {
            "image": normalize_image(warp(pixels, affine, output)),
            **self._persons(rows[labelled], affine, output, flipped),
            "mask": torch.from_numpy(mask > 127),
            "affine": torch.from_numpy(affine.astype(np.float32)),
            **self._ids(row),
        }

    def _persons(self, rows: Int64, affine: Float64, size: Sequence[int], flipped: bool) -> dict[str, torch.Tensor]:
        joints, boxes = self.people.keypoints[rows], self.people.boxes[rows]
        flip_index = self.skeleton.flip_index if flipped else None
        points, visible = move_joints(joints[..., :2], joints[..., 2].astype(np.int64), affine, size, flip_index)
        seen = (visible > 0).any(-1)
        area = self.people.area[rows] * abs(np.linalg.det(affine[:, :2]))
        return {
            "keypoints": torch.from_numpy(points[seen].astype(np.float32)),
            "visible": torch.from_numpy(visible[seen]),
            "boxes": torch.from_numpy(_move_boxes(boxes[seen], affine).astype(np.float32)),
            "area": torch.from_numpy(area[seen].astype(np.float32)),
        }

    def _blank(self, row: int) -> dict[str, Any]:
        width, height = self.image_size
        return {
            "image": torch.zeros(3, height, width),
            **self._persons(np.zeros(0, dtype=np.int64), np.eye(2, 3), self.image_size, False),
            "mask": torch.zeros(height, width, dtype=torch.bool),
            "affine": torch.eye(2, 3),
            **self._ids(row),
        }

    def _ids(self, row: int) -> dict[str, torch.Tensor]:
        image_id = torch.tensor(int(self.people.image_ids[row]))
        return {"image_id": image_id, "sample_id": image_id.clone()}


def _move_boxes(boxes: Float64, affine: Float64) -> Float64:
    """Returns the upright boxes (N, 4) xywh around the moved corners of boxes (N, 4) xywh."""
    x, y, w, h = boxes.T
    corners = np.stack([np.stack([x + a * w, y + b * h], -1) for a in (0, 1) for b in (0, 1)], axis=1)
    moved = np.asarray(apply_affine(corners, affine))
    low, high = moved.min(1), moved.max(1)
    return np.concatenate([low, high - low], axis=1)
