"""JSON files: annotations, boxes and results that are read, with their numbers, and numbers that are written."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

from posekit.errors import UserError, one_line
from posekit.files import atomic_write_text


def read_json(path: Path, what: str = "file") -> Any:
    """Reads a JSON file.

    Args:
        path: The file.
        what: What to call it in messages, e.g. ``"annotation file"``.

    Raises:
        UserError: It is absent, no text, truncated or otherwise no JSON.
    """
    try:
        with _without_collection():
            return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{what} {path} does not exist") from None
    except IsADirectoryError:
        raise UserError(f"{what} {path} is a folder") from None
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{what} {path} is no JSON: it is not text") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise UserError(f"{what} {path} is truncated or no JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise UserError(f"{what} {path} is no JSON that can be read: it is nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise UserError(f"{what} {path} is no JSON that can be read: {one_line(error)}") from None


def is_whole(value: Any) -> TypeGuard[int]:
    """Tells whether a value is a whole number of 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def whole(value: Any) -> int | None:
    """Returns a whole number of 64 bits, also of one that was written as a float (``785.0``), else None."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:  # larger ones may have been rounded
        value = int(value)
    return value if is_whole(value) else None


def numbers(value: Any, length: int) -> list[float] | None:
    """Returns a list of that many finite numbers as it is, else None."""
    if not isinstance(value, list) or len(value) != length:
        return None
    # The comparison is false for NaN and infinities; files of 200,000 people make NumPy's check too slow here.
    return value if all(type(v) in (int, float) and -1e15 < v < 1e15 for v in value) else None


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes a JSON file in one piece: a reader sees the old file or the whole new one. NaN becomes null."""
    atomic_write_text(path, json.dumps(_without_nan(values), indent=2, allow_nan=False) + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def _without_collection() -> Iterator[None]:
    """Keeps the garbage collector out: a parser only allocates; looking for garbage would cost a third of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
