"""The view ``clips``: one person's layers over a moving background, with objects that pass by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Bool, Bytes, Float32, Float64, Int64
from posekit.data.synthetic.augment import Labels, Similarity, sample_similarity, transform_labels
from posekit.data.synthetic.clip_settings import ClipSettings
from posekit.data.synthetic.compositing import (
    Occlusion,
    Stock,
    blend,
    draw_backdrop,
    draw_object,
    place_object,
    smear,
    view_backdrop,
    warp_layer,
)
from posekit.data.synthetic.crops import joint_states
from posekit.data.synthetic.film import photograph_clip
from posekit.data.synthetic.motion import FRAME_RATE
from posekit.data.synthetic.options import Difficulty
from posekit.data.synthetic.person import Layer
from posekit.data.synthetic.streams import chance

_MOST_OBJECTS = 4


@dataclass(frozen=True)
class Clip:
    """A finished clip of T frames.

    Attributes:
        images: T of (H, W, 3) uint8 RGB.
        masks: T of (H, W): the pixels that are most of the exposure the person's, whatever is in front of them.
        visible: (T, K) 0 outside, 1 hidden, 2 seen.
        labels: T of everything else.
        affines: (T, 2, 3) original frame px -> crop px.
        boxes: (T, 4) xywh, original frame px.
        frames: (T,) numbers in the recording.
    """

    images: list[Bytes]
    masks: list[Bool]
    visible: Int64
    labels: list[Labels]
    affines: Float32
    boxes: Float32
    frames: Int64


def compose_clip(
    rng: np.random.Generator,
    layers: list[Layer],
    other: Callable[[int], list[Layer]],
    others: int,
    stock: Stock,
    settings: ClipSettings,
    options: Difficulty,
    flip_index: tuple[int, ...],
    augment: bool,
) -> Clip:
    """Makes one clip.

    Args:
        rng: The composite's stream, of (seed, split, epoch, index).
        layers: The person in T frames.
        other: Gives any other clip's layers of the split by its number, for people around.
        others: How many there are.
        stock: Backgrounds and objects.
        settings: What the layers are.
        options: The difficulty.
        flip_index: The joint set's left-right permutation.
        augment: Whether to flip, turn, scale and shift (training), all frames alike.
    """
    size = settings.size
    similarity = sample_similarity(rng, size, options.augmentation, augment)
    crops = [similarity.matrix @ _square(_affine(layer.labels["affine"])) for layer in layers]
    people = [warp_layer(layer.rgba, layer.origin, similarity.matrix, size) for layer in layers]
    labels = [transform_labels(layer.labels, similarity, flip_index) for layer in layers]
    backdrop = draw_backdrop(rng, stock, size)
    canvases = []
    for layer, crop in zip(layers, crops, strict=True):
        original_to_key = np.linalg.inv(layer.labels["backdrop"])
        canvas = view_backdrop(backdrop, original_to_key @ np.linalg.inv(_square(crop)), size)
        path = layer.labels["smear"] * np.array([-1 if similarity.flip else 1, 1])
        canvases.append(smear(canvas, similarity.scale * similarity.turn @ path))
    gain = float(np.clip((canvases[settings.middle].mean() / 115) ** rng.uniform(0.0, 0.5), 0.6, 1.35))
    behind, front = _people_around(rng, other, others, options, size, crops)
    for person in behind:
        _lay(canvases, person, gain * rng.uniform(0.7, 1.1))
    _lay(canvases, people, gain)
    occlusions = [Occlusion(person[..., 3]) for person in people]
    for passing in front + _passing_objects(rng, stock, people, labels, layers, settings, options):
        if all(o.admits(rgba[..., 3]) for o, rgba in zip(occlusions, passing, strict=True)):
            for occlusion, rgba in zip(occlusions, passing, strict=True):
                occlusion.admit(rgba[..., 3])
            _lay(canvases, passing, gain)
    return Clip(
        photograph_clip(rng, canvases, options),
        [o.person for o in occlusions],
        np.stack([joint_states(part, o.front) for part, o in zip(labels, occlusions, strict=True)]),
        labels,
        np.stack(crops).astype(np.float32),
        np.stack([layer.labels["box"] for layer in layers]),
        np.array([layer.labels["frame"] for layer in layers], dtype=np.int64),
    )


def _affine(row: NDArray[Any]) -> Float64:
    scale, x, y = (float(v) for v in row)
    return np.array([[scale, 0, x], [0, scale, y]])


def _square(affine: Float64) -> Float64:
    return np.concatenate([affine, [[0, 0, 1]]])


def _lay(canvases: list[Float32], layers: list[Bytes], gain: float) -> None:
    for canvas, rgba in zip(canvases, layers, strict=True):
        blend(canvas, rgba, gain)


def _people_around(
    rng: np.random.Generator,
    other: Callable[[int], list[Layer]],
    others: int,
    options: Difficulty,
    size: tuple[int, int],
    crops: list[Float64],
) -> tuple[list[list[Bytes]], list[list[Bytes]]]:
    """Draws other people, who move by their own recordings: smaller ones behind, some beside or in front."""
    behind: list[list[Bytes]] = []
    front: list[list[Bytes]] = []
    width = size[0]
    for _ in range(min(int(rng.poisson(options.people)), 3)):
        layers = other(int(rng.integers(others)))
        near = chance(rng, 0.3)
        scale = float(rng.uniform(0.85, 1.4) if near else rng.uniform(0.35, 1.0))
        side = rng.choice([-1.0, 1.0])
        across = rng.uniform(0.45, 0.85) if near else rng.uniform(0.1, 0.6)
        shift = np.array([side * width * across, rng.normal(0, 0.08) * size[1]])
        center = (np.array(size) - 1) / 2
        place = Similarity(chance(rng, 0.5), 0.0, scale, (center * (1 - scale) + shift).astype(np.float32), width)
        # Their own clip's frame is laid on this one's: they go where this camera's original frames go.
        own = [np.linalg.inv(_square(_affine(layer.labels["affine"]))) for layer in layers]
        drawn = [
            warp_layer(layer.rgba, layer.origin, crop @ _square(place.matrix) @ inverse, size)
            for layer, crop, inverse in zip(layers, crops, own, strict=True)
        ]
        (front if near else behind).append(drawn)
    return behind, front


def _passing_objects(
    rng: np.random.Generator,
    stock: Stock,
    people: list[Bytes],
    labels: list[Labels],
    layers: list[Layer],
    settings: ClipSettings,
    options: Difficulty,
) -> list[list[Bytes]]:
    """Draws objects that cross the person, each in front of a random part of it at one moment of the clip.

    They move relative to the person, mostly sideways, at a speed that takes them off it within a frame or two.
    """
    seconds = settings.frame_step / FRAME_RATE * np.arange(len(people))
    middles = np.stack([part.keypoints.mean(0) for part in labels])
    exposure = float(layers[0].labels["exposure"])
    result = []
    for _ in range(min(int(rng.poisson(options.occluders)), _MOST_OBJECTS)):
        moment = settings.middle if chance(rng, options.key_occlusion) else int(rng.integers(len(people)))
        rows, columns = np.nonzero(people[moment][..., 3] > 127)
        pick, jitter = rng.random(), rng.normal(0, 0.05, 2) * settings.size[0]
        extent = settings.size[0] * rng.uniform(0.25, 0.65)
        rgba, linear = draw_object(rng, stock, extent)
        heading = rng.normal(0, 0.5) + (np.pi if chance(rng, 0.5) else 0.0)
        speed = options.occluder_speed * extent / rng.uniform(0.08, 0.18)
        if not len(rows):
            continue
        hit = np.array([columns[int(pick * len(rows))], rows[int(pick * len(rows))]]) + jitter
        velocity = speed * np.array([np.cos(heading), np.sin(heading)])
        centers = hit + middles - middles[moment] + velocity * (seconds - seconds[moment])[:, None]
        path = (velocity * exposure).astype(np.float32)
        drawn = (place_object(rgba, linear, settings.size, center) for center in centers)
        result.append([smear(picture, path) for picture in drawn])
    return result
