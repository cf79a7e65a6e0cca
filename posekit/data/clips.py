"""Clips of people cut out of videos: tracks, windows over them, and the data set that crops the frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from posekit.arrays import Bool, Bytes, Float64, Int64
from posekit.data.batch import CROP_FIELDS
from posekit.data.clip_frames import FrameCache
from posekit.data.clip_labels import fill_labels, label_names, move_labels
from posekit.data.clip_transforms import STILL, ClipAugmentation, View
from posekit.data.clip_windows import Window, WindowRows, join
from posekit.data.coco_file import OnFault
from posekit.data.crops import Key, read_or_skip, split_key
from posekit.data.transforms import augmentation_rng, move_joints, normalize_image, warp
from posekit.data.video import VideoReader
from posekit.errors import one_of
from posekit.skeletons import Skeleton

ClipBox = Literal["key", "frame", "window"]
CLIP_BOXES = ("key", "frame", "window")


@dataclass(frozen=True)
class Track:
    """One person followed through one video: N rows in the order of time, gaps allowed.

    Attributes:
        name: Sequence and person, for messages.
        read: Returns a frame as RGB bytes (H, W, 3) by its image row.
        image_rows: (N,) what ``read`` is called with.
        frames: (N,) number of the frame in the video, increasing.
        image_ids: (N,)
        sample_ids: (N,) unique in the split; a window takes the one of its key row.
        boxes: (N, 4) xywh, original px.
        box_scores: (N,)
        joints: (N, K, 3) x, y, visible, original px, in the data module's joint set.
        keys: (N,) whether a row may be a key frame (labelled frames).
        joints3d: (N, K, 3) metres, camera frame; None where the data set has none.
        joints3d_weight: (N, K); None stands for ones.
        body_pose: (N, 24, 3) axis-angle, root in the camera's frame.
        body_shape: (N, 10)
        body_weight: (N,); None stands for ones where ``body_pose`` is given.
        body_translation: (N, 3) metres.
        camera: (N, 3, 3) pinhole intrinsics, original px.
        fps: Frames per second; None where the files do not say.
        body_pelvis: (N, 3) metres, the pelvis of the body in its rest pose. Only rotation augmentation needs it, to
            move ``body_translation``; None takes the body's origin.
        followed: False where the rows are not known to be one person, as a detector's boxes.
    """

    name: str
    read: Callable[[int], Bytes]
    image_rows: Int64
    frames: Int64
    image_ids: Int64
    sample_ids: Int64
    boxes: Float64
    box_scores: Float64
    joints: Float64
    keys: Bool
    joints3d: Float64 | None = None
    joints3d_weight: Float64 | None = None
    body_pose: Float64 | None = None
    body_shape: Float64 | None = None
    body_weight: Float64 | None = None
    body_translation: Float64 | None = None
    camera: Float64 | None = None
    fps: float | None = None
    body_pelvis: Float64 | None = None
    followed: bool = True

    def __len__(self) -> int:
        return len(self.frames)

    def check(self, joints: int) -> None:
        """Checks shapes and order.

        Raises:
            ValueError: An array has another number of rows or joints, or frames do not increase.
        """
        count, arrays = len(self), {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        wrong = [name for name, value in arrays.items() if len(value) != count]
        if wrong:
            raise ValueError(f"track {self.name}: {wrong[0]} has {len(arrays[wrong[0]])} rows, frames has {count}")
        if self.joints.shape[1:] != (joints, 3):
            raise ValueError(f"track {self.name}: joints are {self.joints.shape[1:]}, needed is ({joints}, 3)")
        if (np.diff(self.frames) <= 0).any():
            raise ValueError(f"track {self.name}: frame numbers do not increase")


class ClipDataset(Dataset[dict[str, Any]]):
    """Samples of a ``ClipBatch``, by ``(epoch, index)`` keys; torch's default collation makes the batch.

    Besides the contract's fields, every sample has
        ``answers``   (T,) bool, the frames that the window answers for: of chunks every frame of a track is one once.
        ``row_ids``   (T,) int64, ``sample_ids`` of the frames; padding repeats. With ``valid`` it tells an evaluator
                      which frames to keep, and where they belong.
        ``track_id``  () int64, number of the track; -1 where it does not follow one person.

    Args:
        tracks: People in videos.
        skeleton: The joint set.
        image_size: (W, H) of the crops, px.
        window: Which frames make a clip.
        box_scale: Enlargement of boxes. A key frame's box of NaN stands for whole pictures, which are not enlarged;
            other frames without a box take the key frame's.
        augmentation: Random views, or None. Used in training alone.
        clip_box: Which box cuts a frame: the key frame's (``"key"``), its own (``"frame"``), or one around all boxes of
            the window (``"window"``).
        on_broken_image: ``"error"`` raises when a picture turns out to be broken; ``"skip"`` warns and puts the nearest
            frame in its place (in windows around key frames: the key frame), not valid. Without a key frame the sample
            is one that neither a loss nor a metric counts: black, nothing visible or valid, ``box_score`` 0.
        train: Whether to draw views and the beginnings of pools.
        seed: Of what is random.

    Raises:
        UserError: An option has an unknown value.
        ValueError: A track's arrays do not fit together.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        skeleton: Skeleton,
        image_size: tuple[int, int],
        window: Window,
        box_scale: float = 1.25,
        augmentation: ClipAugmentation | None = None,
        clip_box: ClipBox = "key",
        on_broken_image: OnFault = "error",
        train: bool = False,
        seed: int = 0,
    ) -> None:
        one_of("clip_box", clip_box, CLIP_BOXES)
        for track in tracks:
            track.check(len(skeleton))
        self.tracks = list(tracks)
        self.skeleton = skeleton
        self.image_size = image_size
        self.window = window
        self.box_scale = box_scale
        self.augmentation = augmentation if train else None
        self.clip_box: ClipBox = clip_box
        self.on_broken_image: OnFault = on_broken_image
        self.train = train
        self.seed = seed
        parts = [window.of(track.frames, track.keys, train) for track in self.tracks]
        windows = join(parts, window.frames)
        track_of = np.repeat(np.arange(len(parts)), [len(part.rows) for part in parts])
        order = np.arange(len(track_of)) if train else self._by_time(windows, track_of)
        self.windows = windows.take(order)
        self.track_of = track_of[order]
        self._labelled = label_names(self.tracks)
        # Neighbouring windows share frames, and so do the people of a video; shuffled windows do not.
        self._frames = FrameCache(1 if train else window.span + max(window.frames // 2, 4))

    def __len__(self) -> int:
        return len(self.track_of)

    def _by_time(self, windows: WindowRows, track_of: Int64) -> Int64:
        """Returns the order in which a video is read once, from its beginning to its end, for all of its people."""
        at = windows.key if self.window.kind == "key" else np.zeros_like(windows.key)
        rows = windows.rows[np.arange(len(at)), at].tolist()
        first = [self.tracks[t].image_rows[row] for t, row in zip(track_of.tolist(), rows, strict=True)]
        readers: dict[int, int] = {}
        videos = [readers.setdefault(id(track.read), len(readers)) for track in self.tracks]
        return np.lexsort((np.array(first, dtype=np.int64), np.array(videos, dtype=np.int64)[track_of]))

    @property
    def sample_ids(self) -> Int64:
        """(M,) ids of the samples: that of the key row; pools, which may have one in common, are counted."""
        if self.window.kind == "pool":
            return np.arange(len(self))
        key_rows = self.windows.rows[np.arange(len(self)), self.windows.key].tolist()
        ids = [self.tracks[t].sample_ids[row] for t, row in zip(self.track_of.tolist(), key_rows, strict=True)]
        return np.array(ids, dtype=np.int64)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """Returns a clip.

        Raises:
            IndexError: The index is out of range.
            UserError: A picture is broken.
        """
        epoch, index = split_key(key)
        if not 0 <= index < len(self):
            raise IndexError(index)
        rng = augmentation_rng(self.seed, epoch, index)
        clip = self._choose(rng, index)
        images, clip = self._read(clip)
        return self._blank(clip) if images is None else self._sample(rng, clip, images)

    # -- frames -------------------------------------------------------------------------------------------------------

    def _choose(self, rng: np.random.Generator, index: int) -> _Clip:
        rows, valid, answers, key = (column[index] for column in self.windows)
        if self.window.kind == "pool" and self.train:
            starts = self.window.starts(valid)
            rows, valid = self.window.thin(rows, valid, int(starts[rng.integers(len(starts))]))
            answers, key = valid, len(rows) // 2
        track = self.tracks[int(self.track_of[index])]
        sample_id = index if self.window.kind == "pool" else int(track.sample_ids[rows[key]])
        return _Clip(track, int(self.track_of[index]), rows, valid.copy(), answers, int(key), sample_id)

    def _read(self, clip: _Clip) -> tuple[list[Bytes] | None, _Clip]:
        """Returns the pictures of a clip, and the clip with broken frames replaced; None where no key is left."""
        if not self.train and self.window.interleaved and isinstance(clip.track.read, VideoReader):
            # The next windows want the frames between these, and a video does not go back.
            first = int(clip.rows.min())
            ahead = clip.track.image_rows[first : first + self.window.span]
            self._frames.read_ahead(clip.track.read, ahead.tolist())
        read = partial(self._frames.get, clip.track.read)
        pictures: dict[int, Bytes | None] = {}
        for row in np.unique(clip.rows).tolist():
            pictures[row] = read_or_skip(read, int(clip.track.image_rows[row]), self.on_broken_image)
        broken = np.array([pictures[row] is None for row in clip.rows.tolist()])
        if broken.any():
            around_key = self.window.kind == "key"
            if broken.all() or (around_key and broken[clip.key]):
                return None, clip
            whole = np.array([clip.key]) if around_key else np.flatnonzero(~broken)
            nearest = whole[np.abs(np.arange(len(broken))[:, None] - whole).argmin(1)]
            rows = np.where(broken, clip.rows[nearest], clip.rows)
            clip = clip._replace(rows=rows, valid=clip.valid & ~broken, answers=clip.answers & ~broken)
        images = [pictures[row] for row in clip.rows.tolist()]
        return [image for image in images if image is not None], clip

    # -- samples ------------------------------------------------------------------------------------------------------

    def _sample(self, rng: np.random.Generator, clip: _Clip, images: list[Bytes]) -> dict[str, Any]:
        boxes, scale = self._boxes(clip, images)
        view = self._view(rng, clip, boxes[clip.key], scale, _whole(clip))
        affines = np.stack([view.affine(box, self.image_size, scale) for box in boxes])
        crops = [warp(image, affine, self.image_size) for image, affine in zip(images, affines, strict=True)]
        if self.augmentation is not None:
            crops = self.augmentation.pixels(rng, crops)
        own = clip.track.boxes[clip.rows]
        return {
            "image": torch.stack([normalize_image(crop) for crop in crops]),
            **self._joints(clip, affines, view.flipped),
            "affine": _tensor(affines),
            "box": _tensor(np.where(np.isfinite(own), own, boxes)),
            "box_score": torch.tensor(clip.track.box_scores[clip.rows[clip.key]], dtype=torch.float32),
            **self._ids(clip),
            **self._labels(clip, affines),
        }

    def _boxes(self, clip: _Clip, images: list[Bytes]) -> tuple[Float64, float]:
        """Returns the boxes (T, 4) that cut the frames, and their enlargement."""
        boxes = clip.track.boxes[clip.rows]
        key = boxes[clip.key]
        if _whole(clip):
            whole = [[0.0, 0.0, image.shape[1], image.shape[0]] for image in images]
            return np.array(whole), 1.0
        known = np.asarray(np.isfinite(boxes).all(axis=1, keepdims=True))
        if self.clip_box == "frame":
            return np.where(known, boxes, key), self.box_scale
        if self.clip_box == "window":
            given = boxes[known[:, 0]]
            low, high = given[:, :2].min(0), (given[:, :2] + given[:, 2:]).max(0)
            key = np.concatenate([low, high - low])
        return np.repeat(key[None], len(boxes), axis=0), self.box_scale

    def _view(self, rng: np.random.Generator, clip: _Clip, box: Float64, box_scale: float, whole: bool) -> View:
        if self.augmentation is None:
            return STILL
        joints = clip.track.joints[clip.rows[clip.key]]
        return self.augmentation.view(rng, box, joints, self.skeleton, self.image_size, box_scale, whole)

    def _joints(self, clip: _Clip, affines: Float64, flipped: bool) -> dict[str, Tensor]:
        joints = clip.track.joints[clip.rows]
        flip_index = self.skeleton.flip_index if flipped else None
        moved = [
            move_joints(j[:, :2], j[:, 2].astype(np.int64), affine, self.image_size, flip_index)
            for j, affine in zip(joints, affines, strict=True)
        ]
        points, visible = (np.stack(column) for column in zip(*moved, strict=True))
        return {
            "keypoints": _tensor(points),
            "visible": torch.from_numpy(np.where(clip.valid[:, None], visible, 0)),
        }

    def _labels(self, clip: _Clip, affines: Float64) -> dict[str, Tensor]:
        """Returns the labels in 3D that any track of the data set has."""
        if not self._labelled:
            return {}
        found = move_labels(clip.track, clip.rows, affines, self.skeleton.flip_index)
        return fill_labels(self._labelled, found, clip.valid, len(self.skeleton))

    def _blank(self, clip: _Clip) -> dict[str, Any]:
        """Returns a sample that nothing counts."""
        (width, height), steps, joints = self.image_size, len(clip.rows), len(self.skeleton)
        clip = clip._replace(valid=np.zeros(steps, dtype=bool), answers=np.zeros(steps, dtype=bool))
        return {
            "image": torch.zeros(steps, 3, height, width),
            "keypoints": torch.zeros(steps, joints, 2),
            "visible": torch.zeros(steps, joints, dtype=torch.int64),
            "affine": torch.eye(2, 3).repeat(steps, 1, 1),
            "box": _tensor(np.nan_to_num(clip.track.boxes[clip.rows])),
            "box_score": torch.tensor(0.0),
            **self._ids(clip),
            **fill_labels(self._labelled, {}, clip.valid, joints),
        }

    def _ids(self, clip: _Clip) -> dict[str, Tensor]:
        track, rows, valid = clip.track, clip.rows, clip.valid
        frames = track.frames[rows]
        real = frames[valid] if valid.any() else frames[[clip.key]]
        margin = np.array([frames[clip.key] - real.min(), real.max() - frames[clip.key]])
        return {
            "frame": torch.from_numpy(frames.astype(np.int64)),
            "valid": torch.from_numpy(valid.copy()),
            "key": torch.tensor(clip.key),
            "image_id": torch.from_numpy(track.image_ids[rows].astype(np.int64)),
            "sample_id": torch.tensor(clip.sample_id),
            "margin": torch.from_numpy(np.maximum(margin, 0).astype(np.int64)),
            "answers": torch.from_numpy(clip.answers.copy()),
            "row_ids": torch.from_numpy(track.sample_ids[rows].astype(np.int64)),
            "track_id": torch.tensor(clip.number if track.followed else -1),
        }


class _Clip(NamedTuple):
    """A chosen window."""

    track: Track
    number: int  # of the track
    rows: Int64  # (T,)
    valid: Bool  # (T,)
    answers: Bool  # (T,)
    key: int
    sample_id: int


def _whole(clip: _Clip) -> bool:
    """Tells whether the key frame has no box, which stands for whole pictures."""
    return bool(np.isnan(clip.track.boxes[clip.rows[clip.key]]).any())


def _tensor(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def squeeze_clip(sample: dict[str, Any]) -> dict[str, Any]:
    """Returns a clip sample of one frame as a sample of a ``CropBatch``."""
    crop = {name: sample[name][0] for name in CROP_FIELDS if name in sample}
    return crop | {"box_score": sample["box_score"], "sample_id": sample["sample_id"]}
