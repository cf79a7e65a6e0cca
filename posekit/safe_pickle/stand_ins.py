"""What the names in a pickle stand for: harmless functions and plain containers, each checking what it is given."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray


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


def shown(value: Any) -> str:
    """Returns a value of a file for messages: written out, a few bytes of nested parts might fill the memory."""
    return reprlib.repr(value)


def _bytes(value: Any) -> bytes:
    if not isinstance(value, (bytes, bytearray)):  # bytes(n) would be n zeros
        raise RefusedPickleError(f"bytes that are a {type(value).__name__}")
    return bytes(value)


class PlainType:
    """Stands for ``numpy.dtype``: numbers, texts and objects, never records, whose fields a file could forge."""

    PERMITTED: ClassVar[str] = r"b1|[iu][1248]|f[248]|c8|c16|[SUa]\d{1,6}|O8?"

    def __init__(self, name: Any, *_: Any) -> None:
        text = name if isinstance(name, str) else _bytes(name).decode("latin1")
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
        check_text(self)


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


def check_text(array: NDArray[Any]) -> None:
    """Refuses an array of text whose numbers are no characters.

    Raises:
        ValueError: It is one.
    """
    if broken_text(array):
        raise ValueError("text that is none")


def _array_class(*_: Any) -> Any:
    """Stands for ``numpy.ndarray``, which files name but never call."""
    raise RefusedPickleError("numpy.ndarray of its own sizes")


ARRAY_CLASS = Named(_array_class)


def _reconstruct(kind: Any, *_: Any) -> _Array:
    """Makes an empty array, whose state follows."""
    if kind is not ARRAY_CLASS:
        raise RefusedPickleError(f"a subclass of numpy.ndarray ({shown(kind)})")
    return _Array((0,), np.int8)


def plain_dtype(kind: Any) -> np.dtype[Any]:
    """Returns NumPy's type of what stands for one.

    Raises:
        RefusedPickleError: It stands for objects, or for nothing of the kind.
    """
    if not isinstance(kind, PlainType) or kind.dtype.hasobject:
        raise RefusedPickleError("bytes that stand for objects")
    return kind.dtype


def _scalar(kind: Any, content: Any = None) -> Any:
    raw = content.encode("latin1") if isinstance(content, str) else _bytes(content)
    array = np.frombuffer(raw, dtype=plain_dtype(kind), count=1)
    check_text(array)
    return array[0]


def _from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> NDArray[Any]:
    dtype = plain_dtype(kind)
    _check_sizes(shape, dtype, content)
    array = np.frombuffer(bytearray(content), dtype=dtype).reshape(shape, order="F" if order == "F" else "C")
    check_text(array)
    return array


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise RefusedPickleError(f"the encoding {shown(encoding)}")
    return text.encode(encoding)


def _default_dict(factory: Any = None, *content: Any) -> dict[Any, Any]:
    return dict(*content)


def _text(*content: Any) -> str:
    """Stands for ``str``, which would write nested parts out."""
    if len(content) > 3 or not all(isinstance(part, (str, bytes, bytearray, bool, int, float)) for part in content):
        raise RefusedPickleError(f"str() of {', '.join(type(part).__name__ for part in content[:3])}")
    return str(*content)


_CONTENT = (str, bytes, bytearray, list, tuple, set, frozenset, dict)


def _made_of_content(kind: Callable[..., Any]) -> Named:
    """Permits a container made of data in the file, not one whose size is but a number."""

    def make(*content: Any) -> Any:
        if not all(isinstance(part, _CONTENT) for part in content):
            raise RefusedPickleError(f"{kind.__name__}() of {', '.join(type(part).__name__ for part in content)}")
        return kind(*content)

    return Named(make)


_CONTAINERS = {kind.__name__: kind for kind in (set, frozenset, list, tuple, dict, bytes, bytearray)}
_VALUES = {kind.__name__: kind for kind in (int, float, complex, bool, slice, range)} | {"str": _text}

ARRAY_NAMES: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): Named(_encode),
    ("numpy", "ndarray"): ARRAY_CLASS,
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
    ("__builtin__", "unicode"): Named(_text),
    ("__builtin__", "long"): Named(int),
    ("__builtin__", "xrange"): Named(range),
    ("collections", "OrderedDict"): _made_of_content(dict),
    ("collections", "defaultdict"): Named(_default_dict),
}
"""What plain data need, by module and name."""
