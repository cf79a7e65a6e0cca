"""One person of one video as a data set's files have it, and the way to a ``Track``."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Bool, Float64, Int64
from posekit.data.body3d.frames import FrameReader
from posekit.data.clips import Track
from posekit.data.joint_maps import JointSource
from posekit.skeletons import Skeleton

IDS = 10**7  # ids are this times the number of the video or the person, plus the picture's row
FAR = 1e6  # px or metres: what lies farther off is no label, and might be none of float32's numbers
SAME_RATE = 0.02  # relative: 29.97 frames per second are 30


@dataclass(frozen=True)
class Protocol:
    """The joints of a published evaluation.

    Attributes:
        note: What it is, and what else belongs to it.
        skeleton: The joint set whose joints count, wherever they are taken from.
        joints: Or the files' joints that count.
    """

    note: str
    skeleton: Skeleton | None = None
    joints: tuple[str, ...] = ()

    def counts(self, source: JointSource, skeleton: Skeleton) -> Bool:
        """Returns which joints (K,) of a joint set count."""
        rows = source.map_to(skeleton).matrix
        if self.skeleton is not None:
            wanted = source.map_to(self.skeleton).matrix
            same = (rows[:, None] == wanted[None]).all(-1)
            return np.asarray((same & (wanted != 0).any(-1)).any(-1))
        outside = np.array([name not in self.joints for name in source.joints])
        return np.asarray((rows != 0).any(-1) & ~((rows != 0) & outside).any(-1))


@dataclass(frozen=True)
class Person:
    """N rows in the order of time, gaps allowed; the same fields as ``Track`` where nothing else is said.

    Attributes:
        name: Sequence and person.
        video: What is filmed; people of one video share their pictures' ids.
        read: Gives a picture by its row.
        image_rows: (N,)
        frames: (N,)
        joints: (N, J, 3) x, y, visible, in the files' joints.
        source: What the J joints are.
        joints3d: (N, L, 3) metres, camera frame.
        weight3d: (N, L); None stands for ones.
        source3d: What the L joints are; None for the same as in 2D.
        boxes: (N, 4) xywh; None takes the visible joints' extent.
        keys: (N,); None stands for all.
        image_size: (W, H) px: joints outside are not visible. None where it is not known.
        fps: Frames per second.
        followed: False where the rows are single pictures of different people.
    """

    name: str
    video: str
    read: FrameReader
    image_rows: Int64
    frames: Int64
    joints: Float64
    source: JointSource
    joints3d: Float64 | None = None
    weight3d: Float64 | None = None
    source3d: JointSource | None = None
    boxes: Float64 | None = None
    keys: Bool | None = None
    image_size: tuple[int, int] | None = None
    body_pose: Float64 | None = None
    body_shape: Float64 | None = None
    body_weight: Float64 | None = None
    body_translation: Float64 | None = None
    body_pelvis: Float64 | None = None
    camera: Float64 | None = None
    fps: float | None = None
    followed: bool = True

    def __len__(self) -> int:
        return len(self.frames)

    def take(self, rows: NDArray[Any]) -> Person:
        """Returns some of the rows: (M,) numbers or (N,) bool."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        cut = {name: value[rows] for name, value in values.items() if isinstance(value, np.ndarray)}
        return replace(self, **cut)


def chosen_share(names: Sequence[str], share: float) -> Bool:
    """Returns which (N,) of some names make up a share, chosen by their checksums: at least one, and never all."""
    sums = np.array([zlib.crc32(name.encode()) % 10**4 for name in names], dtype=np.int64)
    part = sums < 10**4 * share
    if share and len(sums) > 1:  # of a few the share may be none, or all
        part |= sums == sums.min()
        part &= sums < sums.max()
    return np.asarray(part)


def joint_boxes(joints: Float64) -> Float64:
    """Returns the extents (N, 4) xywh of the visible joints (N, J, 3); zeros where fewer than two are visible."""
    seen = joints[..., 2] > 0
    low = np.where(seen[..., None], joints[..., :2], np.inf).min(1)
    high = np.where(seen[..., None], joints[..., :2], -np.inf).max(1)
    with np.errstate(invalid="ignore"):
        boxes = np.concatenate([low, high - low], -1)
    return np.where((seen.sum(1) >= 2)[:, None], boxes, 0.0)


def at_rate(person: Person, fps: float) -> Person:
    """Brings a person to another frame rate: new frame k is the old one nearest to k * old rate / new rate.

    Rows whose nearest frame is not there are left out. A slower recording, or one of the same rate, stays as it is.
    """
    assert person.fps is not None
    step = person.fps / fps
    if step < 1 + SAME_RATE or not len(person):
        return person
    first, last = (int(np.ceil(person.frames[0] / step)) - 1, int(person.frames[-1] / step) + 1)
    new = np.arange(max(first, 0), last + 1)
    wanted = np.floor(new * step + 0.5).astype(np.int64)
    rows = np.searchsorted(person.frames, wanted)
    found = person.frames[np.minimum(rows, len(person) - 1)] == wanted
    return replace(person.take(rows[found]), frames=new[found], fps=fps)


def _near(points: Float64) -> Bool:
    """Returns which points (…, C) are finite and not absurdly far off, (…)."""
    return np.asarray((np.abs(points) < FAR).all(-1))  # False for NaN


def visible_joints(joints: Float64, image_size: tuple[int, int] | None = None) -> Float64:
    """Returns joints (N, J, 3) of which those outside the picture, or absurdly far off, are zeros: not visible."""
    joints = joints.copy()
    finite = _near(joints[..., :2])
    if image_size is not None:
        with np.errstate(invalid="ignore"):
            finite &= ((joints[..., :2] >= -0.5) & (joints[..., :2] <= np.array(image_size) - 0.5)).all(-1)
    joints[~finite] = 0
    return joints


def usable(person: Person, min_joints: int, counted: Sequence[int] | None = None) -> Person:
    """Takes joints outside the picture, or absurdly far off, for not visible; leaves out rows that cannot be used.

    Those are rows without a box or with too few joints, of all or of those that are counted.
    """
    joints = visible_joints(person.joints, person.image_size)
    boxes = joint_boxes(joints) if person.boxes is None else person.boxes
    placed = np.isnan(boxes).all(-1) | ((boxes[:, 2] > 0) & (boxes[:, 3] > 0))  # NaN stands for the whole picture
    seen = joints[..., 2] > 0
    kept = placed & ((seen if counted is None else seen[:, list(counted)]).sum(-1) >= min_joints)
    return replace(person, joints=joints, boxes=boxes).take(kept)


def to_track(person: Person, skeleton: Skeleton, number: int, video: int, protocol: Protocol | None = None) -> Track:
    """Brings a person to a joint set.

    Args:
        person: With boxes.
        skeleton: The joint set; what the files lack is not visible, and of weight 0.
        number: Of the person in the split, for ids.
        video: Of the video in the split, for ids.
        protocol: An evaluation; the joints that it does not look at get weight 0 in 3D.
    """
    assert person.boxes is not None
    mapped = person.source.map_to(skeleton)(person.joints, person.joints[..., 2])
    joints = np.where((mapped.weight > 0)[..., None], np.dstack([mapped.points[..., :2], mapped.weight]), 0.0)
    joints3d, weight3d = _joints3d(person, skeleton, protocol)
    return Track(
        name=person.name,
        read=person.read,
        image_rows=person.image_rows,
        frames=person.frames,
        image_ids=video * IDS + person.image_rows,
        sample_ids=number * IDS + person.image_rows,
        boxes=person.boxes,
        box_scores=np.ones(len(person)),
        joints=joints,
        keys=np.ones(len(person), dtype=bool) if person.keys is None else person.keys,
        joints3d=joints3d,
        joints3d_weight=weight3d,
        body_pose=person.body_pose,
        body_shape=person.body_shape,
        body_weight=person.body_weight,
        body_translation=person.body_translation,
        camera=person.camera,
        fps=person.fps,
        body_pelvis=person.body_pelvis,
        followed=person.followed,
    )


def _joints3d(person: Person, skeleton: Skeleton, protocol: Protocol | None) -> tuple[Float64 | None, Float64 | None]:
    if person.joints3d is None:
        return None, None
    source = person.source3d or person.source
    weight = np.ones(person.joints3d.shape[:2]) if person.weight3d is None else person.weight3d
    finite = _near(person.joints3d)
    points, weight = source.map_to(skeleton)(person.joints3d, np.where(finite, weight, 0.0))
    return points, weight if protocol is None else weight * protocol.counts(source, skeleton)
