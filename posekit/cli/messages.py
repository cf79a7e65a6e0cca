"""Turns the parser's long messages into one line with the nearest valid names."""

from __future__ import annotations

import difflib
import re
from typing import Any

from posekit.plugins import DATAMODULES, METHODS, plugins


def explain(message: str, parser: Any) -> str:
    """Shortens a parser's message to one line.

    Args:
        message: What jsonargparse says, possibly over many lines.
        parser: The parser, whose option names are the valid choices.
    """
    text = re.sub(r"\x1b\[[0-9;]*m", "", message)
    for pattern, answer in _ANSWERS:
        match = re.search(pattern, text, flags=re.DOTALL)
        if match:
            return answer(match, parser)
    lines = [line.strip(" -|") for line in text.splitlines() if line.strip(" -|")]
    return " ".join(lines)[:400] if lines else "the arguments cannot be read"


def _nearest(word: str, names: list[str]) -> str:
    near = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def _options(parser: Any) -> list[str]:
    names = []
    for action in parser._actions:
        names += [option.lstrip("-") for option in action.option_strings]
    return names


def _unknown_option(match: re.Match[str], parser: Any) -> str:
    word = match.group(1).split("=")[0].lstrip("-")
    known = _options(parser) + ["model", "data", "trainer", "config", "ckpt_path", "seed_everything"]
    return f"unknown option --{word}.{_nearest(word, known)} `posekit list` and --help tell the valid ones"


def _unknown_key(match: re.Match[str], parser: Any) -> str:
    word = match.group(1)
    group = ""
    before = re.search(r"[Pp]arser key \"?([\w.]+)\"?", match.string)
    if before:
        group = before.group(1)
    known = _valid_keys(match.string, group, parser)
    valid = f" Valid keys: {', '.join(sorted(known))}." if known else ""
    inside = f" of {group}" if group else ""
    return f"unknown key {word!r}{inside}.{_nearest(word.rpartition('.')[2], known)}{valid}"


def _valid_keys(text: str, group: str, parser: Any) -> list[str]:
    """Returns the argument names of the class that a message is about, or a group's options."""
    from inspect import signature  # the parser has imported everything by now

    from jsonargparse._util import import_object

    found = re.search(r"class_path[\"']?[:=]\s*[\"']?([\w.]+)", text)
    if found:
        try:
            from jsonargparse._parameter_resolvers import get_signature_parameters

            return [p.name for p in get_signature_parameters(import_object(found.group(1)))]
        except Exception:
            return list(signature(import_object(found.group(1)).__init__).parameters)
    return [name.removeprefix(group + ".") for name in _options(parser) if name.startswith(group + ".")]


def _unknown_class(match: re.Match[str], parser: Any) -> str:
    word = match.group(1)
    methods, data = list(plugins(METHODS)), list(plugins(DATAMODULES))
    return (
        f"unknown class {word!r}.{_nearest(word, methods + data)} "
        f"Methods: {', '.join(methods)}. Data modules: {', '.join(data)}."
    )


_ANSWERS = (
    (r"[Uu]nrecognized arguments?:\s*(\S+)", _unknown_option),
    (r"Expected a dot import path string: ([\w.]+)", _unknown_class),
    (r"(?:Key|Option) ['\"]([\w.]+)['\"] is not (?:expected|accepted)", _unknown_key),
)
