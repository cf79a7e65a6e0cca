"""Things that stand in front of people: small cut-outs with coverage, drawn once per split."""

from __future__ import annotations

import cv2
import numpy as np

from posekit.arrays import Bytes
from posekit.data.synthetic.background import fractal_noise
from posekit.data.synthetic.patterns import TILE, cloth_tiles
from posekit.data.synthetic.streams import OBJECT, chance, stream

SIZE = 96  # px, the cut-outs' side
_KINDS = 7


def _outline(rng: np.random.Generator, kind: int) -> Bytes:
    """Draws a cut-out's coverage (SIZE, SIZE)."""
    mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
    middle, reach = SIZE // 2, SIZE * 0.45
    if kind == 0:  # box
        w, h = (int(v) for v in reach * rng.uniform(0.35, 1.0, 2))
        cv2.rectangle(mask, (middle - w, middle - h), (middle + w, middle + h), 255, -1)
    elif kind == 1:  # ball
        cv2.circle(mask, (middle, middle), int(reach), 255, -1, cv2.LINE_AA)
    elif kind == 2:  # bottle, post, lamp
        w = int(reach * rng.uniform(0.12, 0.35))
        cv2.rectangle(mask, (middle - w, int(SIZE * 0.25)), (middle + w, SIZE), 255, -1)
        cv2.rectangle(mask, (middle - w // 2, 2), (middle + w // 2, int(SIZE * 0.3)), 255, -1)
    elif kind == 3:  # leaves
        for _ in range(int(rng.integers(15, 40))):
            center = (rng.normal(0, 0.4, 2) * reach + middle).astype(int)
            axes = (int(reach * rng.uniform(0.15, 0.4)), int(reach * rng.uniform(0.05, 0.14)) + 1)
            cv2.ellipse(mask, (int(center[0]), int(center[1])), axes, rng.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA)
    elif kind == 4:  # chair back, fence, racket
        width = int(rng.integers(3, 8))
        cv2.rectangle(mask, (8, 8), (SIZE - 8, SIZE - 8), 255, width)
        for x in np.linspace(8, SIZE - 8, int(rng.integers(3, 7))):
            cv2.line(mask, (int(x), 8), (int(x), SIZE - 8), 255, width)
    elif kind == 5:  # bag, cushion, animal: a few joined ellipses
        for _ in range(int(rng.integers(2, 6))):
            center = (rng.normal(0, 0.3, 2) * reach + middle).astype(int)
            axes = (int(reach * rng.uniform(0.25, 0.65)), int(reach * rng.uniform(0.25, 0.65)))
            cv2.ellipse(mask, (int(center[0]), int(center[1])), axes, rng.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA)
    else:  # any polygon
        corners = cv2.convexHull((rng.normal(0, 0.45, (8, 2)) * reach + middle).astype(np.int32))
        cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA)
    return mask


def draw_object(rng: np.random.Generator) -> Bytes:
    """Draws one cut-out (SIZE, SIZE, 4), RGB premultiplied by coverage."""
    kind = int(rng.integers(_KINDS))
    mask = _outline(rng, kind)
    color = rng.uniform(20, 235) + rng.normal(0, 35, 3)
    if kind == 3 and chance(rng, 0.7):
        color = np.array([rng.uniform(30, 90), rng.uniform(80, 150), rng.uniform(20, 60)])
    # A distance transform rounds the body off: bright towards the light, dark at the rim.
    height = np.sqrt(cv2.distanceTransform(mask, cv2.DIST_L2, 3))
    slope_x, slope_y = cv2.Sobel(height, cv2.CV_32F, 1, 0), cv2.Sobel(height, cv2.CV_32F, 0, 1)
    shade = np.clip(0.85 - 0.09 * (slope_y + rng.uniform(-1, 1) * slope_x), 0.3, 1.4)
    shade *= 1 + 0.12 * fractal_noise(rng, SIZE, 5, 0.7)
    image = np.clip(color, 5, 250).astype(np.float32) * shade[..., None]
    if chance(rng, 0.4):
        tile = cloth_tiles()[int(rng.integers(len(cloth_tiles())))]
        grid = np.arange(SIZE) * int(rng.integers(1, 3)) % TILE
        image *= 1 - rng.uniform(0.2, 0.7) * tile[grid][:, grid, None]
    rgba = np.concatenate([np.clip(image, 0, 255) * (mask[..., None] / np.float32(255)), mask[..., None]], 2)
    return rgba.astype(np.uint8)


def object_bank(seed: int, split: str, count: int = 128) -> Bytes:
    """Makes a split's cut-outs, (count, SIZE, SIZE, 4)."""
    return np.stack([draw_object(stream(seed, split, OBJECT, i)) for i in range(count)])
