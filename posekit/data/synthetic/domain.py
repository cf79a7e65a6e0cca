"""Two appearances of one and the same geometry, for domain adaptation: a mild source and a varied target.

A domain changes colours, patterns, light, backgrounds and the camera's faults. It draws nothing that a pose, a box or a
label depends on, so the same seed shows the same people at the same places in either domain.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from posekit.arrays import Bytes, Float32
from posekit.data.synthetic.look import Garment, Look
from posekit.data.synthetic.person import Person
from posekit.data.synthetic.shading import Light
from posekit.data.synthetic.streams import chance

DOMAINS = ("source", "target")

# What a domain sets in place of the preset; an option that is given by itself still wins.
DOMAIN_OPTIONS: dict[str, dict[str, float]] = {
    "source": {"clutter": 0.3, "noise": 0.15, "blur": 0.0, "color": 0.35},
    "target": {"clutter": 1.0, "noise": 1.0, "blur": 1.0, "color": 1.0},
}

_PLAIN_SKIN = np.array([0.80, 0.62, 0.50], dtype=np.float32)
_PATTERN_KEPT = 0.35  # share of the source's patterned garments that stay so
_FLATTENED = 0.55  # contrast that the source's backgrounds and objects keep


def restyle(person: Person, domain: str | None, rng: np.random.Generator) -> Person:
    """Gives a person a domain's looks and light; None leaves both as they are.

    Args:
        person: As drawn.
        domain: ``"source"``: narrower skin tones, paler cloth with few patterns, soft light from the front.
            ``"target"``: more patterns, hard and tinted light.
        rng: The person's own stream of styles.
    """
    if domain is None:
        return person
    look, light = (_mild, _soft) if domain == "source" else (_varied, _hard)
    return replace(person, look=look(rng, person.look), light=light(rng, person.light))


def _mix(color: Float32, other: Float32 | float, share: float) -> Float32:
    return np.asarray(color * np.float32(1 - share) + np.asarray(other, np.float32) * np.float32(share), np.float32)


def _mild(rng: np.random.Generator, look: Look) -> Look:
    skin = _mix(look.skin, _PLAIN_SKIN, 0.6)
    lips = np.clip(skin * np.array([0.85, 0.52, 0.5]) + np.array([0.05, 0, 0]), 0, 1).astype(np.float32)

    def plain(garment: Garment) -> Garment:
        gray = garment.colors.mean(1, keepdims=True)
        tile = garment.tile if chance(rng, _PATTERN_KEPT) else -1
        return replace(garment, colors=_mix(garment.colors, gray, 0.35), tile=tile, folds=0.5 * garment.folds)

    bottom = plain(look.bottom)
    top = bottom if look.dress else plain(look.top)
    return replace(look, skin=skin, lips=lips, top=top, bottom=bottom, chest_patch=0.0)


def _varied(rng: np.random.Generator, look: Look) -> Look:
    def patterned(garment: Garment) -> Garment:
        tile = int(rng.integers(36))
        return replace(garment, tile=tile if garment.tile < 0 and chance(rng, 0.5) else garment.tile)

    bottom = patterned(look.bottom)
    return replace(look, top=bottom if look.dress else patterned(look.top), bottom=bottom)


def _soft(rng: np.random.Generator, light: Light) -> Light:
    """Light from the camera's side and above, nearly white, with much of it ambient."""
    direction = np.array([rng.normal(0, 0.3), -0.55, -0.8], dtype=np.float32)
    key, sky, ground = (_mix(c, float(c.mean()), 0.7) for c in (light.key, light.sky, light.ground))
    strength = np.float32(0.45 / max(float(key.mean()), 1e-3))
    balance = np.float32(0.95 / max(float(sky.mean()), 1e-3))
    return Light(direction / np.linalg.norm(direction), key * strength, sky * balance, ground * balance)


def _hard(rng: np.random.Generator, light: Light) -> Light:
    """The same light, harder and tinted."""
    tint = np.exp(rng.normal(0, 0.1, 3)).astype(np.float32)
    share = np.float32(rng.uniform(1.0, 1.5))
    return Light(light.direction, light.key * tint * share, light.sky * np.float32(1.1 - 0.25 * share), light.ground)


def restyle_backgrounds(backgrounds: Bytes, domain: str | None) -> Bytes:
    """Takes contrast and fine detail out of the source's backgrounds (n, S, S, 3)."""
    if domain != "source":
        return backgrounds
    result = np.empty_like(backgrounds)
    for index, image in enumerate(backgrounds):
        smooth = np.asarray(cv2.GaussianBlur(image, (0, 0), image.shape[0] / 144), dtype=np.float32)
        mean = smooth.mean((0, 1))
        result[index] = np.clip(mean + _FLATTENED * (smooth - mean), 0, 255)
    return result


def restyle_objects(objects: Bytes, domain: str | None) -> Bytes:
    """Takes contrast out of the source's objects (n, s, s, 4), premultiplied; their outlines stay."""
    if domain != "source":
        return objects
    alpha = objects[..., 3:].astype(np.float32) / 255
    color = objects[..., :3].astype(np.float32)
    mean = color.sum((1, 2), keepdims=True) / np.maximum(alpha.sum((1, 2), keepdims=True), 1)
    flat = mean * alpha + _FLATTENED * (color - mean * alpha)
    return np.concatenate([np.clip(flat, 0, 255).astype(np.uint8), objects[..., 3:]], -1)
