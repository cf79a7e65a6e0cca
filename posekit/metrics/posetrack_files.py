"""PoseTrack's sequence files as the evaluation sees them: the people of each frame."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from posekit.arrays import Bool, Float64
from posekit.errors import UserError, counted, listed
from posekit.posetrack import PersonEntry, read_entries
from posekit.skeletons import POSETRACK15

NO_SCORE = -9999.0  # what poseval gives a predicted joint without score
_JOINTS = len(POSETRACK15)


@dataclass(frozen=True)
class People:
    """The people of one frame."""

    xy: Float64  # (N, 15, 2) px
    score: Float64  # (N, 15)
    present: Bool  # (N, 15)
    head: Float64  # (N, 4) x1, y1, x2, y2 px; NaN without
    has_points: Bool  # (N,) whether the file has a list of points at all

    def take(self, rows: Bool | slice) -> People:
        """Returns the given people."""
        return People(self.xy[rows], self.score[rows], self.present[rows], self.head[rows], self.has_points[rows])

    def with_points(self) -> People:
        """Returns the people that have a list of points."""
        return self.take(self.has_points)

    @classmethod
    def empty(cls, count: int = 0) -> People:
        """Returns people without any joint."""
        shape = (count, _JOINTS)
        return cls(
            np.zeros((*shape, 2)), np.full(shape, NO_SCORE), np.zeros(shape, bool), np.full((count, 4), np.nan),
            np.ones(count, bool),
        )  # fmt: skip

    @classmethod
    def predicted(cls, points: Float64) -> People:
        """Makes people of (N, 15, 3) x, y, score; a joint whose score is NaN is absent."""
        people = cls.empty(len(points))
        present: Bool = np.isfinite(points.sum(-1))
        return cls(points[..., :2], points[..., 2], present, people.head, people.has_points)


@dataclass(frozen=True)
class Frame:
    """One frame of a file.

    Attributes:
        name: File name of the image.
        image_id: Its id in the 2018 format, -1 in the 2017 format.
        labelled: Whether it has any entry for a person (poseval leaves the others out, with their predictions).
        people: The people.
        regions: Ignore regions as polygons (V, 2) px.
    """

    name: str
    image_id: int
    labelled: bool
    people: People
    regions: tuple[Float64, ...]


def read_sequence(
    path: Path, scored: bool = True, on_bad_annotation: Literal["error", "skip"] = "error"
) -> list[Frame]:
    """Reads one sequence file of either form.

    Args:
        path: The file.
        scored: Its people are predicted: they have scores and no head boxes.
        on_bad_annotation: ``"error"`` refuses faulty people and ignore regions, ``"skip"`` leaves them out, as the data
            module of that option does, and warns. Regions of a file of predictions do not matter.

    Raises:
        UserError: The file is missing, no JSON, of neither form, or an entry is wrong.
    """
    entries = read_entries(path, scored, boxes=on_bad_annotation == "skip")
    regions = [] if scored else entries.region_faults  # only the truth's count
    for kind, faults in (("annotation", entries.faults), ("ignore region", regions)):
        if not faults:
            continue
        text = f"{counted(len(faults), f'faulty {kind}')}: {listed(faults)}"
        if on_bad_annotation == "error":
            raise UserError(f"{path}: {text}")
        warnings.warn(f"{path}: PoseTrack's AP leaves out {text}", stacklevel=2)
    rows = np.array([person.row for person in entries.people], dtype=np.int64)
    order = np.argsort(rows, kind="stable")
    people = _people([entries.people[i] for i in order], entries.joints[order])
    ends = np.searchsorted(rows[order], np.arange(len(entries.frames) + 1)).tolist()
    return [
        Frame(frame.name, frame.image_id, first < last, people.take(slice(first, last)), frame.regions)
        for frame, (first, last) in zip(entries.frames, pairwise(ends), strict=True)
    ]


def _people(entries: Sequence[PersonEntry], joints: Float64) -> People:
    people = People.empty(len(entries))
    has_points = np.array([person.has_points for person in entries], dtype=np.bool_)
    for i, person in enumerate(entries):
        if person.scores is not None:
            people.score[i] = np.where(np.isnan(person.scores), NO_SCORE, person.scores)
        if person.head is not None:
            people.head[i] = person.head
    return People(joints[..., :2], people.score, joints[..., 2] > 0, people.head, has_points)
