"""How large the content of a pickle is with its shared parts written out, as an array made of it would be."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any, TypeVar

import numpy as np

from posekit.safe_pickle.stand_ins import RefusedPickleError

ValueT = TypeVar("ValueT")

_FEW = 10**7  # elements that any file may come to
_TIMES = 4  # and otherwise this many times what it holds
_MANY = 10**18  # no need to count on
_SINGLE = frozenset((str, bytes, bytearray, int, float, complex, bool, type(None)))


def check_sharing(value: ValueT) -> ValueT:
    """Returns the content of a pickle unless its shared parts make it far larger than it is.

    A list may hold one list twice, that one another twice, and so on: a few hundred bytes, and more numbers than there
    is memory as soon as an array is made of them.

    Raises:
        RefusedPickleError: It is so.
        RecursionError: A part holds itself.
    """
    sizes: dict[int, int] = {}  # of every part, written out; 0 while its own parts are gone through
    held = 0
    stack: list[tuple[Any, list[Any] | None]] = [(value, None)]
    while stack:
        part, inner = stack.pop()
        if inner is not None:
            sizes[id(part)] = min(_size(part) + sum(sizes[id(p)] for p in inner), _MANY)
        elif id(part) not in sizes:
            own, inner = _size(part), _parts(part)
            held += own
            sizes[id(part)] = 0 if inner else own
            if inner:
                stack.append((part, inner))
                stack.extend((p, None) for p in inner)
        elif not sizes[id(part)]:
            raise RecursionError("a part of it holds itself")
    whole = sizes[id(value)]
    if whole > max(_FEW, _TIMES * held):
        raise RefusedPickleError(f"{held:,} elements to be repeated to {_number(whole)}")
    return value


def _number(count: int) -> str:
    return f"{count:,}" if count < _MANY else "more than can be counted"


def _parts(value: Any) -> list[Any]:
    """Returns what a value holds, but for single texts and numbers."""
    found: Iterable[Any]
    if isinstance(value, (list, tuple, set, frozenset)):
        found = value
    elif isinstance(value, dict):
        found = chain(value, value.values())
    elif isinstance(value, np.ndarray):
        found = value.ravel().tolist() if value.dtype.hasobject else ()
    elif isinstance(value, type):
        found = ()
    else:
        found = getattr(value, "__dict__", {}).values()
    return [part for part in found if type(part) not in _SINGLE]


def _size(value: Any) -> int:
    """Returns how many elements a value has itself, at least 1."""
    count = value.size if isinstance(value, np.ndarray) else len(value) if hasattr(value, "__len__") else 1
    return max(int(count), 1)
