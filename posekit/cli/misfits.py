"""What the parser lets through, refused before a class is built that cannot take it: blank values, stray options."""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from posekit.errors import UserError
from posekit.plugins import import_class
from posekit.signatures import constructors


def refuse_misfits(config: Any) -> None:
    """Looks through the arguments of method and data module, and of the classes within them.

    Args:
        config: What the parser has read, with ``model``, ``data`` or both.

    Raises:
        UserError: An argument is null and its class asks for a value, or ``dict_kwargs`` are given to a class that
            takes no options but those it names.
    """
    for key in ("model", "data"):
        if config.get(key) is not None:
            _look_through(key, config[key].as_dict())


def _look_through(key: str, value: Any) -> None:
    if isinstance(value, list):
        for index, entry in enumerate(value):
            _look_through(f"{key}[{index}]", entry)
    elif isinstance(value, Mapping) and isinstance(value.get("class_path"), str):
        _refuse_strays(key, value)
        arguments = value.get("init_args") or {}
        blank = [name for name, given in arguments.items() if given is None]
        asked = _hints(import_class(value["class_path"])) if blank else {}
        for name in blank:
            if not _takes_null(asked.get(name, Any)):
                raise UserError(f"{key}.{name} must be {_words(asked[name])}, not null (a blank value, or ~, is null)")
        for name, given in arguments.items():
            _look_through(f"{key}.{name}", given)


def _refuse_strays(key: str, entry: Mapping[str, Any]) -> None:
    cls = import_class(entry["class_path"])
    if entry.get("dict_kwargs") and inspect.isclass(cls) and not _takes_any_option(cls):
        raise UserError(
            f"{key}.dict_kwargs: {cls.__name__} takes no options but those it names, which go under {key}.init_args"
        )


def _takes_any_option(cls: type) -> bool:
    parameters = [p for last in constructors(cls)[-1:] for p in inspect.signature(last).parameters.values()]
    return any(p.kind is p.VAR_KEYWORD for p in parameters)


def _hints(cls: Any) -> dict[str, Any]:
    """Returns the types of the arguments of a class, those it hands on to its bases included, or a function."""
    found: dict[str, Any] = {}
    known = reversed(constructors(cls)) if inspect.isclass(cls) else filter(inspect.isfunction, [cls])
    for constructor in known:
        try:
            hints = get_type_hints(constructor)
        except (NameError, TypeError):  # names that are imported for the type checker alone
            hints = {}
        for name, parameter in inspect.signature(constructor).parameters.items():
            found[name] = Any if parameter.default is None else hints.get(name, Any)
    return found


def _takes_null(hint: Any) -> bool:
    if hint is None or hint is Any or hint is object or hint is type(None):
        return True
    if get_origin(hint) is Literal:
        return None in get_args(hint)
    return get_origin(hint) in (Union, types.UnionType) and any(map(_takes_null, get_args(hint)))


def _words(hint: Any) -> str:
    return hint.__name__ if inspect.isclass(hint) and not get_args(hint) else str(hint).replace("typing.", "")
