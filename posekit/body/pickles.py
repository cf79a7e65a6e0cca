"""Reads the arrays of a pickled body model without running anything from the file.

A pickle names the callables that rebuild its objects. Here each permitted name stands for a small class of this module
that only keeps what it is given; arrays are rebuilt from that afterwards, with every size checked. Any other name is
refused before it is used.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posekit.errors import UserError

Array = NDArray[Any]


class _Refused(Exception):
    """The pickle asks for something that is not permitted."""


class _Type:
    """Stands for ``numpy.dtype``: numbers only, never objects."""

    def __init__(self, name: str, *_: Any) -> None:
        if not re.fullmatch(r"[<>|=]?(b1|[iu][1248]|f[248])", str(name)):
            raise _Refused(f"arrays of type {name!r}")
        self.dtype = np.dtype(str(name))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for ``numpy.ndarray``; ``__setstate__`` gets version, shape, type, order and bytes."""

    value: Array

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, kind, fortran, content = state[-4:]
        self.value = _from_bytes(content, kind, shape, "F" if fortran else "C")


class _Chumpy:
    """Stands for ``chumpy.ch.Ch``: its array is the entry ``x`` of its state."""

    state: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class _Sparse(_Chumpy):
    """Stands for ``scipy.sparse.csc_matrix``: data, row indices and column starts."""

    def dense(self) -> Array:
        """Fills a dense array; an index outside the shape is an error of numpy's, not a write outside memory."""
        rows, columns = (int(n) for n in self.state["_shape"])
        data, indices, starts = (_resolve(self.state[key]) for key in ("data", "indices", "indptr"))
        column = np.repeat(np.arange(columns), np.diff(starts))
        dense = np.zeros((rows, columns), dtype=data.dtype)
        np.add.at(dense, (indices, column), data)
        return dense


class _Object:
    """Stands for ``object``, the base that old pickles name."""


def _reconstruct(kind: Any, *_: Any) -> _Array:
    if kind is not _Array:
        raise _Refused(f"a subclass of numpy.ndarray ({kind!r})")
    return _Array()


def _new_instance(kind: Any, *_: Any) -> _Chumpy:
    if not (isinstance(kind, type) and issubclass(kind, _Chumpy)):
        raise _Refused(f"copyreg._reconstructor of {kind!r}")
    return kind()


def _from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.value = _from_bytes(content, kind, shape, "F" if order == "F" else "C")
    return array


def _scalar(kind: Any, content: Any) -> _Array:
    return _from_buffer(content, kind, (), "C")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"the encoding {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stands for ``bytes()``, as which old protocols write an empty array's content."""
    return b""


def _from_bytes(content: Any, kind: Any, shape: Any, order: Any) -> Array:
    if not isinstance(kind, _Type):
        raise _Refused("an array without a plain type")
    raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
    sizes = tuple(int(n) for n in (shape if isinstance(shape, (tuple, list)) else (shape,)))
    if min(sizes, default=1) < 0 or math.prod(sizes) * kind.dtype.itemsize != len(raw):
        raise _Refused("an array whose bytes do not fit its shape")
    return np.frombuffer(raw, dtype=kind.dtype).reshape(sizes, order=order)


_PERMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("chumpy.ch", "Ch"): _Chumpy,
    ("chumpy", "Ch"): _Chumpy,
    ("copy_reg", "_reconstructor"): _new_instance,
    ("copyreg", "_reconstructor"): _new_instance,
    ("__builtin__", "object"): _Object,
    ("builtins", "object"): _Object,
    ("__builtin__", "set"): set,
    ("builtins", "set"): set,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
    ("_codecs", "encode"): _encode,
    **{("scipy.sparse." + module, "csc_matrix"): _Sparse for module in ("csc", "_csc")},
}
for _package in ("numpy.core", "numpy._core"):
    _PERMITTED[_package + ".multiarray", "_reconstruct"] = _reconstruct
    _PERMITTED[_package + ".multiarray", "scalar"] = _scalar
    _PERMITTED[_package + ".numeric", "_frombuffer"] = _from_buffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PERMITTED:
            raise _Refused(f"{module}.{name}")
        return _PERMITTED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"the persistent object {pid!r}")


def _resolve(value: Any) -> Any:
    """Returns the array that a stand-in holds; other values as they are."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, _Sparse):
        return value.dense()
    if isinstance(value, _Chumpy):
        if "x" not in value.state:
            raise _Refused("a chumpy object without the array x")
        return _resolve(value.state["x"])
    return value


def read_pickled_arrays(path: str | Path) -> dict[str, Any]:
    """Reads a pickled dictionary of arrays, for example the official SMPL file; nothing in it is executed.

    Numpy arrays of numbers, ``scipy.sparse.csc_matrix`` (made dense) and ``chumpy.ch.Ch`` (its array) are understood,
    in all pickle protocols of Python 2 and 3, besides plain numbers, texts, lists and dictionaries.

    Args:
        path: The file.

    Returns:
        The dictionary, arrays in place of what held them.

    Raises:
        UserError: The file is missing, is no pickle, holds no dictionary, or names anything else, which is said.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="latin1").load()
        if not isinstance(content, dict):
            raise UserError(f"{path} holds a pickled {type(content).__name__}, not a dictionary of arrays")
        return {str(key): _resolve(value) for key, value in content.items()}
    except _Refused as error:
        raise UserError(
            f"{path} is refused: its pickle asks for {_one_line(error)}, and only numpy arrays, "
            "scipy.sparse.csc_matrix and chumpy.ch.Ch are read; nothing of it was run"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except UserError:
        raise
    except Exception as error:  # broken pickles raise whatever their bytes happen to mean
        raise UserError(f"{path} is not a readable pickle: {type(error).__name__}: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return "".join(c if c.isprintable() else " " for c in str(error))[:200]
