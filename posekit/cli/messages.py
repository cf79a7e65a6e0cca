"""Turns the parser's long messages into one line with the nearest valid names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from posekit.errors import nearest
from posekit.plugins import DATAMODULES, METHODS, plugins

Answer = Callable[[re.Match[str], Sequence[str]], str]


def explain(message: str, parser: Any) -> str:
    """Shortens a parser's message to one line.

    The parser of a nested class reports first, and the outer one quotes it among the failures of a Union; so the
    quoted lines are passed through.

    Args:
        message: What jsonargparse says, possibly over many lines.
        parser: The parser, whose option names are the valid choices.
    """
    text = re.sub(r"\x1b\[[0-9;]*m", "", message)
    options = _options(parser)
    for pattern, answer in _ANSWERS:
        match = re.search(pattern, text, flags=re.DOTALL)
        if match:
            return answer(match, options)
    return " ".join(_lines(text))[:400] or "the arguments cannot be read"


def _options(parser: Any) -> list[str]:
    """Returns the names of a parser's options and of its sub-commands' options."""
    names = []
    for action in parser._actions:
        names += [option.lstrip("-") for option in action.option_strings]
        for sub in getattr(action, "_name_parser_map", {}).values():
            names += _options(sub)
    return names


def _lines(text: str) -> list[str]:
    return [line.strip(" -|") for line in text.splitlines() if line.strip(" -|")]


_NOT_KEYS = {"", "help", "h", "c", "config", "print_config", "print_shtab"}


def _unknown_key(match: re.Match[str], options: Sequence[str]) -> str:
    """Answers for a key of a config: the nearest keys of the innermost group that exists."""
    path = match.group(1).split(".")
    for depth in range(len(path) - 1, -1, -1):
        group = "".join(part + "." for part in path[:depth])
        known = {name[len(group) :].split(".")[0] for name in options if name.startswith(group)} - _NOT_KEYS
        if known:
            valid = "" if len(known) > 60 else f" Valid keys: {', '.join(sorted(known))}."
            inside = f" of {group[:-1]}" if group else ""
            return f"unknown key {'.'.join(path[depth:])!r}{inside}.{nearest(path[depth], known)}{valid}"
    return f"unknown key {match.group(1)!r}"


def _unknown_option(match: re.Match[str], options: Sequence[str]) -> str:
    word = match.group(1).split("=")[0]
    if not word.startswith("-"):
        return f"unexpected word {word!r}; options begin with --, a config file is given by --config FILE"
    name = word.lstrip("-")
    group = name.split(".")[0]
    if "." in name and group not in {option.split(".")[0] for option in options}:
        return f"unknown option {word}.{nearest(group, [o.split('.')[0] for o in options])}"
    return f"unknown option {word}.{nearest(name, options)}"


def _unknown_class(match: re.Match[str], options: Sequence[str]) -> str:
    word = match.group(1)
    key = re.search(r"[Pp]arser key \"?(trainer\.\w+)", match.string)
    if key:
        known = _classes_of_the_trainer(key.group(1))
        listed = f" Known: {', '.join(known)}." if known else " Give its class path, as package.module.Class."
        return f"unknown class {word!r} of {key.group(1)}.{nearest(word, known)}{listed}"
    methods, data = list(plugins(METHODS)), list(plugins(DATAMODULES))
    return (
        f"unknown class {word!r}.{nearest(word, methods + data)} "
        f"Methods: {', '.join(methods)}. Data modules: {', '.join(data)}."
    )


def _abstract_class(match: re.Match[str], options: Sequence[str]) -> str:
    """Answers for an option of a class that nothing names, as ``--trainer.logger.dir`` alone."""
    key = re.search(r"[Pp]arser key \"?([\w.]+)", match.string)
    return _unnamed_class(key.group(1) if key else match.group(1))


def _unnamed_class(name: str) -> str:
    known = _classes_of_the_trainer(name)
    option = f"--{name}+=NAME" if name == "trainer.callbacks" else f"--{name} NAME"
    return f"nothing says which class {name} is: give {option} first." + (f" Known: {', '.join(known)}." * bool(known))


def _classes_of_the_trainer(key: str) -> list[str]:
    """Returns the names of Lightning's and posekit's callbacks, or of the loggers; none for other keys."""
    from lightning.pytorch import Callback, callbacks, loggers

    import posekit.callbacks

    kinds: dict[str, tuple[type[Any], list[Any]]] = {
        "trainer.callbacks": (Callback, [callbacks, posekit.callbacks]),
        "trainer.logger": (loggers.Logger, [loggers]),
    }
    base, places = kinds.get(key, (object, []))
    found = {name: getattr(place, name) for place in places for name in place.__all__}
    return sorted(name for name, cls in found.items() if cls is not base and issubclass(cls, base))


def _quoted(match: re.Match[str], options: Sequence[str]) -> str:
    """Answers for a value that fits no member of a Union: the first failure that is not about None."""
    key = re.search(r"[Pp]arser key \"?([\w.]+)\"?", match.string)
    if key and re.match(r"\s*-\s+Expected an? <class 'dict'>", match.group(1)):
        return _no_dictionary(key.group(1), match.string)
    lines = _lines(match.group(1).split("Given value")[0])
    failures = list(dict.fromkeys(line for line in lines if "NoneType" not in line))
    is_unnamed = "Given value: NestedArg(" in match.string and failures and failures[0].startswith("unknown key")
    if key and is_unnamed and _classes_of_the_trainer(key.group(1)):
        return _unnamed_class(key.group(1))
    what = " ".join(failures[:2]) if failures else " ".join(_lines(match.string))
    return (f"{key.group(1)}: " if key else "") + what[:400]


def _no_dictionary(key: str, text: str) -> str:
    """Answers for a value that is no dictionary: ``{a:1}`` is none to YAML, which wants a blank after the colon."""
    value = " ".join(text.partition("Given value: ")[2].split())[:80]
    form = "'{name: value}' with a blank after the colon"
    return f"{key} must be of the form {form}, not {value!r}; or give one at a time, as {key}.name"


def nothing_names(keys: Sequence[str]) -> str:
    """Returns the line of a command that does not say which data module or method it is for.

    Args:
        keys: ``data``, ``model`` or both.
    """
    choices = " and ".join(f"--{key} NAME" for key in keys)
    return f"nothing says which {' and '.join(keys)} to use: give --config FILE, or {choices} (see posekit list)"


def _missing(match: re.Match[str], options: Sequence[str]) -> str:
    names = [name.strip().split(".")[-1] for name in match.group(1).split(",")]
    if set(names) <= {"data", "model"}:
        return nothing_names(names)
    return f"{' and '.join(names)} must be given"


def _wrong_type(match: re.Match[str], options: Sequence[str]) -> str:
    kind = re.sub(r"<class '([\w.]+)'>", r"\1", match.group(2))
    return f"{match.group(1)} must be {kind.strip(' .')}, not {match.group(3).strip()!r}"


_ANSWERS: tuple[tuple[str, Answer], ...] = (
    (r"[Uu]nrecognized arguments?:\s*(\S+)", _unknown_option),
    (r"arguments are required: ([\w., ]+)", _missing),
    (r"Expected an instantiatable class, but ([\w.]+) is abstract", _abstract_class),
    (r"Expected a dot import path string: ([\w.]+)", _unknown_class),
    (r"does not accept option '([\w.]+)'", _unknown_key),
    (r"\A(?:Key|Option) ['\"]([\w.]+)['\"] is not (?:expected|accepted)", _unknown_key),
    (r"\AParser key \"([\w.]+)\":\s*Expected an? (.+?)\. Got value: (.*)\Z", _wrong_type),
    (r"Errors:\s*\n(.*)", _quoted),
)
