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
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from posekit.arrays import Bytes
from posekit.data.loader import single_threaded
from posekit.data.synthetic.camera import sample_view
from posekit.data.synthetic.clip_motion import frame_sampler
from posekit.data.synthetic.domain import restyle
from posekit.data.synthetic.options import Difficulty
from posekit.data.synthetic.person import Layer, label_dtype, render, sample_person
from posekit.data.synthetic.streams import PERSON, STYLE, stream
from posekit.files import write_array
from posekit.skeletons import get_skeleton

# A folder for what is rendered, where no argument names one: a table's runs share it.
RENDERED_FOLDER = "POSEKIT_RENDERED"
# How the names of temporary ones begin, which the processes of one run share.
TEMPORARY = "posekit-drawn-"
# Part of every cache file's name: raise it when the renderer's output changes.
RENDERER_VERSION = 4
MENTIONED = 1000  # so many take long enough to say so
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
        domain: Appearance: ``"source"``, ``"target"`` or None.
    """

    seed: int
    split: str
    size: tuple[int, int]
    options: Difficulty
    skeleton: str
    domain: str | None = None

    @property
    def dtype(self) -> np.dtype[np.void]:
        """The record of a layer's labels."""
        return label_dtype(len(get_skeleton(self.skeleton)))

    @property
    def group(self) -> int:
        """Layers per item: one, or a clip's frames."""
        return 1

    def render(self, index: int) -> list[Layer]:
        """Renders an item's layers: a pure function of settings and index."""
        return [render_layer(self, index)]

    def key(self, count: int) -> str:
        """Returns the name of a cache of ``count`` layers."""
        digest = hashlib.sha256(repr((RENDERER_VERSION, self, count)).encode()).hexdigest()
        return f"{self.split}-{digest[:20]}"


def render_layer(settings: LayerSettings, index: int) -> Layer:
    """Renders one person: a pure function of its arguments."""
    rng = stream(settings.seed, settings.split, PERSON, index)
    person = sample_person(rng, frame_sampler(settings.split), settings.options)
    view = sample_view(rng, settings.options)
    person = restyle(person, settings.domain, stream(settings.seed, settings.split, STYLE, index))
    return render(rng, person, view, settings.size, settings.skeleton)


class LayerStore:
    """Items of one layer, or of a clip's layers, by index: all of them in memory, or each rendered when asked for.

    Args:
        settings: What the layers are.
        count: How many items.
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
        damaged = path is not None and path.is_dir()
        if path is not None and damaged and self._load(path):
            return
        self._pixels, self._rectangles, self._labels = _render_all(settings, count, workers)
        if path is not None:
            self._save(path, damaged)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Layer:
        """Returns an item's only, or first, layer; its pixels are a view of the block."""
        return self.clip(index)[0]

    def clip(self, index: int) -> list[Layer]:
        """Returns all layers of an item."""
        if self._pixels is None:
            return self.settings.render(index)
        group = self.settings.group
        return [self._layer(self._pixels, row) for row in range(index * group, (index + 1) * group)]

    def _layer(self, pixels: Bytes, row: int) -> Layer:
        r = self._rectangles[row]
        height, width, offset = int(r["height"]), int(r["width"]), int(r["offset"])
        rgba = pixels[offset : offset + height * width * 4].reshape(height, width, 4)
        return Layer(rgba, (int(r["x"]), int(r["y"])), self._labels[row])

    def _load(self, path: Path) -> bool:
        """Maps a folder's files into memory; tells whether they are whole, and says so where they are not."""
        try:
            pixels, rectangles, labels = (_array(path / f"{name}.npy") for name in ("pixels", "rectangles", "labels"))
        except (ValueError, FileNotFoundError):
            whole = False
        else:
            rows = (self.count * self.settings.group,)
            known = pixels.dtype == np.uint8 and rectangles.dtype == _RECTANGLE and labels.dtype == self.settings.dtype
            whole = known and rectangles.shape == labels.shape == rows and _fill(rectangles, pixels)
        if not whole:
            said = f"SyntheticPeople: the folder {path} of drawn people is damaged; they are drawn anew"
            Console(stderr=True).print(said, soft_wrap=True, markup=False)
            return False
        self._pixels, self._rectangles, self._labels = pixels, np.array(rectangles), np.array(labels)
        return True

    def _save(self, path: Path, damaged: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written beside its place and renamed: a run that dies, or a second rank, leaves no half a cache.
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        # The temporary folder is its owner's alone; one made in it is of the usual mode, for all who share the cache.
        made = temporary / path.name
        try:
            made.mkdir()
            for name, array in (("pixels", self._pixels), ("rectangles", self._rectangles), ("labels", self._labels)):
                write_array(made / f"{name}.npy", np.asarray(array))
            if damaged:
                with suppress(FileNotFoundError):  # another process has just done so
                    path.rename(temporary / "damaged")
            made.rename(path)
        except OSError as error:
            if not path.is_dir():  # else another process was first, with the same bytes
                error.filename = str(path)  # the temporary one is gone
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _array(path: Path) -> NDArray[Any]:
    """Maps an array, of which nothing is read yet.

    Raises:
        ValueError: The file holds another thing, or is cut short.
        OSError: It is absent, or cannot be read.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # a header of changed bytes raises whatever its parser says
        raise ValueError("no array") from error
    if not isinstance(found, np.ndarray):
        raise ValueError("an archive")
    return found


def _fill(rectangles: NDArray[Any], pixels: NDArray[Any]) -> bool:
    """Tells whether the pictures of rectangles (N,) lie one behind the other in the pixels, to their end."""
    sizes = 4 * rectangles["width"].astype(np.int64) * rectangles["height"]
    return bool((np.cumsum(sizes) - sizes == rectangles["offset"]).all() and pixels.shape == (sizes.sum(),))


Chunk = tuple[bytes, NDArray[Any], NDArray[Any]]


def _render_chunk(settings: LayerSettings, start: int, stop: int) -> Chunk:
    layers = [layer for index in range(start, stop) for layer in settings.render(index)]
    rectangles = np.zeros(len(layers), dtype=_RECTANGLE)
    labels = np.zeros(len(layers), dtype=settings.dtype)
    offset = 0
    for row, layer in enumerate(layers):
        height, width = layer.rgba.shape[:2]
        rectangles[row] = (offset, *layer.origin, width, height)
        labels[row] = layer.labels
        offset += layer.rgba.size
    return b"".join(layer.rgba.tobytes() for layer in layers), rectangles, labels


def _available_cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _prepare_worker() -> None:
    """Sets up a rendering process, which ends when its parent does, however that ended."""
    single_threaded()
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    # An orphan gets another parent; where it does not, as on Windows or below a fork server, the handle tells. That
    # alone would not do: forked siblings hold each other's open.
    handle = multiprocessing.parent_process()
    while os.getppid() == parent and (handle is None or handle.is_alive()):
        time.sleep(0.5)
    os._exit(1)


def _chunks(settings: LayerSettings, count: int, workers: int) -> Iterator[Chunk]:
    chunk = max(1, _CHUNK // settings.group)
    bounds = [(start, min(start + chunk, count)) for start in range(0, count, chunk)]
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
    with ProcessPoolExecutor(min(workers, len(bounds)), mp_context=context, initializer=_prepare_worker) as pool:
        try:
            starts, stops = zip(*bounds, strict=True)
            yield from pool.map(_render_chunk, [settings] * len(bounds), starts, stops)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _render_all(settings: LayerSettings, count: int, workers: int | None) -> tuple[Bytes, NDArray[Any], NDArray[Any]]:
    """Renders items 0 .. count - 1, in order whatever process was first."""
    cores = workers if workers is not None else _available_cores()
    chunks: list[bytes] = []
    rectangles, labels, used = [], [], 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    what = "people" if settings.group == 1 else "clips"
    if count >= MENTIONED and not console.is_terminal:  # notebooks and logs, which have no bar
        hint = "cache: false draws them as they are used"
        console.print(f"SyntheticPeople: drawing {count:,} {what} of split {settings.split}; {hint}", soft_wrap=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"Drawing {settings.split} {what}", total=count)
        for data, rows, records in _chunks(settings, count, cores):
            rows["offset"] += used
            used += len(data)
            chunks.append(data)
            rectangles.append(rows)
            labels.append(records)
            progress.advance(task, len(rows) // settings.group)
    return _joined(chunks, used), np.concatenate(rectangles), np.concatenate(labels)


def _joined(chunks: list[bytes], size: int) -> Bytes:
    """Moves chunks into one shared block, freeing each as soon as it is copied, so that nothing is held twice."""
    block = np.frombuffer(mmap.mmap(-1, max(1, size)), dtype=np.uint8)
    used = 0
    for index, data in enumerate(chunks):
        block[used : used + len(data)] = np.frombuffer(data, dtype=np.uint8)
        used += len(data)
        chunks[index] = b""
    return block[:used]
