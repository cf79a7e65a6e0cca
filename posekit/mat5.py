"""MATLAB's files of versions 5 to 7.2, read with every size checked.

SciPy's reader is compiled code that trusts the sizes in a file: a wrong byte can end the process. Labels need numbers,
texts, cells and structs alone; objects and sparse matrices are passed over. Written from MathWorks' "MAT-File Format".
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from posekit.errors import UserError

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {16: "utf-8", 17: "utf-16", 18: "utf-32", 4: "utf-16", 2: "latin-1", 1: "latin-1"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_LIMIT = 1 << 33  # bytes of one unpacked variable
_DEPTH = 8
_SMALL = 64  # bytes of a struct's field; files hold millions, and many are alike


class _BadFile(Exception):
    """What is wrong with a file."""


class _Element(NamedTuple):
    """A piece of data with its type."""

    kind: int
    data: memoryview


class _Array(NamedTuple):
    """A variable; ``value`` is None for what is passed over."""

    name: str
    value: Any


class _Reader:
    """Reads elements in the file's order of bytes."""

    def __init__(self, order: str, structs: bool) -> None:
        self.order = order
        self.structs = structs
        self._known: dict[bytes, Any] = {}

    def elements(self, data: memoryview) -> Iterator[_Element]:
        """Yields the elements that fill ``data``."""
        at = 0
        while at + 8 <= len(data):
            kind, size = struct.unpack_from(self.order + "II", data, at)
            if kind >> 16:  # a small element: size and type share a word, the data follow in the next
                kind, size, start, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            else:
                start = at + 8
                after = start + size + (0 if kind == _COMPRESSED else -size % 8)
            if start + size > len(data) or (start == at + 4 and size > 4):
                raise _BadFile("is cut short")
            yield _Element(kind, data[start : start + size])
            at = after

    def variable(self, element: _Element) -> _Array:
        """Reads a variable of the file."""
        if element.kind == _COMPRESSED:
            packed = zlib.decompressobj()
            try:
                data = packed.decompress(bytes(element.data), _LIMIT)
            except zlib.error as error:
                raise _BadFile(f"has compressed data that are broken ({error})") from None
            element = next(self.elements(memoryview(data)), _Element(0, element.data))
        if element.kind != _MATRIX:
            raise _BadFile(f"has data of kind {element.kind} where a variable belongs")
        return self.array(element.data)

    def array(self, data: memoryview, depth: int = 0) -> _Array:
        """Reads an array; an empty one has no parts at all."""
        if not len(data):
            return _Array("", np.zeros((0, 0)))
        if depth > _DEPTH:
            raise _BadFile("has cells in cells in cells")
        parts = self.elements(data)
        flags, sizes, label = (next(parts, None) for _ in range(3))
        if flags is None or sizes is None or label is None or len(flags.data) < 4:
            raise _BadFile("has a variable without a head")
        (word,) = struct.unpack_from(self.order + "I", flags.data)
        shape = tuple(int(n) for n in self._numbers(sizes))
        if not shape or min(shape) < 0 or math.prod(shape) > _LIMIT:
            raise _BadFile(f"has a variable of shape {shape}")
        name = bytes(label.data).decode("latin-1")
        kind = word & 0xFF
        if kind == _CELL:
            return _Array(name, self._cells(parts, shape, depth))
        if kind == _STRUCT and self.structs:
            return _Array(name, self._structs(parts, shape, depth))
        if kind == _CHAR:
            return _Array(name, self._text(next(parts, None), shape))
        if kind in _CLASSES and not word & 0x0800:  # no imaginary part
            return _Array(name, self._filled(next(parts, None), shape, _CLASSES[kind]))
        return _Array(name, None)

    def _numbers(self, element: _Element) -> NDArray[Any]:
        if element.kind not in _NUMBERS:
            raise _BadFile(f"has data of kind {element.kind} where numbers belong")
        dtype = np.dtype(self.order + _NUMBERS[element.kind])
        return np.frombuffer(element.data, dtype, len(element.data) // dtype.itemsize)

    def _filled(self, element: _Element | None, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Returns an array; its numbers may be stored in a smaller type than its own."""
        values = self._numbers(element) if element is not None else np.zeros(0)
        if len(values) < math.prod(shape):
            raise _BadFile(f"has {len(values)} numbers of a variable of shape {shape}")
        with np.errstate(all="ignore"):
            return values[: math.prod(shape)].astype(dtype).reshape(shape, order="F")

    def _cells(self, parts: Iterator[_Element], shape: tuple[int, ...], depth: int) -> NDArray[Any]:
        found = [self.array(part.data, depth + 1).value for part in parts if part.kind == _MATRIX]
        if len(found) != math.prod(shape):
            raise _BadFile(f"has {len(found)} cells of a variable of shape {shape}")
        cells = np.empty(len(found), dtype=object)
        cells[:] = found
        return cells.reshape(shape, order="F")

    def _structs(self, parts: Iterator[_Element], shape: tuple[int, ...], depth: int) -> NDArray[Any]:
        """Returns an array of dictionaries; the file lists struct after struct, each with all fields."""
        width, labels = next(parts, None), next(parts, None)
        if width is None or labels is None or not len(sizes := self._numbers(width)) or sizes[0] < 1:
            raise _BadFile("has a struct without names of fields")
        size, raw = int(sizes[0]), bytes(labels.data)
        names = [raw[at : at + size].split(b"\0")[0].decode("latin-1") for at in range(0, len(raw), size)]
        values = [self._member(part.data, depth + 1) for part in parts if part.kind == _MATRIX]
        count = math.prod(shape)
        if len(values) != count * len(names) or (not names and count > 1):
            raise _BadFile(f"has {len(values)} fields of structs of shape {shape}")
        structs = np.empty(count, dtype=object)
        for row in range(count):
            structs[row] = dict(zip(names, values[row * len(names) : (row + 1) * len(names)], strict=True))
        return structs.reshape(shape, order="F")

    def _member(self, data: memoryview, depth: int) -> Any:
        """Reads a field; small ones that are alike are one object, which cannot be written to."""
        if len(data) > _SMALL:
            return self.array(data, depth).value
        key = bytes(data)
        if key not in self._known:
            value = self.array(data, depth).value
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
            self._known[key] = value
        return self._known[key]

    def _text(self, element: _Element | None, shape: tuple[int, ...]) -> str | NDArray[Any]:
        """Returns a text, or an array of the rows of several."""
        if element is None or element.kind not in _TEXTS:
            return ""
        encoding = _TEXTS[element.kind]
        suffix = ("-le" if self.order == "<" else "-be") if encoding in ("utf-16", "utf-32") else ""
        text = bytes(element.data).decode(encoding + suffix, errors="replace")
        if len(shape) != 2 or shape[0] < 2 or len(text) != math.prod(shape):
            return text
        return np.array([text[row :: shape[0]] for row in range(shape[0])])


def read_mat5(path: Path, names: Sequence[str], what: str, structs: bool = False) -> dict[str, Any]:
    """Reads the variables of a .mat file.

    Args:
        path: The file.
        names: The variables it must hold.
        what: What to call it in messages.
        structs: Read structs as well, which are passed over otherwise.

    Returns:
        By name: arrays of numbers; arrays (dtype object) of cells, or of structs as dictionaries; texts, of several
        rows an array. All arrays have two axes or more, as MATLAB has them, but those of texts. None is what was passed
        over.

    Raises:
        UserError: It is absent, broken or of another version, or lacks a variable.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        absent = "is a folder" if path.is_dir() else "does not exist"
        known = isinstance(error, (FileNotFoundError, IsADirectoryError))
        raise UserError(f"{what} {path} {absent if known else f'cannot be read ({error.strerror})'}") from None
    try:
        found = dict(_variables(content, structs))
    except _BadFile as error:
        raise UserError(f"{what} {path} is truncated or no .mat file: it {error}") from None
    missing = [name for name in names if found.get(name) is None]
    if missing:
        raise UserError(f"{what} {path} has no variable {', '.join(missing)}")
    return found


def _variables(content: bytes, structs: bool) -> Iterator[tuple[str, Any]]:
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None:
        raise _BadFile("does not begin as one of version 5 to 7.2")
    (version,) = struct.unpack_from(order + "H", content, 124)
    if version == 0x0200:
        raise _BadFile("is of version 7.3: save it with -v7")
    reader = _Reader(order, structs)
    for element in reader.elements(memoryview(content)[128:]):
        array = reader.variable(element)
        yield array.name, array.value
