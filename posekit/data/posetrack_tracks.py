"""PoseTrack's people as tracks: labelled frames with their neighbours, listed in the files or only on the disk."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from posekit.arrays import Int64
from posekit.data.clips import Track
from posekit.data.coco_file import OnFault
from posekit.data.crops import CropTable, PictureReader
from posekit.data.detections import Boxes, read_listed_boxes
from posekit.data.posetrack_file import PoseTrackPeople
from posekit.json_file import whole

_NAMES = ("file_name", "image_name", "image")


class SequenceFrames(NamedTuple):
    """The frames of a sequence whose pictures are there."""

    numbers: Int64  # (F,) increasing
    rows: Int64  # (F,) row of the picture


def find_frames(people: PoseTrackPeople, folder: Path) -> tuple[list[Path], list[SequenceFrames]]:
    """Looks for the pictures of all sequences, those that the annotations do not list included.

    Args:
        people: The annotations.
        folder: What the file names are relative to.

    Returns:
        The pictures' files: first those of ``people.names``, there or not, then further ones; and each sequence's
        frames.
    """
    files = [folder / name for name in people.names]
    sequences = []
    for number, name in enumerate(people.sequence_names):
        listed = np.flatnonzero(people.sequences == number)
        present = _listing(folder / name)
        known = {files[row].name: row for row in listed.tolist()}
        found = {int(people.numbers[row]): row for file, row in known.items() if file in present}
        numbered = all(
            PurePosixPath(f).stem.isdigit() and int(Path(f).stem) == people.numbers[r] for f, r in known.items()
        )
        suffixes = {Path(file).suffix for file in known}
        for file in sorted(present - set(known)) if numbered else ():
            stem, suffix = Path(file).stem, Path(file).suffix
            if suffix in suffixes and stem.isascii() and stem.isdigit() and int(stem) not in found:
                found[int(stem)] = len(files)
                files.append(folder / name / file)
        order = sorted(found)
        rows = [found[key] for key in order]
        sequences.append(SequenceFrames(np.array(order, dtype=np.int64), np.array(rows, dtype=np.int64)))
    return files, sequences


def _listing(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in os.scandir(folder)}  # a folder has hundreds of frames: no Path for each
    except (OSError, ValueError):  # absent, or of a name that no folder can have
        return set()


def build_tracks(
    people: PoseTrackPeople,
    table: CropTable,
    track_ids: Int64,
    sequences: Sequence[SequenceFrames],
    read: PictureReader,
    offsets: Sequence[int] = (),
    followed: bool = True,
) -> list[Track]:
    """Makes tracks of people.

    Args:
        people: The frames that ``table.image_rows`` count.
        table: The people: labelled ones, or boxes of a detector.
        track_ids: (N,) unique in a frame; each person of -1 is a track of its own.
        sequences: Frames of each sequence, of :func:`find_frames`.
        read: Gives pictures by their row.
        offsets: Frame numbers of neighbours relative to a key frame, which are then rows of the track as well.
        followed: Whether ``track_ids`` are those of people.
    """
    owner = people.sequences[table.image_rows]
    frame = people.numbers[table.image_rows]
    track = np.where(track_ids < 0, -1 - np.arange(len(track_ids)), track_ids)
    order = np.lexsort((frame, track, owner))
    changes = np.diff(owner[order], prepend=-1).astype(bool) | np.diff(track[order], prepend=0).astype(bool)
    groups = np.split(order, np.flatnonzero(changes)[1:]) if len(order) else []
    reach = np.unique([0, *offsets])
    return [
        _track(people, table, group, sequences[owner[group[0]]], read, reach, int(track[group[0]]), followed)
        for group in groups
    ]


def _track(
    people: PoseTrackPeople,
    table: CropTable,
    group: Int64,
    there: SequenceFrames,
    read: PictureReader,
    reach: Int64,
    track_id: int,
    followed: bool,
) -> Track:
    own = people.numbers[table.image_rows[group]]
    wanted = np.unique(own[:, None] + reach)
    place = np.minimum(np.searchsorted(there.numbers, wanted), max(len(there.numbers) - 1, 0))
    present = there.numbers[place] == wanted if len(there.numbers) else np.zeros(len(wanted), dtype=bool)
    frames = np.union1d(wanted[present], own)
    image_rows = np.zeros(len(frames), dtype=np.int64)
    image_rows[np.searchsorted(frames, wanted[present])] = there.rows[place[present]]
    keys = np.searchsorted(frames, own)
    image_rows[keys] = table.image_rows[group]
    count, is_key = len(frames), np.zeros(len(frames), dtype=bool)
    is_key[keys] = True
    listed = image_rows < len(people.image_ids)
    image_ids = np.where(listed, people.image_ids[np.where(listed, image_rows, 0)], -1)
    sample_ids = np.full(count, -1)
    boxes, scores = np.full((count, 4), np.nan), np.zeros(count)
    joints = np.zeros((count, *table.joints.shape[1:]))
    sample_ids[keys], boxes[keys], scores[keys] = table.sample_ids[group], table.boxes[group], table.scores[group]
    joints[keys] = table.joints[group]
    name = people.sequence_names[people.sequences[table.image_rows[group[0]]]]
    label = f"person {track_id}" if track_id >= 0 else f"person of entry {table.sample_ids[group[0]]}"
    return Track(
        f"{name}, {label}", read, image_rows, frames, image_ids, sample_ids, boxes, scores, joints, is_key,
        followed=followed,
    )  # fmt: skip


def ranks(image_rows: Int64) -> Int64:
    """Returns the place of each box (N,) among those of its frame, so that boxes become tracks of a sort."""
    order = np.argsort(image_rows, kind="stable")
    ordered = image_rows[order]
    first = np.searchsorted(ordered, ordered)
    result = np.empty(len(order), dtype=np.int64)
    result[order] = np.arange(len(order)) - first
    return result


def read_boxes(path: Path, people: PoseTrackPeople, threshold: float, on_bad_annotation: OnFault = "error") -> Boxes:
    """Reads boxes of a person detector: COCO's results format, frames by ``image_id`` or by name.

    What is left out: :func:`~posekit.data.detections.read_detections`.

    Args:
        path: A JSON list of objects with ``bbox`` (xywh px), ``score``, ``image_id`` or a name (``file_name``,
            ``image_name`` or ``image``), and perhaps ``category_id`` (1 is a person).
        people: The frames.
        threshold: Boxes of a lower score are left out.
        on_bad_annotation: ``"error"`` or ``"skip"``.

    Raises:
        UserError: The file cannot be used, or nothing is left of it.
    """
    by_id = {int(image_id): row for row, image_id in enumerate(people.image_ids)}
    by_name = {name: row for row, name in enumerate(people.names)}
    return read_listed_boxes(path, partial(_frame_row, by_id, by_name), "frames", threshold, on_bad_annotation)


def _frame_row(by_id: Mapping[int, int], by_name: Mapping[str, int], entry: Mapping[str, Any]) -> int | str | None:
    name = next((entry[key] for key in _NAMES if isinstance(entry.get(key), str)), None)
    if name is not None:
        return by_name.get(name)
    image_id = whole(entry.get("image_id"))
    return "has neither an integer image_id nor a file_name" if image_id is None else by_id.get(image_id)
