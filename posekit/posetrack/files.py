"""Finding and reading sequence files, of whichever form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from posekit.errors import UserError
from posekit.json_file import read_json
from posekit.posetrack.entries import Entries, Form, FrameEntry
from posekit.posetrack.form_2017 import frames_2017, people_2017
from posekit.posetrack.form_2018 import frames_2018, people_2018

Paths = str | PathLike[str] | Sequence[str | PathLike[str]]


def sequence_files(paths: Paths, what: str) -> dict[str, Path]:
    """Returns the sequence files by name, sorted.

    Raises:
        UserError: The folder does not exist or holds no JSON file, or two files have the same name.
    """
    if isinstance(paths, str | PathLike):
        folder = Path(paths)
        if not folder.exists():
            raise UserError(f"{what}: {folder} does not exist")
        files = sorted(folder.glob("*.json")) if folder.is_dir() else [folder]
        if not files:
            raise UserError(f"{what}: the folder {folder} holds no .json file")
    else:
        files = [Path(p) for p in paths]
    named: dict[str, Path] = {}
    for path in sorted(files, key=lambda p: p.name):
        if path.name in named:
            raise UserError(f"{what}: two files are named {path.name}: {named[path.name]} and {path}")
        named[path.name] = path
    return named


def form_of(path: Path, content: Any) -> Form:
    """Returns the form of a file's content: ``"2017"`` or ``"2018"`` (21 has the latter, too).

    Raises:
        UserError: It is neither.
    """
    if isinstance(content, Mapping) and isinstance(content.get("annolist"), list):
        return "2017"
    if isinstance(content, Mapping) and all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        return "2018"
    raise UserError(f"{path} is no PoseTrack file: it has neither 'annolist' nor 'images' and 'annotations'")


def read_frames(path: Path, content: Any) -> list[FrameEntry]:
    """Returns the frames of a file's content.

    Raises:
        UserError: It is of neither form, or a frame is faulty.
    """
    return (frames_2017 if form_of(path, content) == "2017" else frames_2018)(path, content)


def read_entries(path: Path, scored: bool = False, boxes: bool = True) -> Entries:
    """Reads a file.

    Args:
        path: A JSON file of either form.
        scored: Its people are predicted: joints may have scores. Without, those fields are not looked at; with,
            boxes and tracks are not.
        boxes: Whether boxes of whole people are looked at, which an evaluation does without.

    Raises:
        UserError: The file is missing, no JSON or of neither form, or a frame is faulty. What is wrong with people and
            ignore regions is returned.
    """
    content = read_json(path, "PoseTrack file")
    form = form_of(path, content)
    frames = read_frames(path, content)
    if form == "2017":
        people, joints, faults = people_2017(path, content, frames, scored)
    else:
        people, joints, faults = people_2018(path, content, frames, scored, boxes)
    return Entries(form, frames, people, joints, faults)
