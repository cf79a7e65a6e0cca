"""Compositing: layers over backgrounds, and objects in front."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Bool, Bytes, Float32, Float64
from posekit.data.synthetic.streams import chance

Affine = Float64

# Share of a person's own pixels that objects and other people must leave.
_LEAST_VISIBLE = 0.35


@dataclass(frozen=True)
class Stock:
    """A split's raw material.

    Attributes:
        backgrounds: (n, S, S, 3) uint8 RGB.
        objects: (m, s, s, 4) uint8, premultiplied.
    """

    backgrounds: Bytes
    objects: Bytes


def _bytes(image: Any) -> Bytes:
    """Names the type that OpenCV's stubs leave open; copies nothing."""
    return np.asarray(image, dtype=np.uint8)


@dataclass(frozen=True)
class Backdrop:
    """A window of a background.

    Attributes:
        source: (S, S, 3) uint8 RGB.
        matrix: (2, 3) crop px -> background px.
        gain: (3,) factor on its colours.
    """

    source: Bytes
    matrix: Affine
    gain: Float32


def draw_backdrop(rng: np.random.Generator, stock: Stock, size: tuple[int, int]) -> Backdrop:
    """Draws a window of random place and scale in a random background, for a crop of (W, H)."""
    side = stock.backgrounds.shape[1]
    source = stock.backgrounds[int(rng.integers(len(stock.backgrounds)))]
    width, height = size
    most = side / max(width, height)
    step = most * rng.uniform(0.45, 1.0)  # background px per crop px
    x, y = rng.random(2) * (side - 1 - step * (np.array(size) - 1))
    if chance(rng, 0.5):
        matrix = np.array([[-step, 0, x + step * (width - 1)], [0, step, y]])
    else:
        matrix = np.array([[step, 0, x], [0, step, y]])
    gain = np.exp(rng.normal(0, 0.2)) * np.exp(rng.normal(0, 0.06, 3))
    return Backdrop(source, matrix, gain.astype(np.float32))


def take_background(rng: np.random.Generator, stock: Stock, size: tuple[int, int]) -> Float32:
    """Cuts a window of random place and scale out of a random background, (H, W, 3) float32 in 0..255."""
    backdrop = draw_backdrop(rng, stock, size)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cut = cv2.warpAffine(backdrop.source, backdrop.matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return cut.astype(np.float32) * backdrop.gain


def view_backdrop(backdrop: Backdrop, crop_to_key: Affine, size: tuple[int, int]) -> Float32:
    """Shows a backdrop from a moved camera, (H, W, 3) float32 in 0..255.

    Args:
        backdrop: The window that the key frame's crop shows.
        crop_to_key: (3, 3) homography from this crop's px to the key crop's.
        size: (W, H).
    """
    matrix = np.concatenate([backdrop.matrix, [[0, 0, 1]]]) @ crop_to_key
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cut = cv2.warpPerspective(backdrop.source, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return cut.astype(np.float32) * backdrop.gain


def warp_layer(rgba: Bytes, origin: tuple[int, int], matrix: Affine, size: tuple[int, int]) -> Bytes:
    """Moves a layer's rectangle into a crop, (H, W, 4).

    Args:
        rgba: (h, w, 4) premultiplied.
        origin: (x, y) of its first pixel in the frame that ``matrix`` maps from.
        matrix: (2, 3) that frame -> crop.
        size: (W, H) of the crop.
    """
    moved = matrix.copy()
    moved[:, 2] += moved[:, :2] @ np.asarray(origin, dtype=np.float64)
    shrunk = float(np.sqrt(abs(np.linalg.det(moved[:, :2]))))
    if shrunk < 0.6:  # averaging first keeps small people free of jagged edges
        factor = 2 if shrunk > 0.3 else 4
        small = (max(1, rgba.shape[1] // factor), max(1, rgba.shape[0] // factor))
        ratio = np.array([rgba.shape[1] / small[0], rgba.shape[0] / small[1]])
        rgba = _bytes(cv2.resize(rgba, small, interpolation=cv2.INTER_AREA))
        moved[:, 2] += moved[:, :2] @ (0.5 * ratio - 0.5)
        moved[:, :2] *= ratio
    return _bytes(cv2.warpAffine(rgba, moved, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))


def blend(canvas: Float32, rgba: Bytes, gain: float | Float32 = 1.0) -> None:
    """Lays a premultiplied layer (H, W, 4) over a canvas (H, W, 3) in place; only the rows and columns it covers."""
    x, y, w, h = cv2.boundingRect(rgba[..., 3])
    if w == 0 or h == 0:
        return
    window, source = canvas[y : y + h, x : x + w], rgba[y : y + h, x : x + w].astype(np.float32)
    keep = 1 - source[..., 3] * np.float32(1 / 255)
    window *= keep[..., None]
    window += source[..., :3] * np.asarray(gain, dtype=np.float32)


def object_layer(
    rng: np.random.Generator, stock: Stock, size: tuple[int, int], center: Float32, extent: float
) -> Bytes:
    """Places a random object, (H, W, 4).

    Args:
        rng: Source of randomness.
        stock: The objects.
        size: (W, H).
        center: (x, y) px.
        extent: Its side, px.
    """
    rgba, linear = draw_object(rng, stock, extent)
    return place_object(rgba, linear, size, center)


def draw_object(rng: np.random.Generator, stock: Stock, extent: float) -> tuple[Bytes, Affine]:
    """Takes a random object, and how it is turned and stretched to a side of ``extent`` px: (s, s, 4) and (2, 2)."""
    rgba = stock.objects[int(rng.integers(len(stock.objects)))]
    angle, stretch = rng.normal(0, 0.3), np.exp(rng.normal(0, 0.3))
    c, s = np.cos(angle), np.sin(angle)
    scale = extent / rgba.shape[0]
    linear = np.array([[c, -s], [s, c]]) @ np.diag([scale * stretch, scale / stretch])
    if chance(rng, 0.5):
        linear[:, 0] *= -1
    return rgba, linear


def place_object(rgba: Bytes, linear: Affine, size: tuple[int, int], center: Float32) -> Bytes:
    """Draws an object with its middle at ``center`` (x, y) px of a picture (W, H), (H, W, 4)."""
    matrix = np.concatenate([linear, (center - linear @ np.full(2, (rgba.shape[0] - 1) / 2))[:, None]], 1)
    return _bytes(cv2.warpAffine(rgba, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))


def smear(picture: NDArray[Any], path: Float32) -> NDArray[Any]:
    """Averages a picture (H, W, C) along a straight path (x, y) px around its place, as an open shutter does."""
    length = float(np.hypot(path[0], path[1]))
    if length < 0.7:
        return picture
    reach = int(np.ceil(np.abs(path).max() / 2)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), dtype=np.float32)
    points = np.linspace(-0.5, 0.5, 2 * int(np.ceil(length)) + 1)[:, None] * path + reach
    low = np.floor(points).astype(int)
    share = points - low
    for dx in (0, 1):
        for dy in (0, 1):
            weight = np.abs(1 - dx - share[:, 0]) * np.abs(1 - dy - share[:, 1])
            np.add.at(kernel, (low[:, 1] + dy, low[:, 0] + dx), weight)
    kernel /= kernel.sum()
    if picture.shape[2] == 4 and picture.dtype == np.uint8:
        return _smear_layer(picture, kernel)
    border = cv2.BORDER_REFLECT_101 if picture.shape[2] == 3 else cv2.BORDER_CONSTANT
    return np.asarray(cv2.filter2D(picture, -1, kernel, borderType=border))


def _smear_layer(rgba: Bytes, kernel: Float32) -> Bytes:
    """Filters a premultiplied layer (H, W, 4), but only the window that it covers: most layers are mostly empty."""
    x, y, w, h = cv2.boundingRect(rgba[..., 3])
    if w == 0 or h == 0:
        return rgba
    reach = kernel.shape[0] // 2
    rows = slice(max(0, y - reach), y + h + reach)
    columns = slice(max(0, x - reach), x + w + reach)
    result = np.zeros_like(rgba)
    result[rows, columns] = cv2.filter2D(rgba[rows, columns], -1, kernel, borderType=cv2.BORDER_CONSTANT)
    return result


def inside_edges(edges: Float32, matrix: Affine, size: tuple[int, int], slack: float = 0.0) -> Bool:
    """Tells which crop pixels lie within a rectangle of the layer's frame, (H, W).

    Args:
        edges: (left, top, right, bottom) px of the layer's frame, infinite where open.
        matrix: (2, 3) layer's frame -> crop.
        size: (W, H).
        slack: px by which the rectangle is grown.
    """
    width, height = size
    inside = np.ones((height, width), dtype=bool)
    if not np.isfinite(edges).any():
        return inside
    inverse = np.linalg.inv(matrix[:, :2])
    x, y = np.arange(width)[None, :] - matrix[0, 2], np.arange(height)[:, None] - matrix[1, 2]
    for side in range(4):
        if np.isfinite(edges[side]):
            axis = side % 2
            place = inverse[axis, 0] * x + inverse[axis, 1] * y
            inside &= place >= edges[side] - slack if side < 2 else place <= edges[side] + slack
    return inside


def wide_object(rng: np.random.Generator, stock: Stock, outside: Bool, size: tuple[int, int]) -> Bytes:
    """Turns a half-plane into a table, a wall, a hedge: another background's texture with a lit edge, (H, W, 4)."""
    texture = take_background(rng, stock, size)
    mean = texture.mean((0, 1))
    strength = rng.uniform(0.1, 0.8)
    texture = (texture - mean) * strength + mean * rng.uniform(0.5, 1.2)
    mask = outside.astype(np.uint8) * 255
    edge = _bytes(cv2.dilate(mask, np.ones((3, 3), np.uint8))) & ~mask
    rgb = np.clip(texture, 0, 255).astype(np.uint8)
    if chance(rng, 0.6):
        rgb[cv2.erode(mask, np.ones((5, 5), np.uint8)) != mask] = np.clip(mean * rng.uniform(0.4, 1.6), 0, 255)
        mask |= edge
    rgb[mask == 0] = 0
    return np.dstack([rgb, mask])


class Occlusion:
    """Keeps account of what hides a person, so that objects in front never hide all of it.

    Args:
        person: (H, W) uint8 coverage of the person.
    """

    def __init__(self, person: Bytes) -> None:
        self.person = person > 127
        self.front = np.zeros(person.shape, dtype=bool)
        self._total = int(self.person.sum())

    def admits(self, coverage: Bytes) -> bool:
        """Tells whether enough of the person would remain behind one more thing."""
        front = self.front | (coverage > 127)
        return int((self.person & ~front).sum()) >= _LEAST_VISIBLE * self._total

    def admit(self, coverage: Bytes) -> bool:
        """Adds something in front unless too little of the person would remain; tells whether it was added."""
        if not self.admits(coverage):
            return False
        self.front |= coverage > 127
        return True

    @property
    def mask(self) -> Bool:
        """(H, W) the person's pixels that are seen."""
        return self.person & ~self.front
