"""What the data modules of people in videos, with 3D labels or beside such, have in common."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Bool, Float64
from posekit.data.body3d.frames import MediaError
from posekit.data.body3d.person import IDS, SAME_RATE, Person, Protocol, at_rate, to_track, usable
from posekit.data.clip_transforms import ClipAugmentation, resolve_augmentation
from posekit.data.clip_windows import Window
from posekit.data.clips import CLIP_BOXES, ClipBox, ClipDataset, Track, squeeze_clip
from posekit.data.coco_file import ON_FAULT, OnFault
from posekit.data.crops import Key
from posekit.data.datamodule import FolderDataModule, Split, checked_size
from posekit.errors import UserError, listed
from posekit.files import is_there
from posekit.skeletons import get_skeleton

log = logging.getLogger(__name__)

View = Literal["crops", "clips"]
WindowKind = Literal["pool", "chunk", "key"]
Part = Literal["train", "val", "test"]
ChoiceT = TypeVar("ChoiceT", str, int)


class DataError(UserError):
    """What is wrong is no fault of a recording, so that leaving some out would not mend it."""


class BodyError(DataError):
    """A body or one of its regressors is missing or wrong, whatever the recording."""


class Recording(NamedTuple):
    """People of one file that has not been read yet.

    Attributes:
        name: For messages.
        read: Reads them; raises :class:`MediaError` for pictures and :class:`UserError` for labels.
    """

    name: str
    read: Callable[[], Iterable[Person]]


class BodyCrops(ClipDataset):
    """A ``ClipDataset`` of single frames as ``CropBatch`` samples, with the weights of the 3D labels."""

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """Returns a person's crop.

        Raises:
            IndexError: The index is out of range.
            UserError: The picture is broken.
        """
        return squeeze_clip(super().__getitem__(key))


class BodyDataModule(FolderDataModule):
    """Base of the data modules of people in videos, with 3D labels or beside such.

    A subclass implements :meth:`recordings` and sets ``HOME``; ``PROTOCOLS`` where there are published evaluations.
    Joints are mapped to the joint set by name; what the files lack is not visible and has weight 0 (in 2D and 3D).

    Args:
        root: Folder of the data.
        view: ``"clips"`` (a ``ClipBatch``) or ``"crops"`` (a ``CropBatch`` of single frames, with
            ``joints3d_weight`` and ``body_weight``).
        skeleton: Joint set of the samples.
        frames: T, frames of a clip. 1 makes clips of every labelled frame.
        stride: Distance of a clip's frames.
        hop: Frames between the starts of windows; see :class:`~posekit.data.clip_windows.Window`.
        window: ``"pool"`` (MAED: every ``stride``-th of ``frames * stride``), ``"chunk"`` (consecutive) or ``"key"``
            (around labelled frames).
        image_size: [W, H] of the crops in px.
        box_scale: Enlargement of boxes.
        clip_box: Which box cuts a frame: ``"frame"`` its own, ``"key"`` the key frame's, ``"window"`` one around all.
        augmentation: Random views in training: a recipe's name (``none``, ``maed``, ``pose_track``) or values.
        fps: Frames per second to bring recordings to: new frame k is old frame round(k * old rate / fps). Slower
            recordings stay as they are. None leaves all as they are.
        source_fps: Frames per second of recordings whose files do not say; of Human3.6M in place of 50, of MPI-INF-3DHP
            for the test videos alone. Not used with 3DPW, whose rate is known.
        every: Use only every so-manyth frame; with ``window: key`` as a key frame amid its neighbours. In training on
            Human3.6M 5 is usual, and 64 in some evaluations.
        eval_joints: Number of joints of a published evaluation, whose other joints then have weight 0 in 3D in
            validation and test: 14 or 17 (Human3.6M, MPI-INF-3DHP), 14 or 24 (3DPW), 24 (SURREAL: SMPL's, as the data
            has them); of other data none is known. None keeps all.
        whole_clips: Learn from clips of real frames alone: where a recording ends within one it begins earlier, and
            shorter recordings give none. By default such clips are filled up with copies that are not valid.
        limit: Use only the first so many recordings of each split.
        on_broken_image: ``"error"`` or ``"skip"``: pictures and videos that are absent or broken are left out, counted
            and named.
        on_bad_annotation: ``"error"`` or ``"skip"``: faulty label files are left out, counted and named.
        verify_images: Look at the start whether pictures are there, and at the heads of videos.
        batch_size: Samples per process and step.
        num_workers: Loader processes.
        val_batch_size: Samples per evaluation batch; ``batch_size`` when None.
        seed: Seed of shuffling and augmentation.
        pin_memory: Page-locked batches, for CUDA.
    """

    PROTOCOLS: ClassVar[dict[int, Protocol]] = {}
    """Published evaluations by their number of joints."""
    MIN_JOINTS: ClassVar[int] = 2
    """Frames with fewer visible joints are left out."""
    COUNTED: ClassVar[Sequence[int] | None] = None
    """Which of the files' joints are counted for that; all when None."""
    LABEL_BODY: ClassVar[str] = "SMPL"
    """The body whose pose and shape are labels, where the files have such: ``SMPL`` or ``builtin``."""

    def __init__(
        self,
        root: str,
        view: View = "clips",
        skeleton: str = "SPIN49",
        frames: int = 16,
        stride: int = 1,
        hop: int | None = None,
        window: WindowKind = "pool",
        image_size: tuple[int, int] = (224, 224),
        box_scale: float = 1.25,
        clip_box: ClipBox = "frame",
        augmentation: ClipAugmentation | str | None = "maed",
        fps: float | None = None,
        source_fps: float | None = None,
        every: int = 1,
        eval_joints: int | None = None,
        whole_clips: bool = False,
        limit: int | None = None,
        on_broken_image: OnFault = "error",
        on_bad_annotation: OnFault = "error",
        verify_images: bool = True,
        batch_size: int = 8,
        num_workers: int = 0,
        val_batch_size: int | None = None,
        seed: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(skeleton, batch_size, num_workers, val_batch_size, seed, pin_memory)
        self.root = Path(root).expanduser()
        self.view: View = view
        self.frames = frames
        self.stride = stride
        self.hop = hop
        self.window: WindowKind = window
        self.image_size = checked_size(type(self).__name__, image_size)
        self.box_scale = box_scale
        self.clip_box: ClipBox = clip_box
        self.augmentation = resolve_augmentation(augmentation)
        self.fps = fps
        self.source_fps = source_fps
        self.every = every
        self.eval_joints = eval_joints
        self.whole_clips = whole_clips
        self.limit = limit
        self.on_broken_image: OnFault = on_broken_image
        self.on_bad_annotation: OnFault = on_bad_annotation
        self.verify_images = verify_images
        self._videos: list[str] = []  # of prediction
        self._check_options()

    def _check_options(self) -> None:
        name = type(self).__name__
        self.check_choices(
            view=("crops", "clips"), window=("pool", "chunk", "key"), clip_box=CLIP_BOXES, on_broken_image=ON_FAULT,
            on_bad_annotation=ON_FAULT,
        )  # fmt: skip
        for option in ("frames", "stride", "hop", "box_scale", "fps", "source_fps", "every", "limit"):
            value = getattr(self, option)
            if value is not None and not value > 0:
                raise UserError(f"{name}: {option} is {value}, but must be positive")
        if self.eval_joints is not None and self.eval_joints not in self.PROTOCOLS:
            known_counts = ", ".join(map(str, self.PROTOCOLS)) or "none"
            raise UserError(
                f"{name}: eval_joints is {self.eval_joints}, but its evaluations have {known_counts} joints"
            )

    def chosen(self, option: str, values: Sequence[ChoiceT] | None, known: Sequence[ChoiceT]) -> list[ChoiceT]:
        """Returns the values of an option that selects parts of the data; all when None.

        Raises:
            UserError: A value is not a known one, or there are none.
        """
        if values is None:
            return list(known)
        wrong = [value for value in values if value not in known]
        if wrong or not values:
            given = repr(wrong[0]) if wrong else "empty"
            raise UserError(
                f"{type(self).__name__}: {option} is {given}, but can be of {', '.join(str(v) for v in known)}"
            )
        return list(values)

    @abstractmethod
    def recordings(self, split: Part) -> list[Recording]:
        """Lists a split's recordings, in an order that does not change.

        Raises:
            UserError: Files are missing.
        """

    def load_bodies(self, part: Part) -> None:
        """Loads the bodies that reading a split needs: one that is missing is no fault of a recording.

        Raises:
            UserError: A file is missing or wrong.
        """

    # -- data sets ----------------------------------------------------------------------------------------------------

    def missing(self, what: str, path: Path) -> UserError:
        """Builds the error for a file or folder that is not there."""
        return UserError(f"{type(self).__name__}: {what} {path} does not exist; get it from {self.HOME}")

    def present(self, files: Sequence[Path]) -> Bool:
        """Tells which of single pictures (N,) are there, as far as they are to be looked at.

        Raises:
            MediaError: Some are absent and not to be skipped, or all are.
        """
        if not self.verify_images:
            return np.ones(len(files), dtype=bool)
        there = {path: is_there(path) for path in dict.fromkeys(files)}
        found = np.array([there[path] for path in files], dtype=bool)
        if not found.all():
            absent = [str(path) for path, good in there.items() if not good]
            if self.on_broken_image == "error" or not found.any():
                raise MediaError(f"{len(absent)} of {len(there)} pictures do not exist, e.g. {absent[0]}")
            self.warn_skipped("pictures that do not exist", absent)
        return found

    def windows(self, train: bool) -> Window:
        """Returns the rule that makes clips."""
        if self.view == "crops" or self.frames == 1:
            return Window(1)
        whole = self.whole_clips and train
        if self.window == "pool":
            return Window.pool(self.frames, self.stride, self.hop if train else None, whole=whole)
        if self.window == "key":
            return Window(self.frames, self.stride, whole=whole)
        tail: Literal["shift", "pad"] = "shift" if whole else "pad"
        return Window(self.frames, self.stride, self.hop if train else None, "chunk", tail=tail, whole=whole)

    def make_dataset(self, split: Split) -> ClipDataset:
        """Reads a split's labels.

        Raises:
            UserError: Files are missing or faulty, or nobody is left.
        """
        self.prepare_data()
        train = split == "train"
        kind = BodyCrops if self.view == "crops" else ClipDataset
        return kind(
            self.tracks(split), get_skeleton(self.skeleton), self.image_size, self.windows(train), self.box_scale,
            self.augmentation if train else None, self.clip_box, self.on_broken_image, train, self.seed,
        )  # fmt: skip

    def tracks(self, split: Split) -> list[Track]:
        """Returns the people of a split, in the data module's joint set.

        Raises:
            UserError: Files are missing or faulty, or nobody is left.
        """
        self.prepare_data()
        part: Part = "train" if split == "train" else "val" if split == "val" else "test"
        people = self._people(part)
        videos = {name: number for number, name in enumerate(dict.fromkeys(person.video for person in people))}
        if split == "predict":
            self._videos = list(videos)
        protocol = self.PROTOCOLS[self.eval_joints] if part != "train" and self.eval_joints is not None else None
        skeleton = get_skeleton(self.skeleton)
        return [
            to_track(person, skeleton, number, videos[person.video], protocol) for number, person in enumerate(people)
        ]

    def videos_of(self, image_ids: NDArray[Any]) -> list[str]:
        """Returns the names of the videos that pictures (N,) of the split for prediction are of."""
        return [self._videos[number] for number in (image_ids.astype(np.int64) // IDS).tolist()]

    def _people(self, part: Part) -> list[Person]:
        listed = self.recordings(part)[: self.limit]
        self.load_bodies(part)
        people: list[Person] = []
        broken: list[str] = []
        faulty: list[str] = []
        for recording in listed:
            try:
                people += recording.read()
            except DataError:
                raise
            except UserError as error:
                media = isinstance(error, MediaError)
                if (self.on_broken_image if media else self.on_bad_annotation) == "error":
                    option = "on_broken_image" if media else "on_bad_annotation"
                    reason = str(error).rstrip(".")
                    raise type(error)(f"{type(self).__name__}: {reason}. --data.{option}=skip leaves it out.") from None
                (broken if media else faulty).append(str(error))
        self.warn_skipped(f"recordings of split {part} without whole pictures", broken)
        self.warn_skipped(f"recordings of split {part} with faulty labels", faulty)
        kept = self._prepared(part, people)
        if not kept:
            raise UserError(
                f"{type(self).__name__}: nobody is left in split {part} of {self.root} ({len(listed)} recordings, "
                f"{len(broken)} without whole pictures, {len(faulty)} with faulty labels)"
            )
        return kept

    def each(self, readers: Iterable[Callable[[], Person]]) -> list[Person]:
        """Reads people one by one, e.g. one camera's after another's; the options say what if some have no pictures.

        Args:
            readers: Read a person each.

        Raises:
            MediaError: Pictures are absent or broken and not to be skipped, or nobody has any.
        """
        people: list[Person] = []
        broken: list[str] = []
        for read in readers:
            try:
                people.append(read())
            except MediaError as error:
                if self.on_broken_image == "error":
                    raise
                broken.append(str(error))
        if broken and not people:
            raise MediaError(broken[0])
        self.warn_skipped("cameras without whole pictures", broken)
        return people

    def _prepared(self, part: Part, people: list[Person]) -> list[Person]:
        """Brings people to the frame rate, and leaves out rows that cannot be used."""
        kept: list[Person] = []
        slow: list[str] = []
        dropped = rows = 0
        for person in people:
            person = self._at_rate(person, slow)
            whole = usable(person, self.MIN_JOINTS, self.COUNTED)
            dropped += len(person) - len(whole)
            rows += len(person)
            if self.every > 1:
                whole = self._thinned(whole)
            if len(whole) and (whole.keys is None or whole.keys.any() or person.keys is not None):
                kept.append(whole)
        if slow:
            text = "%s: split %s: %d recordings have fewer than %g frames per second and stay as they are, e.g. %s"
            log.warning(text, type(self).__name__, part, len(slow), self.fps, slow[0])
        if dropped:
            text = "%s: split %s: left out %d of %d frames without a box or with fewer than %d visible joints"
            log.warning(text, type(self).__name__, part, dropped, rows, self.MIN_JOINTS)
        return kept

    def _thinned(self, person: Person) -> Person:
        """Leaves every so-manyth frame, as a key frame amid its neighbours where clips are made around those."""
        chosen = person.frames % self.every == 0
        if self.view != "clips" or self.window != "key":
            return person.take(chosen)
        return replace(person, keys=chosen if person.keys is None else person.keys & chosen)

    def _at_rate(self, person: Person, slow: list[str]) -> Person:
        rate = person.fps if person.fps is not None else self.source_fps
        if self.fps is None:
            return replace(person, fps=rate)
        if rate is None or not np.isfinite(rate) or rate <= 0:
            given = "is not known" if rate is None else f"is {rate:g}"
            raise UserError(f"{type(self).__name__}: the frame rate of {person.name} {given}: set option source_fps")
        if rate < self.fps * (1 - SAME_RATE):
            slow.append(f"{person.name} ({rate:g})")
        return at_rate(replace(person, fps=rate), self.fps)

    def warn_skipped(self, what: str, items: list[str]) -> None:
        """Warns of things that were left out, if there are any, and names the first."""
        if items:
            log.warning("%s: left out %d %s: %s", type(self).__name__, len(items), what, listed(items))


def pinhole(matrix: NDArray[np.floating], rows: int) -> Float64:
    """Repeats intrinsics (3, 3) for all rows without copying them: (rows, 3, 3)."""
    return np.broadcast_to(np.asarray(matrix, dtype=np.float64), (rows, 3, 3))
