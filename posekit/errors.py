"""The error a user's mistake raises: one clear line, no stack trace on the command line."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from numbers import Integral, Real
from typing import Any, TypeVar

Option = TypeVar("Option")


class UserError(ValueError):
    """A mistake in the input (config, path, annotation file, option) that the user can mend.

    The message is one line that names the file, key or value at fault and the valid choices.
    The command line prints it without a stack trace and exits with a code that is not 0.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Builds the error for a name that is not among the known ones, with the nearest of them.

    Args:
        kind: What is named, e.g. ``"skeleton"``.
        name: The name that was given.
        known: The valid names.
    """
    choices = sorted(map(str, known))
    return UserError(f"unknown {kind} {name!r}; known: {', '.join(choices)}.{nearest(name, choices)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns the question for the known names nearest to a mistaken one, a blank before it; "" where none is near."""
    near = difflib.get_close_matches(name, sorted(set(known)), n=2, cutoff=0.5)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def one_of(kind: str, value: Option, known: Iterable[Any], *, none: bool = False) -> Option:
    """Returns a value, which must be among the known ones.

    Args:
        kind: What it is, as for :func:`unknown_name`.
        value: The value.
        known: The valid ones.
        none: Whether None will do, too.

    Raises:
        UserError: It is not.
    """
    if value is None and none:
        return value
    choices = list(known)  # and no set: a mistaken value need not be hashable
    with suppress(ValueError):  # an array is not equal to a name
        if value in choices:
            return value
    raise unknown_name(kind, str(value), choices)


def in_range(owner: str, name: str, value: Option, interval: str, *, whole: bool = False, none: bool = False) -> Option:
    """Returns an option's value, which must be a number of a range.

    Args:
        owner: Whose option it is, e.g. the method's class.
        name: The option.
        value: Its value.
        interval: The range, e.g. ``"(0, 1]"`` or ``"[0, inf)"``.
        whole: Whether the number must be a whole one, written without a decimal point.
        none: Whether None will do, too.

    Raises:
        UserError: It is no number (a bool is none), or one out of the range; NaN lies in no range.
    """
    if value is None and none:
        return value
    low, high = (float(end) for end in interval[1:-1].split(","))
    number: Any = value
    if isinstance(value, Integral if whole else Real) and not isinstance(value, bool):
        above = low <= number if interval[0] == "[" else low < number
        if above and (number <= high if interval[-1] == "]" else number < high):
            return value
    range_ = f"in {interval}"
    if high == math.inf:
        range_ = f"of at least {low:g}" if interval[0] == "[" else f"above {low:g}"
    kind = f"a {'whole ' * whole}number {range_}{' (or null)' * none}"
    raise UserError(f"{owner}: {name} must be {kind}, not {excerpt(value)}")


def each_in_range(owner: str, name: str, values: Any, interval: str, *, whole: bool = False) -> list[Any]:
    """Returns an option's values as a list, which must be numbers of a range; see :func:`in_range`.

    Raises:
        UserError: They are no list, an empty one, or one of them is no such number.
    """
    if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping):
        raise UserError(f"{owner}: {name} must be a list of numbers, not {excerpt(values)}")
    numbers = [in_range(owner, name, value, interval, whole=whole) for value in values]
    if not numbers:
        raise UserError(f"{owner}: {name} must list at least one number")
    return numbers


def as_names(owner: str, name: str, value: object) -> list[str]:
    """Returns an option's names as a list; a name alone is a list of one.

    Raises:
        UserError: They are no strings.
    """
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(part, str) for part in names):
        raise UserError(f"{owner}: {name} must be a list of names, not {excerpt(value)}")
    return list(names)


def yes_or_no(owner: str, name: str, value: Option, *, none: bool = False) -> Option:
    """Returns an option's value, which must be true or false.

    Args:
        owner: Whose option it is, e.g. the method's class.
        name: The option.
        value: Its value.
        none: Whether None will do, too.

    Raises:
        UserError: It is neither: a string such as "no" would count as true.
    """
    if isinstance(value, bool) or (none and value is None):
        return value
    raise UserError(f"{owner}: {name} must be true or false{' (or null)' * none}, not {excerpt(value)}")


def listed(items: Sequence[str], shown: int = 3) -> str:
    """Returns the first items in one line, and how many more there are."""
    return "; ".join(items[:shown]) + (f"; and {len(items) - shown} more" if len(items) > shown else "")


def one_line(error: BaseException, length: int = 100) -> str:
    """Returns an exception's message in one line of at most this length; its type's name where it says nothing.

    What cannot be printed, as of a damaged file's names, is a space.
    """
    text = "".join(c if c.isprintable() else " " for c in str(error))
    return " ".join(text.split())[:length] or type(error).__name__


def excerpt(value: object, length: int = 40) -> str:
    """Returns the beginning of a file's value for a message: strings in quotes, what cannot be printed escaped."""
    return repr(value.tolist() if hasattr(value, "tolist") else value)[:length]


def counted(count: int, noun: str, plural: str = "") -> str:
    """Returns a number with its noun: ``1 person``, ``2 people``.

    Args:
        count: How many.
        noun: Of one.
        plural: Of several, where it is not the noun with an s.
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


@contextmanager
def named(owner: str) -> Iterator[None]:
    """Puts the name of the class that a user chose before what its parts refuse.

    Raises:
        UserError: In place of one without the name.
    """
    try:
        yield
    except UserError as error:
        if str(error).startswith(owner):
            raise
        raise type(error)(f"{owner}: {error}") from None
