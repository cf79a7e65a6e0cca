"""A person's looks: skin, hair, face and clothes, as the plain numbers that the shader reads.

Lengths are metres in the rest body's coordinates: the sleeve ends at a distance |x| along the outstretched arm, the hem
and the trouser leg at a height y (feet at -0.91, hips at -0.01, neck at 0.55, crown at 0.80).
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field

import numpy as np

from posekit.arrays import Float32, Int64
from posekit.data.synthetic.figure import SKIRT_HEMS
from posekit.data.synthetic.streams import chance

# sRGB, from fair to dark.
_SKIN = np.array(
    [[250, 220, 195], [238, 195, 160], [222, 170, 128], [190, 132, 92], [140, 90, 58], [95, 60, 40], [62, 40, 30]]
)
_HAIR = np.array(
    [
        [18, 15, 14],
        [38, 26, 20],
        [66, 43, 28],
        [105, 70, 40],
        [170, 128, 75],
        [215, 185, 130],
        [140, 62, 30],
        [165, 160, 158],
    ]
)
_CLOTH_NEUTRALS = np.array(
    [
        [20, 20, 22],
        [45, 45, 50],
        [95, 95, 100],
        [160, 160, 160],
        [235, 235, 235],
        [215, 200, 175],
        [28, 34, 60],
        [70, 55, 42],
    ]
)
_DENIM = np.array([[38, 48, 75], [60, 80, 115], [95, 120, 155], [25, 28, 38], [140, 160, 185]])


@dataclass
class Garment:
    """Colours and pattern of one piece.

    Attributes:
        colors: (2, 3) RGB in [0, 1], mixed by the pattern.
        tile: Index of the cloth tile, -1 for plain cloth.
        scale: Tile repeats per metre.
        looseness: Metres between skin and cloth.
        folds: Strength of the folds' shading.
        fold_tile: Index of the fold tile.
    """

    colors: Float32
    tile: int = -1
    scale: float = 4.0
    looseness: float = 0.01
    folds: float = 0.12
    fold_tile: int = 0


@dataclass
class Look:
    """Everything the shader needs to know of a person; see the module for the units."""

    skin: Float32
    lips: Float32
    hair: Float32
    iris: Float32
    top: Garment
    bottom: Garment
    shoes: Garment
    trim: Float32
    inner: Float32
    sleeve: float = 0.3
    neck_front: float = 0.47
    neck_slope: float = 0.6
    hem: float = -0.05
    leg_end: float = -0.83
    shoe_top: float = -0.84
    sock_top: float = -0.8
    sock: Float32 = field(default_factory=lambda: np.ones(3, np.float32))
    belt: bool = False
    has_top: bool = True
    open_front: float = 0.0
    chest_patch: float = 0.0
    skirt: int = 0
    dress: bool = False
    curtain: int = 0
    hairline: float = 0.74
    hair_volume: float = 0.015
    bald: bool = False
    cap: int = 0
    cap_color: Float32 = field(default_factory=lambda: np.zeros(3, np.float32))
    beard: float = 0.0
    glasses: int = 0
    mouth_open: float = 0.0
    gloves: bool = False


def _pick(rng: np.random.Generator, table: Int64, jitter: float = 0.06) -> Float32:
    """Draws a table's colour, between two neighbours where it is ordered, with jitter; RGB in [0, 1]."""
    color = table[int(rng.integers(len(table)))] / 255
    return np.clip(color * np.exp(rng.normal(0, jitter) + rng.normal(0, jitter / 3, 3)), 0.01, 1).astype(np.float32)


def _cloth_color(rng: np.random.Generator, neutral: float = 0.4) -> Float32:
    if chance(rng, neutral):
        return _pick(rng, _CLOTH_NEUTRALS)
    saturation, value = rng.beta(2.5, 2), rng.uniform(0.25, 1.0)
    return np.array(colorsys.hsv_to_rgb(rng.random(), 0.15 + 0.8 * saturation, value), dtype=np.float32)


def _garment(rng: np.random.Generator, color: Float32, patterned: float, loose: tuple[float, float]) -> Garment:
    second = (
        _cloth_color(rng, 0.5) if chance(rng, 0.7) else np.clip(color * rng.choice([0.6, 1.5]), 0, 1).astype(np.float32)
    )
    tile = int(rng.integers(36)) if chance(rng, patterned) else -1
    return Garment(
        np.stack([color, second]),
        tile=tile,
        scale=float(np.exp(rng.uniform(np.log(2.0), np.log(9.0)))),
        looseness=rng.uniform(*loose),
        folds=rng.uniform(0.04, 0.2),
        fold_tile=int(rng.integers(4)),
    )


def sample_look(rng: np.random.Generator) -> Look:
    """Draws a person's looks."""
    tone = rng.uniform(0, len(_SKIN) - 1.001)
    low = int(tone)
    skin = (_SKIN[low] * (1 - tone + low) + _SKIN[low + 1] * (tone - low)) / 255 * np.exp(rng.normal(0, 0.05))
    skin = np.clip(skin + rng.normal(0, 0.012, 3), 0.02, 1).astype(np.float32)
    dark = chance(rng, 0.75) if tone > 2.5 else chance(rng, 0.3)
    hair = _pick(rng, _HAIR[:2] if dark else _HAIR, 0.12)
    lower_color = _pick(rng, _DENIM, 0.1) if chance(rng, 0.4) else _cloth_color(rng, 0.65)
    look = Look(
        skin=skin,
        lips=np.clip(skin * [0.85, 0.52, 0.5] + [0.05, 0, 0], 0, 1).astype(np.float32),
        hair=hair,
        iris=_pick(rng, np.array([[50, 30, 20], [90, 60, 30], [70, 100, 130], [80, 110, 70]])),
        top=_garment(rng, _cloth_color(rng), 0.45, (0.004, 0.034)),
        bottom=_garment(rng, lower_color, 0.12, (0.004, 0.03)),
        shoes=_garment(rng, _cloth_color(rng, 0.7), 0.0, (0.006, 0.012)),
        trim=_cloth_color(rng, 0.6),
        inner=_cloth_color(rng, 0.7),
        hem=rng.uniform(-0.14, 0.04),
    )
    _sample_clothes(rng, look)
    _sample_head(rng, look)
    return look


def _sample_clothes(rng: np.random.Generator, look: Look) -> None:
    look.sleeve = float(rng.choice([0.19, rng.uniform(0.26, 0.38), rng.uniform(0.6, 0.68)], p=[0.12, 0.45, 0.43]))
    if chance(rng, 0.3):  # V-neck
        look.neck_front, look.neck_slope = rng.uniform(0.3, 0.44), rng.uniform(1.2, 2.2)
    else:
        look.neck_front, look.neck_slope = rng.uniform(0.44, 0.51), rng.uniform(0.2, 0.8)
    look.has_top = not chance(rng, 0.04)
    if look.sleeve > 0.5 and chance(rng, 0.35):
        look.open_front = rng.uniform(0.015, 0.06)
    look.chest_patch = rng.uniform(0.04, 0.09) if chance(rng, 0.2) else 0.0
    style = rng.random()
    if style < 0.6:
        look.leg_end = rng.uniform(-0.87, -0.78)
    elif style < 0.8:
        look.leg_end = rng.uniform(-0.48, -0.18)
    elif style < 0.84:
        look.leg_end = rng.uniform(-0.72, -0.5)
    else:
        look.skirt = int(rng.choice([1, 2, 3], p=[0.3, 0.5, 0.2]))
        look.dress = chance(rng, 0.5)
        # Thighs wear the skirt's colour, so that a knee that pokes through it does not show; or leggings below.
        look.leg_end = float(SKIRT_HEMS[look.skirt] or 0) + 0.03 if chance(rng, 0.75) else -0.83
        look.hem = max(look.hem, 0.0)
    if look.dress:
        look.bottom, look.hem = look.top, 0.06
    look.belt = chance(rng, 0.25) and not look.dress
    look.gloves = chance(rng, 0.03)
    feet = rng.random()
    look.shoe_top = -0.99 if feet < 0.07 else rng.uniform(-0.87, -0.83) if feet < 0.85 else rng.uniform(-0.8, -0.6)
    look.sock_top = rng.uniform(-0.84, -0.6) if chance(rng, 0.6) else -0.99
    look.sock = _cloth_color(rng, 0.9)


def _sample_head(rng: np.random.Generator, look: Look) -> None:
    look.bald = chance(rng, 0.07)
    look.hairline = rng.uniform(0.725, 0.765)
    look.hair_volume = rng.uniform(0.004, 0.03)
    if not look.bald and chance(rng, 0.38 if look.skirt == 0 else 0.85):
        look.curtain = int(rng.choice([1, 2]))
        look.hair_volume = max(look.hair_volume, 0.012)
    elif chance(rng, 0.28) and look.skirt == 0:
        look.beard = rng.uniform(0.3, 1.0)
    look.cap = int(rng.choice([0, 1, 2, 3], p=[0.84, 0.09, 0.04, 0.03]))  # none, cap, beanie or helmet, headscarf
    look.cap_color = _cloth_color(rng)
    if look.cap == 3:
        look.curtain, look.beard, look.hair = 0, 0.0, look.cap_color
    look.glasses = int(rng.choice([0, 1, 2], p=[0.84, 0.1, 0.06]))
    look.mouth_open = rng.uniform(0, 1) if chance(rng, 0.4) else 0.0
