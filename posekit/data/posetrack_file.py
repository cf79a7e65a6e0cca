"""PoseTrack's files as downloaded, of the 2017 form or of that of 2018 and 21: frames and people as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from posekit.arrays import Bool, Float64, Int64
from posekit.data.coco_file import OnFault, escapes_folder, report_faults
from posekit.errors import UserError
from posekit.posetrack import Entries, Form, FrameEntry, PersonEntry, read_entries
from posekit.skeletons import POSETRACK15

BOX_MARGIN = 0.15  # of the joints' extent, on every side: the rule behind the boxes of the 2018 files
LEAST_SIDE = 16.0  # px, of boxes made from joints
_JOINTS = len(POSETRACK15)


@dataclass(frozen=True)
class PoseTrackPeople:
    """The frames and people of some sequence files, checked.

    Attributes:
        form: ``"2017"`` or ``"2018"`` (21 has the latter, too).
        image_ids: (I,) the files' ids; in the 2017 form running numbers over the files in the order of their names.
        names: I file names of frames, safe to append to a folder.
        sizes: (I, 2) W, H in px; 0 where the files do not say.
        sequences: (I,) number of each frame's sequence.
        numbers: (I,) number of each frame in its sequence: its file's name where that is one, else its place.
        labelled: (I,) frames that are annotated, by the file's word or because there are people.
        sequence_names: Folder of each sequence's frames.
        regions: Ignore regions by image row: polygons (V, 2) px.
        ids: (N,) unique; the files' where those are, else running numbers.
        image_rows: (N,) row of each person's frame.
        track_ids: (N,) unique in a sequence and frame; -1 where there is none.
        joints: (N, 15, 3) x, y in px and visibility, POSETRACK15: 0 absent, 1 annotated with visibility 0, 2 annotated.
        boxes: (N, 4) xywh px: the files' or, where those have none, made from the joints. NaN without joints.
        heads: (N, 4) xywh px of the head; NaN where there is none.
        skipped: Faulty people that were left out.
    """

    form: Form
    image_ids: Int64
    names: list[str]
    sizes: Int64
    sequences: Int64
    numbers: Int64
    labelled: Bool
    sequence_names: list[str]
    regions: dict[int, tuple[Float64, ...]]
    ids: Int64
    image_rows: Int64
    track_ids: Int64
    joints: Float64
    boxes: Float64
    heads: Float64
    skipped: int = 0


def read_posetrack(
    files: Sequence[Path], version: str = "auto", on_bad_annotation: OnFault = "error"
) -> PoseTrackPeople:
    """Reads sequence files.

    Args:
        files: JSON files, all of one form, in the order of their names.
        version: ``"auto"``, or ``"2017"``, ``"2018"`` or ``"21"``, which the files must then have the form of.
        on_bad_annotation: ``"error"`` refuses faulty people and ignore regions, ``"skip"`` leaves them out and warns.

    Raises:
        UserError: A file cannot be used; the first faults are named.
    """
    builder = _Builder()
    for path in files:
        entries = read_entries(path)
        if builder.form is not None and builder.form != entries.form:
            raise UserError(
                f"{path} is of PoseTrack's {entries.form} form, the files before it are of the {builder.form} form"
            )
        if version != "auto" and entries.form != ("2017" if version == "2017" else "2018"):
            raise UserError(f"{path} is of PoseTrack's {entries.form} form, but version is {version}")
        builder.add(path, entries)
        report_faults(path, entries.faults, "annotation", on_bad_annotation)
        report_faults(path, entries.region_faults, "ignore region", on_bad_annotation)
    return builder.finish()


class _Builder:
    """Collects the frames and people of several files."""

    def __init__(self) -> None:
        self.form: Form | None = None
        self.ids: dict[int, Path] = {}  # the file that has it
        self.frames: list[FrameEntry] = []
        self.sequences: dict[tuple[Path, str], int] = {}
        self.sequence_of: list[int] = []  # of each frame
        self.people: list[PersonEntry] = []
        self.rows: list[int] = []  # of each person's frame
        self.joints: list[Float64] = []  # of each file
        self.skipped = 0

    def add(self, path: Path, entries: Entries) -> None:
        """Adds a file's.

        Raises:
            UserError: A frame has no name that is safe to append to a folder, or an id of another file.
        """
        before = len(self.frames)
        for frame in entries.frames:
            reason = _name_fault(frame.name)
            if reason is None and frame.image_id in self.ids:
                reason = f"has the id {frame.image_id}, which {self.ids[frame.image_id]} has too"
            if reason is not None:
                raise UserError(f"{path}: {frame.place} {reason}")
            folder = str(PurePosixPath(frame.name).parent)
            self.sequence_of.append(self.sequences.setdefault((path, folder), len(self.sequences)))
        self.ids |= dict.fromkeys((frame.image_id for frame in entries.frames if frame.image_id >= 0), path)
        self.form = entries.form
        self.frames += entries.frames
        self.people += entries.people
        self.joints.append(entries.joints)
        self.rows += [before + person.row for person in entries.people]
        self.skipped += len(entries.faults)

    def finish(self) -> PoseTrackPeople:
        """Makes the arrays."""
        names = [frame.name for frame in self.frames]
        ids = _integers(person.entry_id for person in self.people)
        rows, sequences = _integers(self.rows), _integers(self.sequence_of)
        joints = np.concatenate([np.zeros((0, _JOINTS, 3)), *self.joints])
        boxes, heads = _boxes(person.box for person in self.people), _boxes(person.head for person in self.people)
        heads[:, 2:] -= heads[:, :2]
        made = ~(boxes[:, 2:] > 0).all(1)
        boxes[made] = boxes_of_joints(joints[made])
        labelled = np.array([frame.labelled for frame in self.frames], dtype=bool)
        labelled[rows] = True
        running = self.form == "2017"
        return PoseTrackPeople(
            self.form or "2018", _integers(range(len(names)) if running else (f.image_id for f in self.frames)), names,
            _integers(frame.size for frame in self.frames).reshape(-1, 2), sequences, _frame_numbers(names, sequences),
            labelled, [folder for _, folder in self.sequences], _regions(self.frames),
            ids if len(np.unique(ids)) == len(ids) and (ids >= 0).all() else np.arange(len(ids)), rows,
            _single_tracks(sequences[rows], rows, _integers(person.track for person in self.people)), joints, boxes,
            heads, self.skipped,
        )  # fmt: skip


def _integers(values: Iterable[Any]) -> Int64:
    return np.array(list(values), dtype=np.int64)


def _boxes(values: Iterable[Sequence[float] | None]) -> Float64:
    return np.array([[np.nan] * 4 if box is None else box for box in values], dtype=np.float64).reshape(-1, 4)


def _regions(frames: Sequence[FrameEntry]) -> dict[int, tuple[Float64, ...]]:
    """Returns the ignore regions that have corners, by the frame's row."""
    found = {row: tuple(region for region in frame.regions if len(region)) for row, frame in enumerate(frames)}
    return {row: regions for row, regions in found.items() if regions}


def boxes_of_joints(joints: Float64) -> Float64:
    """Returns boxes (N, 4) xywh around joints (N, K, 3): their extent and 15 % of it on every side; NaN without any.

    So are the boxes of the 2018 files made. No side is shorter than 16 px.
    """
    known = joints[..., 2:] > 0
    low = np.where(known, joints[..., :2], np.inf).min(1, initial=np.inf)
    high = np.where(known, joints[..., :2], -np.inf).max(1, initial=-np.inf)
    with np.errstate(invalid="ignore"):
        size = np.maximum((high - low) * (1 + 2 * BOX_MARGIN), LEAST_SIDE)
        boxes = np.concatenate([(low + high) / 2 - size / 2, size], axis=1)
    some = np.asarray(known.any((1, 2)), dtype=bool)
    return np.where(some[:, None], boxes, np.nan)


def _single_tracks(sequences: Int64, image_rows: Int64, tracks: Int64) -> Int64:
    """Returns track ids in which the second person of a frame that has another's id is without track."""
    _, first = np.unique(np.stack([sequences, image_rows, tracks]), axis=1, return_index=True)
    result = np.full(len(tracks), -1, dtype=np.int64)
    result[first] = tracks[first]
    return result


def _frame_numbers(names: list[str], sequences: Int64) -> Int64:
    """Returns (I,) the number of each frame in its sequence."""
    result = np.zeros(len(names), dtype=np.int64)
    for sequence in np.unique(sequences):
        rows = np.flatnonzero(sequences == sequence)
        stems = [PurePosixPath(names[row]).stem for row in rows]
        whole = all(stem.isascii() and stem.isdigit() and len(stem) < 18 for stem in stems)
        numbered = [int(stem) for stem in stems] if whole else []
        result[rows] = numbered if whole and len(set(numbered)) == len(numbered) else np.arange(len(rows))
    return result


def _name_fault(name: str) -> str | None:
    if not name:
        return "has no file name"
    return f"has a file name that leads out of the folder: {name!r}" if escapes_folder(name) else None
