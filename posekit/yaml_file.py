"""YAML files of users: configs and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from posekit.errors import UserError, one_line


def read_yaml(path: str | Path, kind: str, keys: str) -> dict[str, Any]:
    """Reads a YAML file of keys.

    Args:
        path: The file.
        kind: What it is, for messages: ``config`` or ``table``.
        keys: The keys that it should have, for messages.

    Raises:
        UserError: The file cannot be read, is no YAML, gives a key twice, or holds no keys.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{kind} {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{kind} {path} is not YAML: it is not text") from None
    return parse_yaml(text, f"{kind} {path}", keys)


def parse_yaml(text: str, what: str, keys: str) -> dict[str, Any]:
    """Parses YAML of keys.

    Args:
        text: The YAML.
        what: What to call it in messages.
        keys: The keys that it should have, for messages.

    Raises:
        UserError: It is no YAML, gives a key twice, or holds no keys.
    """
    try:
        content = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        why = getattr(error, "problem", None) or one_line(error)
        raise UserError(f"{what} is not YAML{where}: {why}") from None
    except (RecursionError, ValueError) as error:  # nested too deeply; a date that is none
        raise UserError(f"{what} is no YAML that can be read: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{what} holds no keys ({keys}), but {type(content).__name__}")
    return content


class _Loader(yaml.SafeLoader):
    """YAML in which a key that is given twice is a fault, not the loss of the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Builds a mapping.

        Raises:
            yaml.constructor.ConstructorError: A key is there twice.
        """
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)
