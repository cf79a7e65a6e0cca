"""Image ids of pictures to predict on, by which boxes and results name them."""

from __future__ import annotations

from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

from posekit.errors import UserError
from posekit.json_file import whole


def picture_ids(path: Path | None, names: list[str], content: Any) -> list[int]:
    """Returns the image ids of pictures, all of them different.

    They are those of the boxes file where it lists ``images``, else the numbers that files are named by, else, where no
    file is named by a number, places. A picture without an entry or a number gets an id that no box has.

    Args:
        path: The boxes file, for messages.
        names: Of the pictures' files, sorted.
        content: Of the boxes file; None without one.

    Raises:
        UserError: Boxes name pictures by ids that do not tell which ones they are.
    """
    own = listed = _listed_ids(content)
    if listed:
        _check_listed(path, names, listed, content)
    else:
        own = _numbers_in(path, names, content)
        if not own and not _doubled(names):
            _check_places(path, names, content)
            return list(range(len(names)))
    # Nor does a box have such an id that is for a picture that is not there.
    taken = {*listed.values(), *own.values(), *_box_ids(content)}
    free = count(max([-1, *(i for i in taken if i < 2**62)]) + 1)
    return [own[name] if name in own else next(free) for name in names]


def _listed_ids(content: Any) -> dict[str, int]:
    """Returns the ids by file name of a boxes file that lists its images."""
    images = content.get("images") if isinstance(content, dict) else None
    entries = [e for e in images if isinstance(e, dict)] if isinstance(images, list) else []
    found = ((e["file_name"], whole(e.get("id"))) for e in entries if isinstance(e.get("file_name"), str))
    return {name: image_id for name, image_id in found if image_id is not None}


def _check_listed(path: Path | None, names: list[str], listed: dict[str, int], content: Any) -> None:
    known = Counter(listed[name] for name in names if name in listed)
    twice = next((image_id for image_id, times in known.items() if times > 1), None)
    if twice is not None:
        raise UserError(f"boxes file {path}: several images have the id {twice}")
    if not known and _box_ids(content):
        raise UserError(
            f"boxes file {path} lists images, but none of the source's ({names[0]}, ...): compare the file names"
        )


def _check_places(path: Path | None, names: list[str], content: Any) -> None:
    """A file for many pictures serves one of them, but the place of one alone says nothing."""
    ids = _box_ids(content)
    if len(names) == 1 and 0 in ids and len(ids) > 1:
        raise UserError(
            f"boxes file {path} has boxes of {len(ids)} image_ids, and {names[0]} has no number that tells its own; "
            "name boxes by file_name in place of image_id"
        )


def _stem_number(name: str) -> int | None:
    stem = Path(name).stem
    return int(stem) if stem.isascii() and stem.isdigit() and len(stem) < 19 else None


def _doubled(names: list[str]) -> dict[int, list[str]]:
    """Returns the names of each number that several have."""
    found: dict[int, list[str]] = {}
    for name in names:
        number = _stem_number(name)
        if number is not None:
            found.setdefault(number, []).append(name)
    return {number: shared for number, shared in found.items() if len(shared) > 1}


def _numbers_in(path: Path | None, names: list[str], content: Any) -> dict[str, int]:
    """Returns the numbers by name of files that are named by one of their own."""
    doubled = _doubled(names)
    unclear = sorted(_box_ids(content) & set(doubled))
    if unclear:
        same = " and ".join(doubled[unclear[0]][:2])
        raise UserError(
            f"boxes file {path}: image_id {unclear[0]} may be {same}; name boxes by file_name in place of image_id"
        )
    numbers = {name: _stem_number(name) for name in names}
    return {name: number for name, number in numbers.items() if number is not None and number not in doubled}


def _box_ids(content: Any) -> set[int]:
    """Returns the image ids of boxes that have no file name."""
    entries = content.get("annotations") if isinstance(content, dict) else content
    boxes = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    found = (whole(e.get("image_id")) for e in boxes if not isinstance(e.get("file_name"), str))
    return {image_id for image_id in found if image_id is not None}
