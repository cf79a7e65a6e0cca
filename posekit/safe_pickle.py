"""Pickles of plain data, read without running anything that a file names.

A pickle is a program that may call any function by name. Here each name that plain data need stands for a harmless
function of this module or a plain container; any other is refused before it is used. Arrays are NumPy's of numbers,
and texts; arrays of objects hold plain data again. Readers of other files give :class:`SafeUnpickler` their own table.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import pickle
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from posekit.errors import UserError


class RefusedPickleError(Exception):
    """A pickle names something that its reader does not permit."""


class Named:
    """What a name in a pickle stands for: it can be called, and nothing else.

    A bare function or class would let a file set attributes on it, which would outlive the reading.
    """

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *arguments: Any) -> Any:
        """Calls what it stands for."""
        return self._call(*arguments)

    def __repr__(self) -> str:
        return self._call.__name__.strip("_")

    def __setstate__(self, state: Any) -> None:
        """Refuses a state.

        Raises:
            RefusedPickleError: Always.
        """
        raise RefusedPickleError(f"a state of {self!r}")


class PlainType:
    """Stands for ``numpy.dtype``: numbers, texts and objects, never records, whose fields a file could forge."""

    PERMITTED: ClassVar[str] = r"b1|[iu][1248]|f[248]|c8|c16|[SUa]\d{1,6}|O8?"

    def __init__(self, name: Any, *_: Any) -> None:
        text = name if isinstance(name, str) else bytes(name).decode("latin1")
        if not re.fullmatch(rf"[<>|=]?({self.PERMITTED})", text):
            raise RefusedPickleError(f"arrays of type {text[:30]!r}")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Takes over the order of bytes; the rest of a type's state is that of records."""
        if state[1] in ("<", b"<") and not self.dtype.hasobject:
            self.dtype = self.dtype.newbyteorder("<")
        if state[1] in (">", b">") and not self.dtype.hasobject:
            self.dtype = self.dtype.newbyteorder(">")


class _Array(np.ndarray[Any, Any]):
    """An array whose state, as pickles hold it, is checked before NumPy gets it."""

    def __setstate__(self, state: Any) -> None:
        shape, kind, fortran, content = state[-4:]
        if not isinstance(kind, PlainType):
            raise RefusedPickleError("an array without a plain type")
        _check_sizes(shape, kind.dtype, content)
        super().__setstate__((state[0] if len(state) == 5 else 1, shape, kind.dtype, fortran, content))
        _check_text(self)


def _check_sizes(shape: Any, dtype: np.dtype[Any], content: Any) -> None:
    sizes = tuple(int(n) for n in (shape if isinstance(shape, (tuple, list)) else (shape,)))
    if min(sizes, default=1) < 0 or math.prod(sizes) * (1 if dtype.hasobject else dtype.itemsize) != len(content):
        raise ValueError("an array whose bytes do not fit its shape")


def broken_text(array: NDArray[Any]) -> bool:
    """Tells whether an array of text has numbers that are no characters, which end in odd errors of Python."""
    if array.dtype.kind != "U" or not array.size or not array.dtype.itemsize:
        return False
    codes = np.ascontiguousarray(array).reshape(-1).view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
    return bool((codes > 0x10FFFF).any())


def _check_text(array: NDArray[Any]) -> None:
    if broken_text(array):
        raise ValueError("text that is none")


def _array_class(*_: Any) -> Any:
    """Stands for ``numpy.ndarray``, which files name but never call."""
    raise RefusedPickleError("numpy.ndarray of its own sizes")


_ARRAY = Named(_array_class)


def _reconstruct(kind: Any, *_: Any) -> _Array:
    """Makes an empty array, whose state follows."""
    if kind is not _ARRAY:
        raise RefusedPickleError(f"a subclass of numpy.ndarray ({kind!r})")
    return _Array((0,), np.int8)


def _plain(kind: Any) -> np.dtype[Any]:
    if not isinstance(kind, PlainType) or kind.dtype.hasobject:
        raise RefusedPickleError("bytes that stand for objects")
    return kind.dtype


def _scalar(kind: Any, content: Any = None) -> Any:
    raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
    array = np.frombuffer(raw, dtype=_plain(kind), count=1)
    _check_text(array)
    return array[0]


def _from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> NDArray[Any]:
    dtype = _plain(kind)
    _check_sizes(shape, dtype, content)
    array = np.frombuffer(bytearray(content), dtype=dtype).reshape(shape, order="F" if order == "F" else "C")
    _check_text(array)
    return array


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise RefusedPickleError(f"the encoding {encoding!r}")
    return text.encode(encoding)


def _default_dict(factory: Any = None, *content: Any) -> dict[Any, Any]:
    return dict(*content)


_CONTENT = (str, bytes, bytearray, list, tuple, set, frozenset, dict)


def _made_of_content(kind: Callable[..., Any]) -> Named:
    """Permits a container made of data in the file, not one whose size is but a number."""

    def make(*content: Any) -> Any:
        if not all(isinstance(part, _CONTENT) for part in content):
            raise RefusedPickleError(f"{kind.__name__}() of {', '.join(type(part).__name__ for part in content)}")
        return kind(*content)

    return Named(make)


_CONTAINERS = {kind.__name__: kind for kind in (set, frozenset, list, tuple, dict, bytes, bytearray)}
_VALUES = {kind.__name__: kind for kind in (int, float, complex, bool, str, slice, range)}

ARRAY_NAMES: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): Named(_encode),
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): PlainType,
}
"""What arrays and bytes need, by module and name."""

for _package in ("numpy.core", "numpy._core"):
    ARRAY_NAMES |= {
        (_package + ".multiarray", "_reconstruct"): Named(_reconstruct),
        (_package + ".multiarray", "scalar"): Named(_scalar),
        (_package + ".numeric", "_frombuffer"): Named(_from_buffer),
    }

CONTAINER_NAMES: dict[tuple[str, str], Any] = {
    (module, name): _made_of_content(kind)
    for module in ("builtins", "__builtin__")
    for name, kind in _CONTAINERS.items()
}
"""The containers of Python that pickles name."""

PLAIN_NAMES: dict[tuple[str, str], Any] = {
    **ARRAY_NAMES,
    **CONTAINER_NAMES,
    **{(module, name): Named(kind) for module in ("builtins", "__builtin__") for name, kind in _VALUES.items()},
    ("__builtin__", "unicode"): Named(str),
    ("__builtin__", "long"): Named(int),
    ("__builtin__", "xrange"): Named(range),
    ("collections", "OrderedDict"): _made_of_content(dict),
    ("collections", "defaultdict"): Named(_default_dict),
}
"""What plain data need, by module and name."""


def _find(names: Mapping[tuple[str, str], Any], module: str, name: str) -> Any:
    if (module, name) not in names:
        raise RefusedPickleError(f"{module}.{name}")
    return names[module, name]


class SafeUnpickler(pickle.Unpickler):
    """Unpickles what permitted names stand for.

    Args:
        file: The pickle. Texts of Python 2 are read as latin-1.
        names: Stand-ins by module and name. One that is a class must have a ``__setstate__`` of its own, or a file
            could set attributes on it.
    """

    def __init__(self, file: IO[bytes], names: Mapping[tuple[str, str], Any] = PLAIN_NAMES) -> None:
        super().__init__(file, encoding="latin1")
        self.names = names

    def find_class(self, module: str, name: str) -> Any:
        """Returns what a name stands for.

        Raises:
            RefusedPickleError: It is not permitted.
        """
        return _find(self.names, module, name)

    def persistent_load(self, pid: Any) -> Any:
        """Refuses objects outside the file.

        Raises:
            RefusedPickleError: Always.
        """
        raise RefusedPickleError(f"the persistent object {pid!r}")


def load_pickle(path: str | Path, what: str = "file") -> Any:
    """Reads a pickle of plain data: numbers, texts, containers and NumPy arrays, of any protocol of Python 2 or 3.

    Args:
        path: The file. Texts of Python 2 are read as latin-1.
        what: What to call it in messages.

    Raises:
        UserError: It is absent or broken, or names anything else, which is told and was not run.
    """
    path = Path(path)
    return _guarded(path, what, lambda file: SafeUnpickler(file).load())


def load_object_array(file: IO[bytes]) -> Any:
    """Reads the pickle that stands in an ``.npy`` file of objects, after its head.

    Raises:
        RefusedPickleError: It names what plain data do not need.
    """
    return SafeUnpickler(file).load()


def _guarded(path: Path, what: str, load: Callable[[IO[bytes]], Any]) -> Any:
    try:
        with path.open("rb") as file:
            return load(file)
    except RefusedPickleError as error:
        raise UserError(
            f"{what} {path} is refused: its pickle asks for {error}, and only plain data and NumPy arrays are read; "
            "nothing of it was run"
        ) from None
    except OSError as error:
        absent = isinstance(error, FileNotFoundError)
        reason = "does not exist" if absent else f"cannot be read ({error.strerror or error})"
        raise UserError(f"{what} {path} {reason}") from None
    except UserError:
        raise
    except Exception as error:  # broken pickles raise whatever their bytes happen to mean
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"{what} {path} is truncated or no pickle ({type(error).__name__}: {reason})") from None


# -- joblib -----------------------------------------------------------------------------------------------------------


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
        if self.subclass is not _ARRAY or not isinstance(self.dtype, PlainType):
            raise RefusedPickleError(f"a subclass of numpy.ndarray ({self.subclass!r})")
        if self.dtype.dtype.hasobject:
            found = load_object_array(file)
            if not isinstance(found, np.ndarray):
                raise RefusedPickleError("an array of objects that is none")
            return found
        if self.numpy_array_alignment_bytes is not None:
            padding = file.read(1)[0]
            file.read(padding)
        kind = _plain(self.dtype)
        count = math.prod(int(n) for n in self.shape)
        raw = file.read(count * kind.itemsize)
        array = np.frombuffer(bytearray(raw), dtype=kind, count=count)
        _check_text(array)
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
        return _find(_JOBLIB_NAMES, module, name)

    def persistent_load(self, pid: Any) -> Any:
        raise RefusedPickleError(f"the persistent object {pid!r}")

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
    return _guarded(path, what, lambda file: _JoblibUnpickler(_decompressed(path, what, file)).load())


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
        return io.BytesIO(zlib.decompress(file.read()))
    return file


# -- .npz files of objects --------------------------------------------------------------------------------------------


def load_npz_object(path: str | Path, name: str, what: str = "file") -> Any:
    """Reads one object, such as a dictionary, that ``numpy.savez`` pickled into an ``.npz`` archive.

    Args:
        path: The file.
        name: Of the array that holds the object.
        what: What to call the file in messages.

    Raises:
        UserError: It is absent or broken, lacks the array, or names anything but plain data.
    """
    path = Path(path)
    return _guarded(path, what, lambda file: _npz_object(path, what, file, name))


def _npz_object(path: Path, what: str, file: IO[bytes], name: str) -> Any:
    with zipfile.ZipFile(file) as archive:
        if f"{name}.npy" not in archive.namelist():
            there = ", ".join(entry.removesuffix(".npy") for entry in archive.namelist()[:12])
            raise UserError(f"{what} {path} has no array {name!r}; it has {there}")
        with archive.open(f"{name}.npy") as member:
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            _, _, dtype = read(member)
            if not dtype.hasobject:
                raise UserError(f"{what} {path}: {name!r} holds {dtype}, not Python objects")
            found = np.asarray(load_object_array(member))
            return found.item() if found.size == 1 else found
