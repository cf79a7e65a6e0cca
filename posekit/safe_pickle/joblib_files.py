"""What ``joblib.dump`` wrote: a pickle with the arrays' bytes in between, whole or compressed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from posekit.errors import UserError
from posekit.safe_pickle.reader import guarded, load_object_array, permitted
from posekit.safe_pickle.sharing import check_sharing
from posekit.safe_pickle.stand_ins import (
    ARRAY_CLASS,
    PLAIN_NAMES,
    PlainType,
    RefusedPickleError,
    check_text,
    plain_dtype,
    shown,
)

_CHUNK = 1 << 16


class _Wrapper:
    """Stands for joblib's ``NumpyArrayWrapper``: the array's bytes follow in the file."""

    FIELDS: ClassVar[tuple[str, ...]] = ("subclass", "shape", "order", "dtype", "numpy_array_alignment_bytes")

    subclass: Any = None
    shape: tuple[int, ...] = ()
    order: str = "C"
    dtype: Any = None
    numpy_array_alignment_bytes: int | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({name: state[name] for name in self.FIELDS if name in state})

    def read(self, file: IO[bytes]) -> NDArray[Any]:
        """Reads the array behind the wrapper."""
        if self.subclass is not ARRAY_CLASS or not isinstance(self.dtype, PlainType):
            raise RefusedPickleError(f"a subclass of numpy.ndarray ({shown(self.subclass)})")
        if self.dtype.dtype.hasobject:
            found = load_object_array(file)
            if not isinstance(found, np.ndarray):
                raise RefusedPickleError("an array of objects that is none")
            return found
        if self.numpy_array_alignment_bytes is not None:
            padding = file.read(1)[0]
            file.read(padding)
        kind = plain_dtype(self.dtype)
        count = math.prod(int(n) for n in self.shape)
        raw = file.read(count * kind.itemsize)
        array = np.frombuffer(bytearray(raw), dtype=kind, count=count)
        check_text(array)
        return array.reshape(self.shape, order="F" if self.order == "F" else "C")


_JOBLIB_NAMES = PLAIN_NAMES | {
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): _Wrapper,
    ("sklearn.externals.joblib.numpy_pickle", "NumpyArrayWrapper"): _Wrapper,
}


class _JoblibUnpickler(pickle._Unpickler):
    """The unpickler in Python, because arrays have to be read from the file in between."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")
        self.file = file

    def find_class(self, module: str, name: str) -> Any:
        return permitted(_JOBLIB_NAMES, module, name)

    def persistent_load(self, pid: Any) -> Any:
        raise RefusedPickleError(f"the persistent object {shown(pid)}")

    def load_build(self) -> None:
        super().load_build()  # type: ignore[misc]
        stack: list[Any] = self.stack  # type: ignore[attr-defined]
        if isinstance(stack[-1], _Wrapper):
            stack.append(stack.pop().read(self.file))

    dispatch[pickle.BUILD[0]] = load_build


def load_joblib(path: str | Path, what: str = "file") -> Any:
    """Reads what ``joblib.dump`` wrote, whole or compressed by zlib, gzip, bz2, xz or lzma; the same rules hold.

    Args:
        path: The file.
        what: What to call it in messages.

    Raises:
        UserError: It is absent or broken, compressed by LZ4, or names anything but plain data.
    """
    path = Path(path)
    return guarded(path, what, lambda file: check_sharing(_JoblibUnpickler(_decompressed(path, what, file)).load()))


class _Inflated(io.RawIOBase):
    """What a file compressed by zlib holds, decompressed as it is read: a small file may hold a thousand times more."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._inflate = zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._inflate.eof:
            chunk = self._inflate.unconsumed_tail or self._file.read(_CHUNK)
            data = self._inflate.decompress(chunk, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
            if not chunk:
                raise EOFError("it ends within its compressed data")
        return 0


def _decompressed(path: Path, what: str, file: IO[bytes]) -> IO[bytes]:
    head = file.read(6)
    file.seek(0)
    if head.startswith(b"\x04\x22M\x18"):
        hint = "joblib.dump(joblib.load(old), new) writes it whole"
        raise UserError(f"{what} {path} is compressed by LZ4, which is not read: {hint}")
    openers: dict[bytes, Callable[[], IO[bytes]]] = {
        b"\x1f\x8b": lambda: cast(IO[bytes], gzip.GzipFile(fileobj=file)),
        b"BZh": lambda: cast(IO[bytes], bz2.BZ2File(file)),
        b"\xfd7zXZ": lambda: cast(IO[bytes], lzma.LZMAFile(file)),  # noqa: SIM115
        b"\x5d\x00": lambda: cast(IO[bytes], lzma.LZMAFile(file)),  # noqa: SIM115
    }
    for magic, opener in openers.items():
        if head.startswith(magic):
            return opener()
    if head[:1] == b"x":
        return io.BufferedReader(_Inflated(file), _CHUNK)
    return file
