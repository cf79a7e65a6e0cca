"""Rendered layers, kept: drawn once by parallel processes into one block of bytes, then composited afresh every epoch.

The block is an anonymous memory map (or a file's, with a cache folder), so that forked loader workers read it in place.
"""

from __future__ import annotations

import hashlib
import mmap
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from posekit.data.synthetic.motion import FrameSampler
from posekit.data.synthetic.options import Difficulty
from posekit.data.synthetic.person import Layer, draw_layer, label_dtype
from posekit.data.synthetic.streams import PERSON, stream
from posekit.skeletons import get_skeleton

Bytes = NDArray[np.uint8]

# Part of every cache file's name: raise it when the renderer's output changes.
RENDERER_VERSION = 1
_CHUNK = 32
_RECTANGLE = np.dtype([("offset", "i8"), ("x", "i4"), ("y", "i4"), ("width", "i4"), ("height", "i4")])


@dataclass(frozen=True)
class LayerSettings:
    """What a layer depends on, besides its index.

    Attributes:
        seed: The data set's seed.
        split: ``"train"``, ``"val"`` or ``"test"``.
        size: (W, H) the layer is framed for, px.
        options: The difficulty.
        skeleton: Joint set of the labels.
    """

    seed: int
    split: str
    size: tuple[int, int]
    options: Difficulty
    skeleton: str

    def key(self, count: int) -> str:
        """Returns the name of a cache of ``count`` layers."""
        digest = hashlib.sha256(repr((RENDERER_VERSION, self, count)).encode()).hexdigest()
        return f"{self.split}-{digest[:20]}"


@lru_cache(maxsize=3)
def frame_sampler(split: str) -> FrameSampler:
    """Returns a split's motion, loaded once per process."""
    return FrameSampler(split)


def render_layer(settings: LayerSettings, index: int) -> Layer:
    """Renders one layer: a pure function of its arguments."""
    rng = stream(settings.seed, settings.split, PERSON, index)
    return draw_layer(rng, frame_sampler(settings.split), settings.options, settings.size, settings.skeleton)


class LayerStore:
    """Layers by index: all of them in memory, or each rendered when asked for.

    Args:
        settings: What the layers are.
        count: How many.
        cached: Whether to render all of them now.
        workers: Rendering processes; None takes every core this process may use.
        folder: Where to keep them between runs; None keeps them in memory only.
    """

    def __init__(
        self,
        settings: LayerSettings,
        count: int,
        cached: bool = True,
        workers: int | None = None,
        folder: Path | None = None,
    ) -> None:
        self.settings = settings
        self.count = count
        self._pixels: Bytes | None = None
        if not cached:
            return
        path = folder / settings.key(count) if folder is not None else None
        if path is not None and path.is_dir():
            self._load(path)
            return
        self._pixels, self._rectangles, self._labels = _render_all(settings, count, workers)
        if path is not None:
            self._save(path)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Layer:
        """Returns a layer; its pixels are a view of the block."""
        if self._pixels is None:
            return render_layer(self.settings, index)
        r = self._rectangles[index]
        height, width, offset = int(r["height"]), int(r["width"]), int(r["offset"])
        rgba = self._pixels[offset : offset + height * width * 4].reshape(height, width, 4)
        return Layer(rgba, (int(r["x"]), int(r["y"])), self._labels[index])

    def _load(self, path: Path) -> None:
        self._pixels = np.load(path / "pixels.npy", mmap_mode="r")
        self._rectangles, self._labels = np.load(path / "rectangles.npy"), np.load(path / "labels.npy")

    def _save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written beside its place and renamed: a run that dies, or a second rank, leaves no half a cache.
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            for name, array in (("pixels", self._pixels), ("rectangles", self._rectangles), ("labels", self._labels)):
                np.save(temporary / f"{name}.npy", np.asarray(array))
            temporary.rename(path)
        except OSError:
            if not path.is_dir():  # else another process was first, with the same bytes
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


Chunk = tuple[bytes, NDArray[Any], NDArray[Any]]


def _render_chunk(settings: LayerSettings, start: int, stop: int) -> Chunk:
    layers = [render_layer(settings, index) for index in range(start, stop)]
    rectangles = np.zeros(len(layers), dtype=_RECTANGLE)
    labels = np.zeros(len(layers), dtype=label_dtype(len(get_skeleton(settings.skeleton))))
    offset = 0
    for row, layer in enumerate(layers):
        height, width = layer.rgba.shape[:2]
        rectangles[row] = (offset, *layer.origin, width, height)
        labels[row] = layer.labels
        offset += layer.rgba.size
    return b"".join(layer.rgba.tobytes() for layer in layers), rectangles, labels


def _single_threaded() -> None:
    cv2.setNumThreads(0)


def _available_cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _chunks(settings: LayerSettings, count: int, workers: int) -> Iterator[Chunk]:
    bounds = [(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    if workers <= 1 or len(bounds) < 3:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(0)
        try:
            yield from (_render_chunk(settings, *b) for b in bounds)
        finally:
            cv2.setNumThreads(threads)
        return
    # Forking costs nothing and needs no importable main module; elsewhere the platform's own way is the safe one.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    with ProcessPoolExecutor(min(workers, len(bounds)), mp_context=context, initializer=_single_threaded) as pool:
        try:
            starts, stops = zip(*bounds, strict=True)
            yield from pool.map(_render_chunk, [settings] * len(bounds), starts, stops)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _render_all(settings: LayerSettings, count: int, workers: int | None) -> tuple[Bytes, NDArray[Any], NDArray[Any]]:
    """Renders layers 0 .. count - 1, in order whatever process was first."""
    cores = workers if workers is not None else _available_cores()
    # Address space for the largest possible layers; pages that are never written take no memory.
    width, height = settings.size
    block = np.frombuffer(mmap.mmap(-1, max(1, count * width * height * 4)), dtype=np.uint8)
    rectangles, labels, used = [], [], 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"Drawing {settings.split} people", total=count)
        for data, rows, records in _chunks(settings, count, cores):
            block[used : used + len(data)] = np.frombuffer(data, dtype=np.uint8)
            rows["offset"] += used
            used += len(data)
            rectangles.append(rows)
            labels.append(records)
            progress.advance(task, len(rows))
    return block[:used], np.concatenate(rectangles), np.concatenate(labels)
