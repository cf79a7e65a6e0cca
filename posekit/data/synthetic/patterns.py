"""Small tileable textures: cloth patterns, folds and noise, made once per process from a fixed seed."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from posekit.arrays import Float32

TILE = 64  # px, a power of two: tiles are indexed with a bit mask


def smooth_noise(rng: np.random.Generator, sigma: tuple[float, float], size: int = TILE) -> Float32:
    """Returns tileable Gaussian noise (size, size) of mean 0 and deviation 1; ``sigma`` is its grain in x and y, px."""
    frequency = np.fft.fftfreq(size)
    gauss = [np.exp(-2 * (np.pi * s * frequency) ** 2) for s in sigma]
    spectrum = np.fft.fft2(rng.normal(size=(size, size))) * gauss[1][:, None] * gauss[0][None]
    noise = np.fft.ifft2(spectrum).real
    result: Float32 = ((noise - noise.mean()) / (noise.std() + 1e-9)).astype(np.float32)
    return result


@lru_cache(maxsize=1)
def cloth_tiles() -> Float32:
    """Returns (P, TILE, TILE) mixing weights in [0, 1] between a garment's two colours."""
    rng = np.random.default_rng(20240501)
    v, u = np.mgrid[:TILE, :TILE] / TILE
    tiles = []
    for waves, width in ((2, 0.5), (4, 0.5), (8, 0.5), (3, 0.2), (6, 0.8)):
        tiles.append((v * waves) % 1 < width)  # hoops
        tiles.append((u * waves) % 1 < width)  # pin stripes
        tiles.append(((u + v) * waves) % 1 < width)
    for waves in (2, 4, 8):
        tiles.append(((u * waves) % 1 < 0.5) ^ ((v * waves) % 1 < 0.5))  # checks
        tiles.append(((u * waves) % 1 < 0.3) * 0.5 + ((v * waves) % 1 < 0.3) * 0.5)  # tartan
        tiles.append(np.hypot((u * waves) % 1 - 0.5, (v * waves) % 1 - 0.5) < 0.28)  # dots
    for sigma in (1.2, 2.0, 3.5, 6.0):
        noise = smooth_noise(rng, (sigma, sigma))
        tiles.append(noise > 0.3)  # blotches
        tiles.append(np.clip(0.5 + 0.35 * noise, 0, 1))
        other = smooth_noise(rng, (sigma, sigma))
        tiles.append((noise > 0.2) * 0.5 + (other > 0.3) * 0.5)  # camouflage
    blurred = [
        cv2.GaussianBlur(np.asarray(t, dtype=np.float32), (3, 3), 0.6, borderType=cv2.BORDER_REFLECT) for t in tiles
    ]
    return np.ascontiguousarray(np.stack(blurred).astype(np.float32))


@lru_cache(maxsize=1)
def fold_tiles() -> Float32:
    """Returns (Q, TILE, TILE) shading of folds, mean 0: streaks in several directions and crumpled cloth."""
    rng = np.random.default_rng(20240502)
    tiles = []
    for sigma in ((5.0, 1.6), (1.6, 6.0), (3.0, 3.0), (2.2, 4.5)):
        noise = smooth_noise(rng, sigma)
        tiles.append(np.tanh(noise) * 0.7 + 0.3 * smooth_noise(rng, (1.2, 1.2)) * 0.5)
    return np.ascontiguousarray(np.stack(tiles).astype(np.float32))


@lru_cache(maxsize=1)
def grain_tile() -> Float32:
    """Returns fine noise (TILE, TILE) of mean 0 for skin and hair."""
    rng = np.random.default_rng(20240503)
    return smooth_noise(rng, (0.8, 0.8)) * 0.5 + smooth_noise(rng, (4.0, 4.0)) * 0.5
