"""MATLAB's files: those of version 7.3, which are HDF5, and arrays whose axes come in either order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Bool, Float64
from posekit.errors import UserError, one_line
from posekit.mat5 import read_mat5

_HDF5 = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: Path) -> bool:
    """Tells whether a file is HDF5; MATLAB puts a head of its own in front."""
    try:
        with path.open("rb") as file:
            head = file.read(520)
    except OSError:
        return False
    return head.startswith(_HDF5) or head[512:520] == _HDF5


def read_arrays(path: Path, names: Sequence[str], what: str, optional: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Reads numeric arrays of a .mat file of any version, or of any HDF5 file.

    HDF5 holds MATLAB's arrays with their axes reversed; they are given as the file has them.

    Args:
        path: The file.
        names: The arrays it must hold, with ``/`` for groups.
        what: What to call it in messages.
        optional: Arrays that may be absent.

    Raises:
        UserError: It is absent, broken, or lacks an array.
    """
    if path.is_file() and is_hdf5(path):
        return _read_hdf5(path, names, what, optional)
    content = read_mat5(path, names, what)
    return {name: np.asarray(content[name]) for name in [*names, *optional] if content.get(name) is not None}


def _read_hdf5(path: Path, names: Sequence[str], what: str, optional: Sequence[str]) -> dict[str, NDArray[Any]]:
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError:
        raise UserError(f'{what} {path} is HDF5, which needs h5py: pip install "posekit[mat]"') from None
    try:
        with h5py.File(path, "r") as file:
            missing = [name for name in names if not isinstance(file.get(name), h5py.Dataset)]
            if missing:
                there = ", ".join(list(file)[:12])
                raise UserError(f"{what} {path} has no array {', '.join(missing)}; it has {there}")
            wanted = [*names, *(name for name in optional if isinstance(file.get(name), h5py.Dataset))]
            return {name: np.asarray(file[name][()]) for name in wanted}
    except UserError:
        raise
    except Exception as error:  # HDF5's library raises whatever the bytes lead it to
        raise UserError(f"{what} {path} is truncated or no HDF5 file ({one_line(error)})") from None


def flags(array: NDArray[Any], label: str) -> Bool:
    """Returns (N,) which numbers of an array are above 0.

    Args:
        array: Of any shape.
        label: File and name, for the message.

    Raises:
        UserError: It does not hold numbers.
    """
    if array.dtype.kind not in "fiub":
        raise UserError(f"{label} is of {array.dtype}, not of numbers")
    return np.asarray(array.reshape(-1) > 0)


def frames_first(array: NDArray[Any], shape: Sequence[int], label: str) -> Float64:
    """Brings an array of all frames to (N, *shape): its axes may be reversed, and it may have others of length 1.

    Args:
        array: The array.
        shape: Of one frame, e.g. ``(17, 3)``.
        label: File and name, for the message.

    Raises:
        UserError: It has another shape, or does not hold numbers.
    """
    if array.dtype.kind not in "fiub":
        raise UserError(f"{label} is of {array.dtype}, not of numbers")
    shape = tuple(shape)
    orders = [(array, False), (array.transpose(), True)]
    if array.ndim == len(shape) + 2 and array.shape[-2] == 1 and array.shape[1] != 1:
        orders.reverse()  # (3, 17, 1, F), whatever F is: 3DHP's axis of length 1 stands beside that of the frames
    for found, reverse in orders:
        sizes = list(found.shape)
        # Of the axes of length 1, those that the frame's shape does not explain are dropped; the first one stays.
        while len(sizes) > len(shape) + 1 and 1 in sizes[1:]:
            sizes.pop(1 + sizes[1:].index(1))
        if len(sizes) == len(shape):  # a single frame whose last axis MATLAB has dropped
            sizes = [1, *sizes] if reverse or array.shape == shape else sizes
        if tuple(sizes[1:]) == shape:
            return np.asarray(found, dtype=np.float64).reshape(sizes)
    raise UserError(f"{label} has shape {array.shape}, expected (frames, {', '.join(map(str, shape))})")
