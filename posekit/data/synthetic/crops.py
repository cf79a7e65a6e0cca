"""The view ``crops``: one person's layer over a background, with labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from posekit.arrays import Bool, Bytes, Float32, Int64
from posekit.data.synthetic.augment import Labels, Similarity, sample_similarity, transform_labels
from posekit.data.synthetic.compositing import (
    Occlusion,
    Stock,
    blend,
    inside_edges,
    object_layer,
    take_background,
    warp_layer,
    wide_object,
)
from posekit.data.synthetic.film import photograph
from posekit.data.synthetic.options import Difficulty
from posekit.data.synthetic.person import Layer
from posekit.data.synthetic.streams import chance

# Joints deeper than this share of the crop's height behind the table that cuts a person have no label, as in COCO:
# nobody can tell where the legs are.
_GUESSABLE = 0.08
_BORDER_COLOR = 0  # beyond the picture's border, as cv2.warpAffine fills top-down crops of real photos


@dataclass(frozen=True)
class Crop:
    """A finished crop.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) pixels of the person that are seen.
        visible: (K,) 0 outside, 1 hidden, 2 seen.
        labels: Everything else.
    """

    image: Bytes
    mask: Bool
    visible: Int64
    labels: Labels

    @property
    def area(self) -> float:
        """Seen pixels of the person."""
        return float(self.mask.sum())

    @property
    def box(self) -> Float32:
        """(x, y, w, h) around the seen pixels, whose centres are integers."""
        return mask_box(self.mask)


def mask_box(mask: Bool) -> Float32:
    """Returns the (x, y, w, h) box of a mask's pixels, edges half a pixel outside their centres; zeros if empty."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not len(columns):
        return np.zeros(4, dtype=np.float32)
    x, y = columns[0], rows[0]
    return np.array([x - 0.5, y - 0.5, columns[-1] - x + 1, rows[-1] - y + 1], dtype=np.float32)


def compose_crop(
    rng: np.random.Generator,
    layer: Layer,
    other: Callable[[int], Layer],
    others: int,
    stock: Stock,
    options: Difficulty,
    size: tuple[int, int],
    flip_index: tuple[int, ...],
    augment: bool,
) -> Crop:
    """Makes one crop.

    Args:
        rng: The composite's stream, of (seed, split, epoch, index).
        layer: The person.
        other: Gives any other layer of the split by its number, for people around.
        others: How many there are.
        stock: Backgrounds and objects.
        options: The difficulty.
        size: (W, H), px.
        flip_index: The joint set's left-right permutation.
        augment: Whether to flip, turn, scale and shift (training).
    """
    similarity = sample_similarity(rng, size, options.augmentation, augment)
    matrix = similarity.matrix
    person = warp_layer(layer.rgba, layer.origin, matrix, size)
    canvas = take_background(rng, stock, size)
    gain = float(np.clip((canvas.mean() / 115) ** rng.uniform(0.0, 0.5), 0.6, 1.35))
    before, after = _people_around(rng, other, others, options, size)
    for rgba in before:
        blend(canvas, rgba, gain * rng.uniform(0.7, 1.1))
    blend(canvas, person, gain)

    occlusion = Occlusion(person[..., 3])
    if np.isfinite(layer.labels["cut"]).any():
        # The cut was chosen with the framing; behind it the person goes on, and is hidden whatever remains.
        wide = wide_object(rng, stock, ~inside_edges(layer.labels["cut"], matrix, size), size)
        occlusion.front |= wide[..., 3] > 127
        blend(canvas, wide)
    for rgba in after + _objects(rng, stock, person, options, size):
        if occlusion.admit(rgba[..., 3]):
            blend(canvas, rgba, gain)
    image = photograph(rng, canvas, options)
    within = inside_edges(layer.labels["border"], matrix, size)
    image[~within] = _BORDER_COLOR
    labels = transform_labels(layer.labels, similarity, flip_index)
    guessable = inside_edges(layer.labels["cut"], matrix, size, slack=_GUESSABLE * size[1])
    visible = joint_states(labels, occlusion.front, within & guessable)
    return Crop(image, occlusion.mask & within, visible, labels)


def joint_states(labels: Labels, front: Bool, within: Bool | None = None) -> Int64:
    """Returns (K,) 0 outside the crop or where nobody would label, 1 behind something, 2 seen.

    Args:
        labels: The person's.
        front: (H, W) where something stands in front.
        within: (H, W) where joints are labelled at all; None stands for everywhere.
    """
    height, width = front.shape
    cell = np.rint(np.clip(labels.keypoints, -1, max(width, height))).astype(np.int64)
    inside = (cell >= 0).all(1) & (cell[:, 0] < width) & (cell[:, 1] < height)
    x, y = np.where(inside, cell[:, 0], 0), np.where(inside, cell[:, 1], 0)
    seen = np.where(front[y, x], 1, labels.self_visible.astype(np.int64))
    return np.where(inside if within is None else inside & within[y, x], seen, 0)


def _people_around(
    rng: np.random.Generator, other: Callable[[int], Layer], others: int, options: Difficulty, size: tuple[int, int]
) -> tuple[list[Bytes], list[Bytes]]:
    """Draws other people: smaller ones behind, some beside or in front."""
    behind: list[Bytes] = []
    front: list[Bytes] = []
    width = size[0]
    for _ in range(min(int(rng.poisson(options.people)), 3)):
        layer = other(int(rng.integers(others)))
        near = chance(rng, 0.3)
        scale = float(rng.uniform(0.85, 1.4) if near else rng.uniform(0.35, 1.0))
        side = rng.choice([-1.0, 1.0])
        shift = np.array(
            [side * width * (rng.uniform(0.45, 0.85) if near else rng.uniform(0.1, 0.6)), rng.normal(0, 0.08) * size[1]]
        )
        center = (np.array(size) - 1) / 2
        similarity = Similarity(chance(rng, 0.5), 0.0, scale, (center * (1 - scale) + shift).astype(np.float32), width)
        (front if near else behind).append(warp_layer(layer.rgba, layer.origin, similarity.matrix, size))
    return behind, front


def _objects(
    rng: np.random.Generator, stock: Stock, person: Bytes, options: Difficulty, size: tuple[int, int]
) -> list[Bytes]:
    """Draws objects around random pixels of the person."""
    count = min(int(rng.poisson(options.occluders)), 3)
    if not count:
        return []
    rows, columns = np.nonzero(person[..., 3] > 127)
    layers = []
    for _ in range(count if len(rows) else 0):
        pick = int(rng.integers(len(rows)))
        center = np.array([columns[pick], rows[pick]]) + rng.normal(0, 0.08, 2) * size[0]
        layers.append(object_layer(rng, stock, size, center.astype(np.float32), size[0] * rng.uniform(0.15, 0.6)))
    return layers
