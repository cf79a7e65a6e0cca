"""The view ``scenes``: several people on one ground, who occlude each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from posekit.arrays import Bool, Bytes, Float32, Float64, Int64
from posekit.data.synthetic.augment import Similarity, transform_labels
from posekit.data.synthetic.compositing import Stock, blend, object_layer, take_background, warp_layer
from posekit.data.synthetic.crops import mask_box
from posekit.data.synthetic.film import photograph
from posekit.data.synthetic.options import Difficulty
from posekit.data.synthetic.person import Layer
from posekit.data.synthetic.streams import chance

# Less of a person than this is not labelled, and left out of the loss.
_LEAST_SHARE, _LEAST_PIXELS = 0.15, 40
_STATURE = 1.7  # metres


@dataclass(frozen=True)
class Scene:
    """A finished scene of N labelled people.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        keypoints: (N, K, 2) px.
        visible: (N, K) 0 outside, 1 hidden, 2 seen.
        boxes: (N, 4) xywh around the seen pixels.
        area: (N,) seen pixels.
        mask: (H, W) False on people too hidden to be labelled.
    """

    image: Bytes
    keypoints: Float32
    visible: Int64
    boxes: Float32
    area: Float32
    mask: Bool


def compose_scene(
    rng: np.random.Generator,
    layer: Callable[[int], Layer],
    count: int,
    stock: Stock,
    options: Difficulty,
    size: tuple[int, int],
    flip_index: tuple[int, ...],
    people: tuple[int, int],
) -> Scene:
    """Makes one scene.

    Args:
        rng: The composite's stream.
        layer: Gives a whole person by its number.
        count: How many there are.
        stock: Backgrounds and objects.
        options: The difficulty.
        size: (W, H), px.
        flip_index: The joint set's left-right permutation.
        people: Least and greatest number of people.
    """
    canvas = take_background(rng, stock, size)
    gain = float(np.clip((canvas.mean() / 115) ** rng.uniform(0.0, 0.5), 0.6, 1.35))
    number = int(rng.integers(people[0], people[1] + 1))
    layers = [layer(int(rng.integers(count))) for _ in range(number)]
    placements = _placements(rng, layers, size)
    # owner[y, x] is the nearest person at a pixel, or -1; painting from far to near keeps it right.
    owner = np.full((size[1], size[0]), -1, dtype=np.int64)
    totals = np.zeros(number)
    for row, (item, similarity) in enumerate(zip(layers, placements, strict=True)):
        rgba = warp_layer(item.rgba, item.origin, similarity.matrix, size)
        blend(canvas, rgba, gain)
        covered = rgba[..., 3] > 127
        owner[covered] = row
        totals[row] = max(int(covered.sum()), 1)
    for _ in range(min(int(rng.poisson(0.5 * options.occluders)), 3)):
        center = rng.random(2) * size
        rgba = object_layer(rng, stock, size, center.astype(np.float32), size[1] * rng.uniform(0.08, 0.3))
        blend(canvas, rgba, gain)
        owner[rgba[..., 3] > 127] = number
    return _label(photograph(rng, canvas, options), owner, totals, layers, placements, flip_index)


def _placements(rng: np.random.Generator, layers: list[Layer], size: tuple[int, int]) -> list[Similarity]:
    """Puts people on a common ground plane, the farthest first."""
    width, height = size
    most = 0.95 if len(layers) < 3 else 0.8
    statures = np.sort(np.exp(rng.uniform(np.log(0.32), np.log(most), len(layers)))) * height  # px of a standing person
    horizon, eye_level = height * rng.uniform(0.1, 0.4), rng.uniform(0.65, 1.05)
    result = []
    for item, stature in zip(layers, statures, strict=True):
        record = item.labels
        own = _STATURE * float(record["focal"]) / float(record["pelvis"][2])
        scale = float(stature) / own
        left, bottom = item.origin[0], item.origin[1] + item.rgba.shape[0] - 1
        middle = left + (item.rgba.shape[1] - 1) / 2
        # Heads stay in the picture; the feet of near people may leave it.
        foot = (
            np.clip(horizon + eye_level * stature, stature, max(height * 1.05, stature)) + rng.normal(0, 0.01) * height
        )
        flip = chance(rng, 0.5)
        frame_width = int(2 * middle + 1)  # mirrors the layer about its own middle
        place = np.array([rng.uniform(0.08, 0.92) * width, foot]) - scale * np.array([middle, bottom])
        result.append(Similarity(flip, 0.0, scale, place.astype(np.float32), frame_width))
    return result


def _label(
    image: Bytes,
    owner: Int64,
    totals: Float64,
    layers: list[Layer],
    placements: list[Similarity],
    flip_index: tuple[int, ...],
) -> Scene:
    height, width = owner.shape
    joints = len(flip_index)
    keypoints, visible, boxes, areas = [], [], [], []
    mask = np.ones(owner.shape, dtype=bool)
    for row, (item, similarity) in enumerate(zip(layers, placements, strict=True)):
        seen = owner == row
        area = int(seen.sum())
        if area < max(_LEAST_PIXELS, _LEAST_SHARE * totals[row]):
            mask &= ~seen
            continue
        labels = transform_labels(item.labels, similarity, flip_index)
        cell = np.rint(np.clip(labels.keypoints, -1, max(width, height))).astype(np.int64)
        inside = (cell >= 0).all(1) & (cell[:, 0] < width) & (cell[:, 1] < height)
        at = owner[np.where(inside, cell[:, 1], 0), np.where(inside, cell[:, 0], 0)]
        # People are painted from far to near: whoever has a higher row stands in front.
        state = np.where(at > row, 1, labels.self_visible.astype(np.int64))
        keypoints.append(labels.keypoints)
        visible.append(np.where(inside, state, 0))
        boxes.append(mask_box(seen))
        areas.append(area)
    return Scene(
        image,
        np.array(keypoints, dtype=np.float32).reshape(-1, joints, 2),
        np.array(visible, dtype=np.int64).reshape(-1, joints),
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array(areas, dtype=np.float32),
        mask,
    )
