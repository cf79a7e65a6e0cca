"""What a sequence file says, the same of either form."""

from __future__ import annotations

from typing import Literal, NamedTuple

from posekit.arrays import Float64

Form = Literal["2017", "2018"]


class FrameEntry(NamedTuple):
    """A frame of a file."""

    place: str  # in the file, e.g. "images[3]"
    name: str  # the image's file name; empty where there is none
    image_id: int  # -1 in the 2017 form
    size: tuple[int, int]  # W, H px; 0 where the file does not say
    labelled: bool  # by the file's word
    regions: tuple[Float64, ...]  # ignore regions: polygons (V, 2) px, also such of no corner
    faults: tuple[str, ...]  # what is wrong with regions that are left out


class PersonEntry(NamedTuple):
    """An annotated or a predicted person."""

    row: int  # of the frame
    entry_id: int  # -1 where there is none
    track: int  # -1 where there is none
    has_points: bool  # whether there is a list of joints at all
    scores: Float64 | None  # (15,) NaN where a joint has none; of predictions
    box: list[float] | None  # xywh px
    head: list[float] | None  # x1, y1, x2, y2 px


class Entries(NamedTuple):
    """A file's frames, its N people without fault in the file's order, and a phrase for each faulty one."""

    form: Form
    frames: list[FrameEntry]
    people: list[PersonEntry]
    joints: Float64  # (N, 15, 3) x, y px and visibility, POSETRACK15: 0 absent, 1 hidden, 2 annotated
    faults: list[str]

    @property
    def region_faults(self) -> list[str]:
        """A phrase for each faulty ignore region."""
        return [fault for frame in self.frames for fault in frame.faults]
