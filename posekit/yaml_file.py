"""YAML files of users: configs and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from posekit.errors import UserError, one_line

MOST_NODES = 100_000
"""Values of a document with its aliases written out; the largest config has some hundred."""


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
        UserError: It is no YAML, gives a key twice, grows beyond all measure by its aliases, or holds no keys.
    """
    try:
        content = _load(text, what)
    except UserError:
        raise
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


def _load(text: str, what: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > MOST_NODES:
            raise UserError(
                f"{what} stands for more than {MOST_NODES} values, since aliases (*name) repeat one another"
            )
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Returns how many values a node stands for where each alias is written out; what holds itself is endless."""
    known = sizes.get(id(node))
    if known is not None:
        return known
    sizes[id(node)] = MOST_NODES + 1  # until it is known: met again below itself
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        parts = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        parts = node.value
    sizes[id(node)] = 1 + sum(_size(part, sizes) for part in parts)
    return sizes[id(node)]


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
