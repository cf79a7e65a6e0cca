"""Which category of a COCO-format file is that of its people."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from posekit.errors import UserError, counted, excerpt

log = logging.getLogger(__name__)

PEOPLE = ("person", "people", "human", "pedestrian")


def people_category(path: Path, categories: list[Any], entries: list[Any], boxes: bool = False) -> dict[str, Any]:
    """Returns the people's category of a file: the only one, the only one with joints, or the one named a person.

    Where one has the name and another has joints, annotations are taken of that with joints, with a warning if there
    are people of the other as well; boxes are taken of the other, if there are any of it.

    Args:
        path: The file, for messages.
        categories: Of the file.
        entries: Its annotations.
        boxes: Whether only the boxes of its people are wanted.

    Raises:
        UserError: None is the people's, or several may be.
    """
    listed = [c for c in categories if isinstance(c, dict) and "id" in c]
    named = [c for c in listed if str(c.get("name")).strip().lower() in PEOPLE]
    named = [c for c in named if c["name"] == PEOPLE[0]] or named
    posed = [c for c in listed if c.get("keypoints")]
    choices = [listed, [c for c in named if c in posed], posed, named]
    if len(named) == len(posed) == 1 and named != posed and _any_of(named[0]["id"], entries):
        if boxes:
            return named[0]
        text = "%s: its people are those of category %s, which has keypoints, not of category %s"
        log.warning(text, path, _label(posed[0]), _label(named[0]))
    for found in choices:
        if len(found) == 1:
            return found[0]
    there = ", ".join(map(_label, listed[:10])) or "none"
    raise UserError(
        f"{path}: categories must hold one category named 'person' (or {', '.join(PEOPLE[1:])}), one with keypoints, "
        f"or only one, with an id; there are: {there}"
    )


def listed_category(path: Path, entries: Iterable[Any]) -> Any:
    """Returns the id of the people's category of boxes without a list of categories.

    It is COCO's 1; 0, which COCO has not, where all boxes are of it.

    Args:
        path: The file, for messages.
        entries: The boxes.

    Raises:
        UserError: There are boxes of both.
    """
    found = set(_ids(entries))
    if {0, 1} <= found:
        raise UserError(
            f"boxes file {path}: people may be category 0 or 1: leave out the boxes of other objects, and category_id"
        )
    return 0 if found == {0} else 1


def nobody(what: str, path: Path, category: Any, entries: Iterable[Any]) -> UserError:
    """Builds the error for boxes none of which is a person's.

    Args:
        what: What the file is called.
        path: The file.
        category: Id of the people's category.
        entries: The boxes.
    """
    ids = list(_ids(entries))
    names = ", ".join(map(excerpt, sorted(set(ids))[:5])) + (", …" if len(set(ids)) > 5 else "")
    return UserError(
        f"{what} {path} has no box of a person: {counted(len(ids), 'box is', 'boxes are')} of category_id {names}, "
        f"people's is {excerpt(category)}"
    )


def _ids(entries: Iterable[Any]) -> Iterable[float]:
    found = (e["category_id"] for e in entries if isinstance(e, dict) and "category_id" in e)
    return (i for i in found if type(i) in (int, float))


def _any_of(category: Any, entries: list[Any]) -> bool:
    return any(isinstance(e, dict) and e.get("category_id") == category for e in entries)


def _label(category: dict[str, Any]) -> str:
    return f"{excerpt(category.get('name'))} (id {excerpt(category['id'])})"
