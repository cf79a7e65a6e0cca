"""Backgrounds: procedural rooms, streets, fields and clutter, or any folder of photos, kept as one block of bytes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from posekit.arrays import Bytes, Float32
from posekit.data.images import read_image
from posekit.data.picture_files import IMAGE_SUFFIXES, is_picture
from posekit.data.synthetic.streams import BACKGROUND, chance, stream
from posekit.errors import UserError, named

log = logging.getLogger(__name__)

Color = tuple[float, float, float]

_MOST_PHOTOS = 1000  # per split; at 288 px they take 250 MB


def fractal_noise(
    rng: np.random.Generator, size: int, octaves: int = 5, roughness: float = 0.55, start: int = 3
) -> Float32:
    """Returns smooth noise (size, size) of mean about 0 and range about -1..1, a sum of ever finer grids."""
    total = np.zeros((size, size), dtype=np.float32)
    amplitude = 1.0
    for octave in range(octaves):
        cells = min(start * 2**octave, size)
        grid = rng.uniform(-amplitude, amplitude, (cells, cells)).astype(np.float32)
        total += cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
        amplitude *= roughness
    return total


def _color(rng: np.random.Generator, low: float = 20, high: float = 235, spread: float = 25) -> Color:
    value = rng.uniform(low, high)
    r, g, b = np.clip(value + rng.normal(0, spread, 3), 0, 255)
    return float(r), float(g), float(b)


def _vertical_gradient(size: int, top: Color, bottom: Color) -> Float32:
    t = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    column = (1 - t) * np.array(top, np.float32) + t * np.array(bottom, np.float32)
    return np.ascontiguousarray(np.broadcast_to(column, (size, size, 3)))


def _textured(rng: np.random.Generator, image: Float32, rows: slice, strength: float, start: int = 6) -> None:
    noise = fractal_noise(rng, image.shape[0], 5, 0.75, start)
    image[rows] *= 1 + strength * noise[rows, :, None]


def _rectangle(
    image: Float32, corner: tuple[float, float], size: tuple[float, float], color: Color, thickness: int = -1
) -> None:
    x, y, w, h = (round(v) for v in (*corner, *size))
    cv2.rectangle(image, (x, y), (x + w, y + h), color, thickness, cv2.LINE_AA if thickness > 0 else cv2.LINE_8)


def _room(rng: np.random.Generator, size: int, clutter: float) -> Float32:
    image = _vertical_gradient(size, _color(rng, 90), _color(rng, 70))
    floor = int(size * rng.uniform(0.6, 0.92))
    image[floor:] = _vertical_gradient(size, _color(rng, 60, 190), _color(rng, 30, 150))[floor:]
    _textured(rng, image, slice(floor, None), 0.12)
    _textured(rng, image, slice(0, floor), 0.04, 3)
    if chance(rng, 0.5):  # floor boards run to a vanishing point
        point = (size * rng.uniform(0.2, 0.8), floor - size * 0.3)
        for x in np.linspace(-size, 2 * size, 26):
            cv2.line(image, (int(x), size), (int((x + point[0]) / 2), floor), _color(rng, 30, 110, 8), 1, cv2.LINE_AA)
    _rectangle(image, (0, floor - 4), (size, 5), _color(rng, 40))
    for _ in range(rng.poisson(2.5 * clutter)):
        _wall_item(rng, image, floor)
    for _ in range(rng.poisson(3 * clutter)):
        _furniture(rng, image, floor)
    return image


def _wall_item(rng: np.random.Generator, image: Float32, floor: int) -> None:
    """A window, a picture, a door or a shelf of books."""
    size = image.shape[0]
    w, h = size * rng.uniform(0.1, 0.35), size * rng.uniform(0.12, 0.4)
    x, y = rng.uniform(-0.1, 1.0) * size, rng.uniform(0.02, 0.35) * size
    kind = rng.integers(4)
    if kind == 0:
        _rectangle(image, (x - 3, y - 3), (w + 6, h + 6), _color(rng, 150))
        _rectangle(image, (x, y), (w, h), _color(rng, 170, 255))
        _rectangle(image, (x + w / 2 - 1, y), (2, h), _color(rng, 150))
        _rectangle(image, (x, y + h / 2 - 1), (w, 2), _color(rng, 150))
    elif kind == 1:
        _rectangle(image, (x - 3, y - 3), (w + 6, h + 6), _color(rng, 10, 90))
        _rectangle(image, (x, y), (w, h), _color(rng))
        for _ in range(4):
            center = (int(x + w * rng.random()), int(y + h * rng.random()))
            cv2.circle(image, center, int(w * rng.uniform(0.05, 0.2)) + 1, _color(rng, spread=60), -1, cv2.LINE_AA)
    elif kind == 2:
        _rectangle(image, (x, floor - size * 0.62), (size * 0.24, size * 0.62), _color(rng, 60, 200, 15))
        _rectangle(image, (x + 4, floor - size * 0.58), (size * 0.24 - 8, size * 0.26), _color(rng, 60, 200, 10), 2)
        cv2.circle(image, (int(x + size * 0.21), int(floor - size * 0.3)), 3, _color(rng, 120), -1)
    else:
        _rectangle(image, (x, y), (w, h), _color(rng, 20, 100))
        for shelf in range(int(rng.integers(2, 5))):
            left = x + 2
            while left < x + w - 4:
                book = rng.uniform(3, 9)
                _rectangle(image, (left, y + shelf * h / 4 + 3), (book - 1, h / 4 - 5), _color(rng, spread=60))
                left += book


def _furniture(rng: np.random.Generator, image: Float32, floor: int) -> None:
    """A box with a lit top, or a table with legs."""
    size = image.shape[0]
    w, h = size * rng.uniform(0.12, 0.5), size * rng.uniform(0.1, 0.35)
    x, bottom = size * rng.uniform(-0.2, 1.0), floor + size * rng.uniform(0.0, 0.2)
    color = np.array(_color(rng, 30, 210, 30))
    if chance(rng, 0.6):
        _rectangle(image, (x, bottom - h), (w, h), tuple(color * 0.8))
        _rectangle(image, (x, bottom - h), (w, h * 0.12), tuple(np.minimum(color * 1.25, 255)))
        for split in range(int(rng.integers(0, 4))):
            _rectangle(image, (x + 2, bottom - h * (0.85 - 0.25 * split)), (w - 4, h * 0.2), tuple(color * 0.65), 1)
    else:
        _rectangle(image, (x, bottom - h), (w, h * 0.14), tuple(color))
        for leg in (0.05, 0.9):
            _rectangle(image, (x + w * leg, bottom - h * 0.86), (w * 0.05 + 1, h * 0.86), tuple(color * 0.6))


def _outdoors(rng: np.random.Generator, size: int, clutter: float) -> Float32:
    sky = (rng.uniform(90, 190), rng.uniform(140, 215), rng.uniform(190, 255))
    if chance(rng, 0.35):
        sky = _color(rng, 150, 240, 8)
    image = _vertical_gradient(size, sky, _color(rng, 190, 250, 8))
    clouds = np.clip(fractal_noise(rng, size, 5, 0.6), 0, 1)[..., None]
    image += clouds * (245 - image) * rng.uniform(0, 0.8)
    horizon = int(size * rng.uniform(0.3, 0.75))
    for _ in range(1 + rng.poisson(2.5 * clutter)):
        _building(rng, image, horizon)
    for _ in range(rng.poisson(3 * clutter)):
        _tree(rng, image, horizon)
    grounds = (
        (70, 105, 45),
        (95, 120, 60),
        (120, 118, 115),
        (90, 90, 92),
        (190, 170, 130),
        (235, 238, 242),
        (110, 85, 60),
    )
    ground = np.clip(
        np.array(grounds[int(rng.integers(7))]) * np.exp(rng.normal(0, 0.12)) + rng.normal(0, 5, 3), 0, 255
    )
    image[horizon:] = _vertical_gradient(size, tuple(ground * 0.9), tuple(ground * 1.08))[horizon:]
    _textured(rng, image, slice(horizon, None), 0.11, 16)
    if chance(rng, 0.4):  # a path, a kerb or the lines of a pitch
        for _ in range(int(rng.integers(1, 4))):
            ends = [(int(rng.uniform(-0.5, 1.5) * size), y) for y in (horizon, size)]
            cv2.line(image, ends[0], ends[1], _color(rng, 120, 250, 8), int(rng.integers(1, 7)), cv2.LINE_AA)
    return image


def _building(rng: np.random.Generator, image: Float32, horizon: int) -> None:
    size = image.shape[0]
    w, h = size * rng.uniform(0.15, 0.7), horizon * rng.uniform(0.15, 1.1)
    x = size * rng.uniform(-0.3, 0.95)
    color = np.array(_color(rng, 60, 210, 18))
    _rectangle(image, (x, horizon - h), (w, h), tuple(color))
    pane = tuple(color * rng.uniform(0.35, 0.8)) if chance(rng, 0.7) else _color(rng, 150, 240)
    step_x, step_y = size * rng.uniform(0.05, 0.1), size * rng.uniform(0.06, 0.12)
    for column in np.arange(x + step_x * 0.3, x + w - step_x * 0.6, step_x):
        for row in np.arange(horizon - h + step_y * 0.3, horizon - step_y * 0.6, step_y):
            _rectangle(image, (column, row), (step_x * 0.5, step_y * 0.55), pane)


def _tree(rng: np.random.Generator, image: Float32, horizon: int) -> None:
    size = image.shape[0]
    x, reach = size * rng.uniform(-0.1, 1.1), size * rng.uniform(0.05, 0.22)
    foot = horizon + size * rng.uniform(-0.02, 0.06)
    _rectangle(image, (x - reach * 0.07, foot - reach * 1.6), (reach * 0.14 + 1, reach * 1.6), _color(rng, 35, 80, 8))
    green = np.array([rng.uniform(30, 100), rng.uniform(65, 135), rng.uniform(20, 65)])
    for shade in np.linspace(0.55, 1.25, 26):
        center = rng.normal(0, 0.42, 2) * reach + (x, foot - reach * 2)
        axes = (int(reach * rng.uniform(0.12, 0.4)) + 1, int(reach * rng.uniform(0.1, 0.3)) + 1)
        cv2.ellipse(
            image,
            (int(center[0]), int(center[1])),
            axes,
            rng.uniform(0, 180),
            0,
            360,
            tuple(green * shade),
            -1,
            cv2.LINE_AA,
        )


def _clutter(rng: np.random.Generator, size: int, clutter: float) -> Float32:
    """Coloured noise and overlapping shapes: no scene, but every edge direction and contrast."""
    image = np.empty((size, size, 3), dtype=np.float32)
    shared = fractal_noise(rng, size, 6, 0.65)
    for channel, base in enumerate(_color(rng, 60, 190, 30)):
        image[..., channel] = base + 45 * shared + 22 * fractal_noise(rng, size, 4)
    for _ in range(rng.poisson(14 * clutter)):
        center = rng.uniform(0, size, 2)
        corners = center + rng.normal(0, size * rng.uniform(0.04, 0.2), (int(rng.integers(3, 7)), 2))
        hull = cv2.convexHull(corners.astype(np.int32))
        cv2.fillPoly(image, [hull], _color(rng, spread=45), cv2.LINE_AA)
    return image


def _foliage(rng: np.random.Generator, size: int, clutter: float) -> Float32:
    """Leaves, rock, carpet or gravel: one texture with depth in it."""
    del clutter
    tint = np.array(
        ((60, 95, 40), (120, 110, 95), (150, 60, 50), (70, 80, 110))[int(rng.integers(4))], dtype=np.float32
    )
    noise = fractal_noise(rng, size, 6, rng.uniform(0.6, 0.95), int(rng.integers(3, 9)))
    image: Float32 = tint * np.exp(np.float32(0.45) * noise)[..., None] * np.float32(rng.uniform(0.6, 1.4))
    return image


_SCENES: tuple[Callable[[np.random.Generator, int, float], Float32], ...] = (_room, _outdoors, _clutter, _foliage)


def procedural_background(rng: np.random.Generator, size: int, clutter: float) -> Bytes:
    """Draws one background (size, size, 3) uint8 RGB.

    Args:
        rng: Source of randomness.
        size: Side, px.
        clutter: Amount of things in it; 1 is the recipe's.
    """
    scene = _SCENES[int(rng.choice(4, p=[0.36, 0.36, 0.16, 0.12]))]
    image = scene(rng, size, clutter)
    light = fractal_noise(rng, size, 2, 0.5, 2)
    image *= 1 + 0.18 * light[..., None]
    if chance(rng, 0.5):
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 2.5))), dtype=np.float32)
    image += rng.normal(0, rng.uniform(0, 4), image.shape[:2]).astype(np.float32)[..., None]
    result: Bytes = np.clip(image, 0, 255).astype(np.uint8)
    return result


def find_photos(folder: str | Path) -> list[Path]:
    """Lists a folder's images, sorted.

    Raises:
        UserError: It is no folder, or holds no image.
    """
    path = Path(folder)
    if not path.is_dir():
        raise UserError(f"SyntheticPeople: backgrounds folder {str(folder)!r} does not exist")
    photos = sorted(p for p in path.rglob("*") if is_picture(p))
    if not photos:
        raise UserError(
            f"SyntheticPeople: backgrounds folder {str(folder)!r} holds no image ({', '.join(IMAGE_SUFFIXES)})"
        )
    return photos


def _split_photos(photos: list[Path], split: str) -> list[Path]:
    """Keeps a tenth of the photos, one at least, for val and one for test; one or two photos are in every split."""
    if len(photos) < 3:
        return photos
    period = min(len(photos), 10)
    keep = {"val": (period - 2,), "test": (period - 1,), "train": tuple(range(period - 2))}[split]
    return [p for i, p in enumerate(photos) if i % period in keep]


def _read_photos(paths: Sequence[Path], size: int, others: Sequence[Path] = ()) -> Bytes:
    """Reads the middle squares of photos; broken ones are left out and named.

    Args:
        paths: The photos.
        size: Side of the squares, px.
        others: To be read if all of those are broken.

    Raises:
        UserError: None can be read.
    """
    squares, faults = [], []
    for path in paths:
        try:
            squares.append(_read_photo(path, size))
        except UserError as error:
            faults.append(error)
    if not squares and not others:
        raise faults[0]
    for fault in faults:
        log.warning("%s; it is left out of the backgrounds", fault)
    return np.stack(squares) if squares else _read_photos(others, size)


def _read_photo(path: Path, size: int) -> Bytes:
    with named("SyntheticPeople"):
        image = read_image(path, apply_exif=True)
    h, w = image.shape[:2]
    side = min(h, w)
    # The middle square: crops are drawn from it with their own place and scale.
    image = image[(h - side) // 2 : (h + side) // 2, (w - side) // 2 : (w + side) // 2]
    interpolation = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size, size), interpolation=interpolation), dtype=np.uint8)


def background_bank(
    seed: int, split: str, size: int, count: int, clutter: float, folder: str | Path | None = None
) -> Bytes:
    """Makes a split's backgrounds.

    Args:
        seed: The data set's seed.
        split: Splits draw different ones.
        size: Side, px.
        count: Number of procedural ones.
        clutter: Amount of things in them.
        folder: Photos to use instead, dealt out to the splits; one or two photos are in every split, broken ones in
            none, and a split of which all are broken has the other splits'.

    Returns:
        (n, size, size, 3) uint8 RGB.
    """
    if folder is not None:
        photos = find_photos(folder)
        own = _split_photos(photos, split)
        chosen = stream(seed, split, BACKGROUND).permutation(len(own))[:_MOST_PHOTOS]
        others = sorted({*photos} - {*own})[:_MOST_PHOTOS]
        return _read_photos([own[i] for i in sorted(chosen)], size, others)
    return np.stack([procedural_background(stream(seed, split, BACKGROUND, i), size, clutter) for i in range(count)])
