"""What a real camera does to a finished picture: defocus, colours, sensor noise, compression."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from posekit.arrays import Bytes, Float32
from posekit.data.synthetic.options import Difficulty
from posekit.data.synthetic.patterns import smooth_noise
from posekit.data.synthetic.streams import chance


def _floats(image: Any) -> Float32:
    return np.asarray(image, dtype=np.float32)


@lru_cache(maxsize=1)
def _noise_pool() -> Float32:
    """One block of sensor noise, half of it fine, half of it as coarse as after demosaicking and scaling."""
    rng = np.random.default_rng(20240504)
    fine = rng.normal(size=(1 << 17, 3)).astype(np.float32)
    coarse = smooth_noise(rng, (0.7, 0.7), 256).reshape(-1, 1)
    luminance = np.concatenate([coarse, coarse]).astype(np.float32)
    return (np.float32(0.5) * fine + luminance).astype(np.float32)


def _blur(rng: np.random.Generator, canvas: Float32, strength: float) -> Float32:
    height, width = canvas.shape[:2]
    scale = height / 128
    if chance(rng, 0.25 * strength):
        canvas = _floats(cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.4, 1.3)) * scale))
    elif chance(rng, 0.1 * strength):
        length = int(rng.integers(3, 8) * scale) | 1
        kernel = np.zeros((length, length), dtype=np.float32)
        angle = rng.uniform(0, np.pi)
        arm = np.array([np.cos(angle), np.sin(angle)]) * (length // 2)
        middle = length // 2
        start, end = (tuple(int(v) for v in np.rint(middle + sign * arm)) for sign in (-1, 1))
        cv2.line(kernel, start, end, 1.0, 1)
        canvas = _floats(cv2.filter2D(canvas, -1, kernel / kernel.sum()))
    elif chance(rng, 0.15 * strength):
        factor = rng.uniform(0.35, 0.8)
        small = (max(8, int(width * factor)), max(8, int(height * factor)))
        coarse = cv2.resize(canvas, small, interpolation=cv2.INTER_AREA)
        canvas = _floats(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR))
    return canvas


def _recolor(rng: np.random.Generator, canvas: Float32, strength: float) -> Float32:
    """Gain, contrast, white balance and saturation as one affine map of RGB."""
    gain = np.exp(rng.normal(0, 0.18 * strength))
    contrast = np.exp(rng.normal(0, 0.14 * strength))
    balance = np.exp(rng.normal(0, 0.05 * strength, 3))
    saturation = 0.0 if chance(rng, 0.06 * strength) else np.exp(rng.normal(0, 0.25 * strength))
    gray = np.array([0.299, 0.587, 0.114])
    matrix = np.diag(balance) @ (saturation * np.eye(3) + (1 - saturation) * np.tile(gray, (3, 1))) * gain * contrast
    offset = np.full(3, 115 * (1 - contrast)) * gain
    return _floats(cv2.transform(canvas, np.concatenate([matrix, offset[:, None]], 1).astype(np.float32)))


def photograph(rng: np.random.Generator, canvas: Float32, options: Difficulty) -> Bytes:
    """Blurs, recolours, adds noise and compresses a canvas (H, W, 3) in 0..255; returns uint8 RGB."""
    canvas = develop(rng, canvas, options)
    if options.noise > 0:
        canvas = add_noise(rng, canvas, rng.gamma(1.5, 2.2) * options.noise)
    image: Bytes = np.clip(canvas, 0, 255, out=canvas).astype(np.uint8)
    if chance(rng, min(0.5 * options.noise, 1.0)):
        image = compress(image, int(rng.integers(30, 95)))
    return image


def photograph_clip(rng: np.random.Generator, canvases: list[Float32], options: Difficulty) -> list[Bytes]:
    """Photographs the frames of a clip (H, W, 3) with one camera: only the noise differs from frame to frame."""
    state = rng.bit_generator.state
    developed = []
    for canvas in canvases:
        rng.bit_generator.state = state
        developed.append(develop(rng, canvas, options))
    level = rng.gamma(1.5, 2.2) * options.noise
    quality = int(rng.integers(30, 95)) if chance(rng, min(0.5 * options.noise, 1.0)) else None
    images = []
    for canvas in developed:
        noisy = add_noise(rng, canvas, level) if options.noise > 0 else canvas
        image: Bytes = np.clip(noisy, 0, 255).astype(np.uint8)
        images.append(image if quality is None else compress(image, quality))
    return images


def develop(rng: np.random.Generator, canvas: Float32, options: Difficulty) -> Float32:
    """Blurs and recolours a canvas (H, W, 3)."""
    if options.blur > 0:
        canvas = _blur(rng, canvas, options.blur)
    if options.color > 0:
        canvas = _recolor(rng, canvas, options.color)
    return canvas


def add_noise(rng: np.random.Generator, canvas: Float32, level: float) -> Float32:
    """Adds sensor noise of a level in 0..255 to a canvas (H, W, 3)."""
    pool = _noise_pool()
    pixels = canvas.shape[0] * canvas.shape[1]
    if pixels > len(pool):  # it is used again and again
        start = int(rng.integers(len(pool)))
        noise = pool[(start + np.arange(pixels)) % len(pool)]
    else:
        start = int(rng.integers(len(pool) - pixels + 1))
        noise = pool[start : start + pixels]
    return canvas + np.float32(level) * noise.reshape(canvas.shape)


def compress(image: Bytes, quality: int) -> Bytes:
    """Sends a picture (H, W, 3) through a JPEG coder."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    # The coder is told BGR and given RGB both ways, which only swaps the roles of two channels in its colour model.
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)
