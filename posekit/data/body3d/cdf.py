"""Numeric variables of NASA's Common Data Format, the format of Human3.6M's poses.

Written from the format's public description ("CDF Internal Format Description", versions 2.6 to 3). Read are files of
one part and their r- and z-variables, either whole or compressed by gzip, in either byte order and either majority; not
sparse records, and not VAX's floating point.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posekit.errors import UserError

_MAGIC = {0xCDF30001: True, 0xCDF26002: False}  # version 3 has offsets of 8 bytes, version 2 of 4
_COMPRESSED = 0xCCCC0001
_TYPES = {
    1: "i1", 2: "i2", 4: "i4", 8: "i8", 11: "u1", 12: "u2", 14: "u4", 21: "f4", 22: "f8", 41: "i1", 44: "f4", 45: "f8",
}  # fmt: skip
_LITTLE, _BIG = (4, 6, 13, 16, 17), (1, 2, 5, 7, 9, 11, 12, 18)
_GZIP = 5
_CDR, _GDR, _RVDR, _VXR, _VVR, _ZVDR, _CCR, _CPR, _CVVR = 1, 2, 3, 6, 7, 8, 10, 11, 13
_MAX_RECORDS = 100_000  # of the file's own structure, against files that point in circles


class _BadFile(Exception):
    """What is wrong with a file."""


@dataclass(frozen=True)
class _Variable:
    """What the file says of a variable."""

    name: str
    kind: int
    records: int
    dims: tuple[int, ...]
    index: int  # offset of its first index record
    elements: int


class _Cdf:
    """The structure of a file's bytes."""

    def __init__(self, content: bytes) -> None:
        magic, state = self._unpack_from(content, ">II", 0)
        if magic not in _MAGIC:
            raise _BadFile("is no CDF file of version 2.6 to 3")
        self.wide = _MAGIC[magic]
        self._visited = 0
        self.content = content
        if state == _COMPRESSED:
            self.content = content[:8] + self._inflate_file()
        self._read_heads()

    # -- bytes --------------------------------------------------------------------------------------------------------

    @staticmethod
    def _unpack_from(content: bytes, form: str, at: int) -> tuple[Any, ...]:
        if at < 0 or at + struct.calcsize(form) > len(content):
            raise _BadFile("is cut short")
        return struct.unpack_from(form, content, at)

    def _record(self, at: int, *kinds: int) -> tuple[int, int, int]:
        """Returns a record's kind, size, and where its fields begin."""
        form = ">QI" if self.wide else ">II"
        size, kind = self._unpack_from(self.content, form, at)
        self._visited += 1
        if kind not in kinds or size < struct.calcsize(form) or self._visited > _MAX_RECORDS:
            raise _BadFile(f"has a record of kind {kind} at byte {at}, expected {' or '.join(map(str, kinds))}")
        if at + size > len(self.content):
            raise _BadFile("is cut short")
        return kind, size, at + struct.calcsize(form)

    def _fields(self, form: str, at: int) -> tuple[int, ...]:
        """Reads fields; in ``form`` an ``o`` stands for an offset, an ``i`` for a number of 4 bytes."""
        return self._unpack_from(self.content, ">" + form.replace("o", "q" if self.wide else "i"), at)

    def _size_of(self, form: str) -> int:
        return struct.calcsize(">" + form.replace("o", "q" if self.wide else "i"))

    def _inflate(self, parameters: int, packed: bytes) -> bytes:
        _, _, at = self._record(parameters, _CPR)
        (method,) = self._fields("i", at)
        if method != _GZIP:
            raise _BadFile(f"is compressed by method {method}, of which only gzip ({_GZIP}) is read")
        try:
            return gzip.decompress(packed)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise _BadFile(f"has broken compressed data ({error})") from None

    def _inflate_file(self) -> bytes:
        _, size, at = self._record(8, _CCR)
        parameters, _, _ = self._fields("ooi", at)
        start = at + self._size_of("ooi")
        return self._inflate(parameters, self.content[start : 8 + size])

    # -- structure ----------------------------------------------------------------------------------------------------

    def _read_heads(self) -> None:
        _, _, at = self._record(8, _CDR)
        self.head, _, _, encoding, flags = self._fields("oiiii", at)
        self.row_major = bool(flags & 1)
        if not flags & 2:
            raise _BadFile("is spread over several files, which is not read")
        if encoding not in _LITTLE + _BIG:
            raise _BadFile(f"has numbers in encoding {encoding}, which is not read")
        self.order = "<" if encoding in _LITTLE else ">"

    def variables(self) -> Iterator[_Variable]:
        """Yields all variables."""
        _, _, at = self._record(self.head, _GDR)
        form = "oooo" + 5 * "i" + "o" + 3 * "i"
        fields = self._fields(form, at)
        count = fields[7]
        dims = self._dims(count, at + self._size_of(form))
        for start, kind in ((fields[0], _RVDR), (fields[1], _ZVDR)):
            while start > 0:
                start, variable = self._variable(start, kind, dims)
                yield variable

    def _dims(self, count: int, at: int) -> tuple[int, ...]:
        if not 0 <= count <= 10:
            raise _BadFile(f"has a variable of {count} dimensions")
        return self._fields(count * "i", at)

    def _variable(self, at: int, kind: int, dims: tuple[int, ...]) -> tuple[int, _Variable]:
        _, _, at = self._record(at, kind)
        form = "oiioo" + 7 * "i" + "oi"
        fields = self._fields(form, at)
        following, data_type, last, index = fields[:4]
        at += self._size_of(form)
        length = 256 if self.wide else 64
        name = self.content[at : at + length].split(b"\0")[0].decode("latin-1")
        at += length
        if kind == _ZVDR:
            (count,) = self._fields("i", at)
            dims = self._dims(count, at + 4)
            at += 4 + 4 * count
        varies = self._fields(len(dims) * "i", at)
        own = tuple(size if vary else 1 for size, vary in zip(dims, varies, strict=True))
        return following, _Variable(name, data_type, last + 1, own, index, fields[10])

    def read(self, variable: _Variable) -> NDArray[Any]:
        """Returns a variable's numbers (records, *dims)."""
        if variable.kind not in _TYPES or variable.elements != 1:
            raise _BadFile(f"has {variable.name} of data type {variable.kind}, not of numbers")
        dtype = np.dtype(self.order + _TYPES[variable.kind])
        per_record = math.prod(variable.dims)
        if min(variable.dims, default=0) < 0 or variable.records < 0:
            raise _BadFile(f"has {variable.name} of {variable.records} records of shape {variable.dims}")
        if variable.records * per_record * dtype.itemsize > 1 << 34:
            raise _BadFile(f"has {variable.name} of {variable.records} records of shape {variable.dims}: too many")
        parts = []
        expected = 0
        for first, last, raw in self._pieces(variable.index):
            count = (last - first + 1) * per_record
            if first != expected or len(raw) < count * dtype.itemsize:
                raise _BadFile(f"has gaps in the records of {variable.name}")
            parts.append(np.frombuffer(raw, dtype, count))
            expected = last + 1
        if expected < variable.records:
            raise _BadFile(f"has {expected} of {variable.records} records of {variable.name}")
        flat = np.concatenate(parts) if parts else np.zeros(0, dtype)
        records = flat.reshape(expected, per_record)
        shape = variable.dims if self.row_major else variable.dims[::-1]
        whole = records.reshape(expected, *shape)
        return whole if self.row_major else whole.transpose(0, *range(len(shape), 0, -1))

    def _pieces(self, at: int, depth: int = 0) -> Iterator[tuple[int, int, bytes]]:
        """Yields first and last record and the bytes of each block of a variable, in order."""
        while at > 0:
            _, _, fields = self._record(at, _VXR)
            at, total, used = self._fields("oii", fields)
            if not 0 <= used <= total <= 10**6 or depth > 8:
                raise _BadFile(f"has an index with {used} of {total} entries")
            start = fields + self._size_of("oii")
            first = self._fields(total * "i", start)
            last = self._fields(total * "i", start + 4 * total)
            offset = self._fields(total * "o", start + 8 * total)
            for k in range(used):
                yield from self._block(first[k], last[k], offset[k], depth)

    def _block(self, first: int, last: int, at: int, depth: int) -> Iterator[tuple[int, int, bytes]]:
        kind, size, fields = self._record(at, _VVR, _CVVR, _VXR)
        if kind == _VXR:
            yield from self._pieces(at, depth + 1)
        elif kind == _VVR:
            yield first, last, self.content[fields : at + size]
        else:
            _, packed = self._fields("io", fields)
            start = fields + self._size_of("io")
            try:
                yield first, last, gzip.decompress(self.content[start : start + packed])
            except (OSError, EOFError, ValueError, zlib.error) as error:
                raise _BadFile(f"has a block that gzip cannot unpack ({error})") from None


def read_cdf(path: Path, name: str, what: str = "file") -> NDArray[Any]:
    """Reads a variable.

    Args:
        path: The .cdf file.
        name: Of the variable.
        what: What to call the file in messages.

    Returns:
        (records, *dims).

    Raises:
        UserError: The file is absent or broken, or lacks the variable.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise UserError(f"{what} {path} {reason}") from None
    try:
        cdf = _Cdf(content)
        found = {variable.name: variable for variable in cdf.variables()}
        if name in found:
            return cdf.read(found[name])
    except _BadFile as error:
        raise UserError(f"{what} {path} {error}") from None
    raise UserError(f"{what} {path} has no variable {name!r}; it has {', '.join(found) or 'none'}")
