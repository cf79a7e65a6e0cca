"""PoseTrack's sequence files (2017, and the COCO-like form of 2018 and 21): one reader for data and evaluation."""

from posekit.posetrack.entries import Entries, Form, FrameEntry, PersonEntry
from posekit.posetrack.fields import SLOTS_2018, in_joint_order, slots_of
from posekit.posetrack.files import Paths, form_of, read_entries, read_frames, sequence_files

__all__ = [
    "SLOTS_2018",
    "Entries",
    "Form",
    "FrameEntry",
    "Paths",
    "PersonEntry",
    "form_of",
    "in_joint_order",
    "read_entries",
    "read_frames",
    "sequence_files",
    "slots_of",
]
