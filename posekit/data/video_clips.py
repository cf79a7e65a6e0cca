"""VideoClips: videos without labels, as clips of people to predict on or to adapt to."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from posekit.arrays import Bytes, Int64
from posekit.data.clip_transforms import ClipAugmentation, resolve_augmentation
from posekit.data.clip_windows import Window
from posekit.data.clips import CLIP_BOXES, ClipBox, ClipDataset, Track
from posekit.data.coco_file import ON_FAULT, OnFault
from posekit.data.datamodule import PoseDataModule, Split, checked_size
from posekit.data.detections import results_category
from posekit.data.picture_ids import picture_ids
from posekit.data.video_boxes import (
    BoxTrack,
    fill_gaps,
    fit_for_learning,
    read_video_boxes,
    smooth_boxes,
    square_boxes,
)
from posekit.data.video_source import Video, Videos, open_videos
from posekit.errors import UserError, counted, listed, named
from posekit.json_file import read_json
from posekit.skeletons import get_skeleton

log = logging.getLogger(__name__)

FRAMES = 16  # of a window, where neither the user nor the method says
BOX_SCALE = 1.25  # likewise


class VideoClips(PoseDataModule):
    """Clips of people in videos without labels.

    The source is a video file, a folder of video files, a folder of folders of frames, a folder of frames (pictures
    whose names are numbers), or pictures, which become clips of one frame. Without boxes every whole frame is one
    person. The format of the boxes: :func:`~posekit.data.video_boxes.read_video_boxes`.

    Prediction: windows of ``frames`` consecutive frames, cut as the method's training clips were, else by one box
    around the person's in all of them, so that features of a frame serve all its neighbours. Every frame of a person is
    marked in ``answers`` of exactly one window; ``halo`` frames at either end are its context. ``row_ids`` number a
    person's frames, ``track_id`` the person.

    Training (adaptation to unlabelled clips): windows of ``frames`` out of at least ``min_frames`` consecutive frames
    at ``fps``. Frames in which two people's boxes overlap by more than ``max_overlap``, or a box is lower than
    ``min_height``, are left out first.

    Image ids are frame numbers for one video, running numbers over the frames of several; of pictures as for
    :class:`~posekit.data.source.ImageSource`.

    Args:
        source: File or folder.
        boxes: JSON of person boxes.
        image_size: [W, H] of the crops in px; the model's (in Python: 192 x 256) when None.
        frames: Frames of a window; None takes the method's (in Python: 16).
        halo: Frames at either end of a prediction window that it does not answer for; None takes the method's, or 0.
        hop: Frames between the starts of training windows; None takes half a window.
        min_frames: Least number of consecutive frames to learn from.
        fps: Frame rate of training windows; None takes the video's.
        source_fps: Frame rate of videos whose files do not say, as folders of frames.
        clip_box: Which box cuts a frame: ``"window"`` (around all boxes of the window), ``"frame"`` (its own) or
            ``"key"``; None takes the method's ``clip_box``, or ``"window"``.
        smooth: Frames over which centre and size of a person's boxes are averaged; 1 leaves them as they are.
        square: Make boxes square.
        box_scale: Enlargement of boxes; None takes the method's ``box_scale``, or 1.25. Whole frames are not enlarged.
        score_threshold: Boxes of a lower score are left out.
        max_overlap: See above.
        min_height: See above, px.
        augmentation: Random views of training windows, as values or as a recipe's name.
        on_broken_image: ``"error"`` or ``"skip"``: broken files are left out, counted and named; frames that turn out
            to be broken are replaced by the nearest one.
        on_bad_annotation: ``"error"`` or ``"skip"``: faulty boxes, and those wholly outside their frame, are left out,
            counted and named.
        apply_exif: Turn pictures as their EXIF orientation says.
        skeleton: Joint set of the samples; the model's (in Python: COCO17) when None.
        batch_size: Samples per process and step.
        num_workers: Loader processes. Of a video file each decodes the whole.
        val_batch_size: Windows per batch of prediction; 1 when None, for a window is many pictures.
        seed: Seed of shuffling and augmentation.
        pin_memory: Page-locked batches, for CUDA.

    Attributes:
        frames: Name of a frame by its image id, once set up.
        track_names: The ``video`` and the ``person`` (as the boxes name them) of each ``track_id``, once set up.
        is_video: Whether the source is one video.
        fps: Frames per second of one video, if its file says.
        people_category: Id of the people's category in a COCO file of boxes, once set up, else 1; results have it.
    """

    view: str = "clips"

    def __init__(
        self,
        source: str,
        boxes: str | None = None,
        image_size: tuple[int, int] | None = None,
        frames: int | None = None,
        halo: int | None = None,
        hop: int | None = None,
        min_frames: int = 60,
        fps: float | None = None,
        source_fps: float | None = None,
        clip_box: ClipBox | None = None,
        smooth: int = 15,
        square: bool = False,
        box_scale: float | None = None,
        score_threshold: float = 0.0,
        max_overlap: float = 0.2,
        min_height: float = 96.0,
        augmentation: ClipAugmentation | str | None = None,
        on_broken_image: OnFault = "error",
        on_bad_annotation: OnFault = "error",
        apply_exif: bool = True,
        skeleton: str | None = None,
        batch_size: int = 32,
        num_workers: int = 0,
        val_batch_size: int | None = None,
        seed: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(skeleton or "COCO17", batch_size, num_workers, val_batch_size or 1, seed, pin_memory)
        self.source = Path(source).expanduser()
        self.boxes = Path(boxes).expanduser() if boxes else None
        self.image_size = checked_size("VideoClips", image_size or (192, 256))
        self.window_frames = frames
        self.halo = halo
        self.hop = hop
        self.min_frames = min_frames
        self.train_fps = fps
        self.source_fps = source_fps
        self.clip_box: ClipBox | None = clip_box
        self.smooth = smooth
        self.square = square
        self.box_scale = box_scale
        self.score_threshold = score_threshold
        self.max_overlap = max_overlap
        self.min_height = min_height
        self.augmentation = resolve_augmentation(augmentation)
        self.on_broken_image: OnFault = on_broken_image
        self.on_bad_annotation: OnFault = on_bad_annotation
        self.apply_exif = apply_exif
        self.frames: dict[int, str] = {}
        self.track_names: dict[int, dict[str, str]] = {}
        self.is_video = False
        self.fps: float | None = source_fps
        self.people_category: Any = 1
        self._places: dict[int, tuple[int, int]] = {}  # video and frame by image id
        self._opened: Videos | None = None
        self._check()

    def _check(self) -> None:
        if self.clip_box is not None:
            self.check_choices(clip_box=CLIP_BOXES)
        self.check_choices(on_broken_image=ON_FAULT, on_bad_annotation=ON_FAULT)
        least = {"frames": self.window_frames, "hop": self.hop, "min_frames": self.min_frames, "smooth": self.smooth}
        for option, value in least.items():
            if value is not None and value < 1:
                raise UserError(f"VideoClips: {option} is {value}, but must be at least 1")
        positive = {"fps": self.train_fps, "source_fps": self.source_fps, "box_scale": self.box_scale}
        for option, rate in positive.items():
            if rate is not None and not rate > 0:
                raise UserError(f"VideoClips: {option} is {rate}, but must be positive")

    def adapt_to(self, method: Any) -> None:
        """Takes over a method's ``clip_frames``, ``clip_halo``, ``clip_box`` and ``box_scale`` that the user left open.

        Args:
            method: A method on clips, before the data are set up.
        """
        self.window_frames = self.window_frames or getattr(method, "clip_frames", None)
        self.halo = getattr(method, "clip_halo", None) if self.halo is None else self.halo
        self.clip_box = self.clip_box or getattr(method, "clip_box", None)
        self.box_scale = self.box_scale or getattr(method, "box_scale", None)

    # -- data sets ----------------------------------------------------------------------------------------------------

    def make_dataset(self, split: Split) -> ClipDataset:
        """Builds the data set of prediction, or that of training on unlabelled clips.

        Raises:
            UserError: The source or the boxes cannot be used, or no clip is long enough.
        """
        if split not in ("predict", "train"):
            raise UserError(f"VideoClips has no labels, so there is nothing to {split} on; it is for predict and train")
        with named("VideoClips"):
            return self._make(split)

    def _make(self, split: Split) -> ClipDataset:
        opened = self._open()
        people = self._people(opened.videos, split)
        window = self._train_window() if split == "train" else self._predict_window(opened, people)
        tracks = self._tracks(opened.videos, people, resampled=split == "train")
        if split == "predict" and not opened.pictures:
            names = ((opened.videos[p.video].name, p.person) for p in people)
            self.track_names = {i: {"video": video, "person": person} for i, (video, person) in enumerate(names)}
        dataset = ClipDataset(
            tracks, get_skeleton(self.skeleton), self.image_size, window, self.box_scale or BOX_SCALE,
            self.augmentation, self.clip_box or "window", self.on_broken_image, split == "train", self.seed,
        )  # fmt: skip
        rate = f" at {self.train_fps:g} per second" if self.train_fps else ""
        wanted = (
            f"is followed over {window.min_frames} consecutive frames{rate} (min_frames), alone "
            f"(max_overlap {self.max_overlap:g}) and {self.min_height:g} px high (min_height)"
        )
        if not len(dataset):
            raise UserError(f"VideoClips: nobody in {self.source} {wanted}")
        if split == "train":
            used = {people[track].video for track in np.unique(dataset.track_of).tolist()}
            unused = [video.name for number, video in enumerate(opened.videos) if number not in used]
            if unused:
                count = counted(len(unused), "picture" if opened.pictures else "video")
                log.warning("VideoClips: left out %s in which nobody %s: %s", count, wanted, listed(unused))
        return dataset

    def read_frame(self, image_id: int) -> Bytes:
        """Returns a frame of ``frames`` as RGB bytes (H, W, 3); videos are read fastest in order.

        Raises:
            UserError: It is broken.
            KeyError: There is no such frame.
        """
        videos = self._open().videos
        video, place = self._places[image_id]
        return videos[video].read(place)

    def _open(self) -> Videos:
        """Opens the source at the first call."""
        if self._opened is None:
            opened = open_videos(self.source, self.on_broken_image, self.apply_exif)
            self.is_video = len(opened.videos) == 1 and not opened.pictures
            if self.is_video:
                self.fps = opened.videos[0].fps or self.source_fps
            ids = _image_ids(opened, self.boxes)
            for number, video in enumerate(opened.videos):
                for place, image_id in enumerate(ids[number]):
                    self.frames[image_id] = _frame_name(video, place, self.is_video)
                    self._places[image_id] = (number, place)
            self._ids = ids
            self._opened = opened
        return self._opened

    def _train_window(self) -> Window:
        frames = self.window_frames or FRAMES
        hop = self.hop or max(frames // 2, 1)
        return Window.chunk(frames, hop, tail="shift", min_frames=max(frames, self.min_frames))

    def _predict_window(self, opened: Videos, people: list[BoxTrack]) -> Window:
        halo, frames = self.halo or 0, self.window_frames or FRAMES
        if opened.pictures:
            return Window.chunk(1)
        longest = max(len(track.frames) for track in people)
        return Window.chunk(max(min(frames, longest + 2 * halo), 2 * halo + 1), halo=halo)

    # -- people -------------------------------------------------------------------------------------------------------

    def _people(self, videos: list[Video], split: Split) -> list[BoxTrack]:
        """Returns the people's boxes, ready to cut them out."""
        if self.boxes is None:
            people = [_whole_frames(number, len(video)) for number, video in enumerate(videos)]
            if split == "train":
                people = [p for p in people if videos[p.video].read(0).shape[0] >= self.min_height]
            return people
        names = {video.name: number for number, video in enumerate(videos)}
        stems = Counter(Path(name).stem for name in names)
        short = {Path(name).stem: number for name, number in names.items() if stems[Path(name).stem] == 1}
        names = short | names
        content = read_json(self.boxes, "boxes file")
        self.people_category = results_category(self.boxes, content)
        people = read_video_boxes(
            self.boxes, [video.places for video in videos], names, self.score_threshold, self.on_bad_annotation,
            lru_cache(None)(lambda number: videos[number].size()),
            {ids[0]: number for number, ids in enumerate(self._ids)} if self._open().pictures else None,
            content,
        )  # fmt: skip
        if split == "train":
            people = fit_for_learning(people, self.max_overlap, self.min_height)
        return [self._smoothed(fill_gaps(track)) for track in people]

    def _smoothed(self, track: BoxTrack) -> BoxTrack:
        boxes = smooth_boxes(track.frames, track.boxes, self.smooth)
        return replace(track, boxes=square_boxes(boxes) if self.square else boxes)

    def _tracks(self, videos: list[Video], people: list[BoxTrack], resampled: bool) -> list[Track]:
        joints = np.zeros((1, len(get_skeleton(self.skeleton)), 3))
        tracks, count = [], 0
        for person in people:
            video = videos[person.video]
            frames = video.numbers[person.frames]
            if resampled and self.train_fps is not None:
                rows, frames = self._resample(video, person)
                person = person.take(rows)
            rows = person.frames
            size = len(rows)
            track = Track(
                name=f"{video.name}, {person.person}", read=video.read, image_rows=rows, frames=frames,
                image_ids=np.array(self._ids[person.video], dtype=np.int64)[rows],
                sample_ids=np.arange(count, count + size), boxes=person.boxes, box_scores=person.scores,
                joints=np.broadcast_to(joints, (size, *joints.shape[1:])), keys=np.ones(size, dtype=bool),
                fps=video.fps or self.source_fps,
            )  # fmt: skip
            tracks.append(track)
            count += size
        return tracks

    def _resample(self, video: Video, person: BoxTrack) -> tuple[Int64, Int64]:
        """Returns a track's rows at ``fps``, and the frames' numbers at that rate."""
        own = video.fps or self.source_fps
        if own is None:
            raise UserError(f"VideoClips: {video.name} does not say its frame rate: give source_fps, or no fps")
        assert self.train_fps is not None
        numbers = video.numbers - video.numbers[0]
        wanted = np.rint(np.arange(int(numbers[-1] * self.train_fps / own) + 1) * own / self.train_fps).astype(np.int64)
        there = numbers[person.frames]
        place = np.minimum(np.searchsorted(there, wanted), len(there) - 1)
        hit = there[place] == wanted
        return place[hit], np.flatnonzero(hit)


def _whole_frames(video: int, count: int) -> BoxTrack:
    return BoxTrack(video, "whole frames", np.arange(count), np.full((count, 4), np.nan), np.ones(count))


def _image_ids(opened: Videos, boxes: Path | None) -> list[list[int]]:
    """Returns the image ids of each video's frames."""
    if len(opened.videos) == 1 and not opened.pictures:
        return [opened.videos[0].numbers.tolist()]
    if opened.pictures:
        content = read_json(boxes, "boxes file") if boxes else None
        ids = dict(zip(opened.names, picture_ids(boxes, list(opened.names), content), strict=True))
        return [[ids[video.name]] for video in opened.videos]
    starts = np.cumsum([0, *(len(video) for video in opened.videos)]).tolist()
    return [list(range(start, start + len(video))) for start, video in zip(starts, opened.videos, strict=False)]


def _frame_name(video: Video, place: int, alone: bool) -> str:
    if len(video) == 1 and video.files:
        return video.files[0]
    if alone:
        return video.files[place] if video.files else f"{video.name}#{place}"
    # One folder has the overlays of all videos, named by the part before the last dot.
    own = Path(video.files[place]).name if video.files else f"{place:06d}.jpg"
    return f"{Path(video.name).stem}#{own}"
