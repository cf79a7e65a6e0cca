"""Reads the arrays of a pickled body model without running anything from the file.

Arrays are those of :mod:`posekit.safe_pickle`, of numbers only; chumpy's and SciPy's classes stand for small classes of
this module that only keep what they are given. Any other name is refused before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np

from posekit.arrays import Array
from posekit.errors import UserError
from posekit.safe_pickle import (
    ARRAY_NAMES,
    CONTAINER_NAMES,
    Named,
    PlainType,
    RefusedPickleError,
    SafeUnpickler,
    guarded,
    shown,
)


class _NumberType(PlainType):
    """Stands for ``numpy.dtype``: a body's arrays are of numbers."""

    PERMITTED = r"b1|[iu][1248]|f[248]"


# Of the stand-ins' states; chumpy's hold much besides.
_USED = ("x", "a", "idxs", "preferred_shape", "_shape", "data", "indices", "indptr")


class _Chumpy:
    """Stands for ``chumpy.ch.Ch``: its array is the entry ``x`` of its state."""

    state: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = {name: state[name] for name in _USED if name in state}


class _Selection(_Chumpy):
    """Stands for ``chumpy.reordering.Select``, a part of another array by its flat indices."""

    def array(self) -> Array:
        """Picks the part out of the array."""
        source, indices = (np.asarray(_resolve(self.state[key])) for key in ("a", "idxs"))
        return source.reshape(-1)[indices].reshape(self.state["preferred_shape"])


class _Sparse(_Chumpy):
    """Stands for ``scipy.sparse.csc_matrix``: data, row indices and column starts."""

    def dense(self) -> Array:
        """Fills a dense array; an index outside the shape is an error of numpy's, not a write outside memory."""
        rows, columns = (int(n) for n in self.state["_shape"])
        data, indices, starts = (_resolve(self.state[key]) for key in ("data", "indices", "indptr"))
        counts = np.diff(starts)
        if len(counts) != columns or (counts < 0).any() or counts.sum() != len(indices):  # it might not fit in memory
            raise ValueError("a sparse matrix whose columns do not fit its data")
        column = np.repeat(np.arange(columns), counts)
        dense = np.zeros((rows, columns), dtype=data.dtype)
        np.add.at(dense, (indices, column), data)
        return dense


def _object(*_: Any) -> Any:
    """Stands for ``object``, the base that old pickles name."""
    raise RefusedPickleError("an object of no class")


def _new_instance(kind: Any, *_: Any) -> _Chumpy:
    if not (isinstance(kind, type) and issubclass(kind, _Chumpy)):
        raise RefusedPickleError(f"copyreg._reconstructor of {shown(kind)}")
    return kind()


_NAMES: dict[tuple[str, str], Any] = {
    **ARRAY_NAMES,
    **{(module, name): CONTAINER_NAMES[module, name] for module, name in CONTAINER_NAMES if name in ("set", "bytes")},
    ("numpy", "dtype"): _NumberType,
    ("chumpy.ch", "Ch"): _Chumpy,
    ("chumpy", "Ch"): _Chumpy,
    ("chumpy.reordering", "Select"): _Selection,
    ("copy_reg", "_reconstructor"): Named(_new_instance),
    ("copyreg", "_reconstructor"): Named(_new_instance),
    ("__builtin__", "object"): Named(_object),
    ("builtins", "object"): Named(_object),
    **{("scipy.sparse." + module, "csc_matrix"): _Sparse for module in ("csc", "_csc")},
}


def _resolve(value: Any) -> Any:
    """Returns the array that a stand-in holds; other values as they are."""
    if isinstance(value, np.ndarray):
        return value.view(np.ndarray)
    if isinstance(value, _Sparse):
        return value.dense()
    if isinstance(value, _Selection):
        return value.array()
    if isinstance(value, _Chumpy):
        if "x" not in value.state:
            raise RefusedPickleError("a chumpy object without the array x")
        return _resolve(value.state["x"])
    return value


def read_pickled_arrays(path: str | Path) -> dict[str, Any]:
    """Reads a pickled dictionary of arrays, for example the official SMPL file; nothing in it is executed.

    Numpy arrays of numbers, ``scipy.sparse.csc_matrix`` (made dense), ``chumpy.ch.Ch`` (its array) and
    ``chumpy.reordering.Select`` (a part of one) are understood, in all pickle protocols of Python 2 and 3, besides
    plain numbers, texts, lists and dictionaries.

    Args:
        path: The file.

    Returns:
        The dictionary, arrays in place of what held them.

    Raises:
        UserError: The file is missing, is no pickle, holds no dictionary, or names anything else, which is said.
    """
    path = Path(path)
    return guarded(
        path, "file", lambda file: _arrays(path, file), "numpy arrays, scipy.sparse.csc_matrix and chumpy arrays"
    )


def _arrays(path: Path, file: IO[bytes]) -> dict[str, Any]:
    content = SafeUnpickler(file, _NAMES).load()
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a pickled {type(content).__name__}, not a dictionary of arrays")
    return {str(key): _resolve(value) for key, value in content.items()}
