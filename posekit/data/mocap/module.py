"""What all data modules of motion capture have in common."""

from __future__ import annotations

import logging
import zlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, NamedTuple

from posekit.data.coco_file import ON_FAULT, OnFault
from posekit.data.datamodule import FolderDataModule, Split
from posekit.data.mocap.names import NAMEABLE
from posekit.data.mocap.sequence import MotionSequence, MotionTrack, check_rate, to_tracks
from posekit.data.mocap.windows import MotionDataset
from posekit.errors import UserError, counted, listed
from posekit.skeletons import get_skeleton

log = logging.getLogger(__name__)

MissingJoints = Literal["error", "zero_weight"]
SplitBy = Literal["sequence", "subject"]


class Recording(NamedTuple):
    """A recording that has not been read yet.

    Attributes:
        name: Unique in the data set, e.g. ``"02_01"``.
        subject: Who was recorded, as far as the files tell.
        read: Reads it; raises :class:`UserError` where it is faulty.
    """

    name: str
    subject: str
    read: Callable[[], MotionSequence]


class MotionDataModule(FolderDataModule):
    """Base of the data modules of motion capture: windows of joints over time, without pictures (``MotionBatch``).

    A subclass implements :meth:`recordings` and sets ``HOME``. Recordings are divided as wholes: no two splits share
    one. Test and prediction use the validation recordings unless others are named. Recordings are cut where a joint is
    no number or the body jumps, and brought to ``fps`` (by linear interpolation where no frame falls on the time).

    Args:
        root: Folder of the data.
        view: ``"motion"``, the only one.
        skeleton: Joint set of the samples.
        frames: Length of a window.
        fps: Frames per second of a window.
        stride: Frames between the starts of training windows.
        val_stride: The same for evaluation; ``frames`` when None.
        val_share: Share of the recordings (of the subjects) that are for validation, chosen by a checksum of the name.
        val_sequences: Names of the validation recordings or of subjects, ``*`` allowed, in place of the share.
        test_sequences: Names of the test recordings; those of validation when None.
        split_by: ``"sequence"``, or ``"subject"``, who is then in one split only.
        missing_joints: ``"error"`` refuses recordings that lack a joint of the set; ``"zero_weight"`` gives it weight
            0.
        on_bad_sequence: ``"error"`` or ``"skip"``: faulty recordings are left out, counted and named.
        on_short_sequence: ``"skip"`` or ``"error"``: what to do with recordings that hold no whole window.
        max_speed: Metres per second of the body above which two frames do not belong together.
        rotate: Turn training windows about the vertical axis at random.
        limit: Use only the first so many recordings of each split.
        batch_size: Samples per process and step.
        num_workers: Loader processes.
        val_batch_size: Samples per evaluation batch; ``batch_size`` when None.
        seed: Seed of shuffling and rotation.
        pin_memory: Page-locked batches, for CUDA.
    """

    def __init__(
        self,
        root: str,
        view: Literal["motion"] = "motion",
        skeleton: str = "LIMB17",
        frames: int = 30,
        fps: float = 30.0,
        stride: int = 15,
        val_stride: int | None = None,
        val_share: float = 0.1,
        val_sequences: Sequence[str] | None = None,
        test_sequences: Sequence[str] | None = None,
        split_by: SplitBy = "sequence",
        missing_joints: MissingJoints = "error",
        on_bad_sequence: OnFault = "error",
        on_short_sequence: OnFault = "skip",
        max_speed: float = 10.0,
        rotate: bool = True,
        limit: int | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        val_batch_size: int | None = None,
        seed: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(skeleton, batch_size, num_workers, val_batch_size, seed, pin_memory)
        self.root = Path(root).expanduser()
        self.view = view
        self.frames = frames
        self.fps = fps
        self.stride = stride
        self.val_stride = frames if val_stride is None else val_stride
        self.val_share = val_share
        self.val_sequences = list(val_sequences) if val_sequences is not None else None
        self.test_sequences = list(test_sequences) if test_sequences is not None else None
        self.split_by: SplitBy = split_by
        self.missing_joints: MissingJoints = missing_joints
        self.on_bad_sequence: OnFault = on_bad_sequence
        self.on_short_sequence: OnFault = on_short_sequence
        self.max_speed = max_speed
        self.rotate = rotate
        self.limit = limit
        self._check_options()

    def _check_options(self) -> None:
        name = type(self).__name__
        self.check_choices(
            view=("motion",), split_by=("sequence", "subject"), missing_joints=("error", "zero_weight"),
            on_bad_sequence=ON_FAULT, on_short_sequence=ON_FAULT,
        )  # fmt: skip
        for option in ("frames", "stride", "val_stride", "fps", "max_speed"):
            if not getattr(self, option) > 0:
                raise UserError(f"{name}: {option} is {getattr(self, option)}, but must be positive")
        if not 0 < self.val_share < 1:
            raise UserError(f"{name}: val_share is {self.val_share}, but must lie between 0 and 1")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"{name}: limit is {self.limit}, but must be at least 1 (or null)")

    @abstractmethod
    def recordings(self) -> list[Recording]:
        """Lists the recordings under ``root``, in an order that does not change.

        Raises:
            UserError: There are none.
        """

    # -- splits -------------------------------------------------------------------------------------------------------

    def divided(self) -> dict[str, list[Recording]]:
        """Divides the recordings into ``train``, ``val`` and ``test``; the last two may be the same.

        Raises:
            UserError: There are none, a named one does not exist, or one split would be empty.
        """
        everything = self.recordings()
        val = self._named("val_sequences", everything, self.val_sequences) or self._share(everything)
        test = self._named("test_sequences", everything, self.test_sequences) or val
        train = [r for r in everything if self._group(r) not in val | test]
        parts = {
            "train": train,
            "val": [r for r in everything if self._group(r) in val],
            "test": [r for r in everything if self._group(r) in test],
        }
        empty = [split for split, part in parts.items() if not part]
        if empty:
            kind = "subject" if self.split_by == "subject" else "sequence"
            count = len({self._group(r) for r in everything})
            raise UserError(
                f"{type(self).__name__}: {self.root} has {count} {kind}{'s' if count != 1 else ''}, which leaves split "
                f"{' and '.join(empty)} empty (options split_by, val_share, val_sequences, test_sequences)"
            )
        return {split: part[: self.limit] for split, part in parts.items()}

    def _group(self, recording: Recording) -> str:
        return recording.subject if self.split_by == "subject" else recording.name

    def _named(self, option: str, everything: list[Recording], patterns: list[str] | None) -> set[str]:
        groups: set[str] = set()
        for pattern in patterns or ():
            found = {self._group(r) for r in everything if fnmatch(r.name, pattern) or fnmatch(r.subject, pattern)}
            if not found:
                known = ", ".join(r.name for r in everything[:5])
                raise UserError(f"{type(self).__name__}: {option} names {pattern!r}, but {self.root} has {known}, …")
            groups |= found
        return groups

    def _share(self, everything: list[Recording]) -> set[str]:
        groups = sorted({self._group(r) for r in everything}, key=lambda name: (zlib.crc32(name.encode()), name))
        return set(groups[: max(1, round(self.val_share * len(groups)))]) if len(groups) > 1 else set()

    # -- data sets ----------------------------------------------------------------------------------------------------

    def make_dataset(self, split: Split) -> MotionDataset:
        """Reads a split's recordings.

        Raises:
            UserError: Files are missing or faulty, or no recording holds a whole window.
        """
        self.prepare_data()
        if split == "predict":
            split = "test"
        tracks = self._collect(split, self.divided()[split])
        training = split == "train"
        stride = self.stride if training else self.val_stride
        return MotionDataset(tracks, self.frames, stride, self.rotate and training, self.seed)

    def _collect(self, split: str, recordings: list[Recording]) -> list[MotionTrack]:
        tracks, short, faulty, cut = [], [], [], []
        dropped = 0
        for recording in recordings:
            try:
                found, lost = self._tracks(recording)
            except UserError as error:
                if self.on_bad_sequence == "error":
                    raise
                faulty.append(str(error))
                continue
            whole = [track for track in found if len(track.points) >= self.frames]
            if not whole:
                short.append(f"{recording.name} ({max((len(t.points) for t in found), default=0)})")
            tracks += whole
            dropped += lost
            if len(found) > 1 or lost > 0:
                cut.append(recording.name)
        self._report(split, short, faulty, dropped, cut)
        if not tracks:
            raise UserError(
                f"{type(self).__name__}: none of the {len(recordings)} recordings of split {split} in {self.root} "
                f"holds a window of {self.frames} frames at {self.fps:g} per second (options frames, fps; val_share, "
                "val_sequences and test_sequences choose other recordings)"
            )
        return tracks

    def _tracks(self, recording: Recording) -> tuple[list[MotionTrack], int]:
        sequence = recording.read()
        reason = check_rate(sequence.fps, self.fps)
        if reason is not None:
            raise UserError(f"{type(self).__name__}: recording {recording.name} {reason}")
        skeleton = get_skeleton(self.skeleton)
        lacking = sequence.joints.absent(skeleton)
        if lacking and (self.missing_joints == "error" or len(lacking) == len(skeleton)):
            hint = "" if len(lacking) == len(skeleton) else "; missing_joints=zero_weight gives them weight 0"
            named = [joint for joint in lacking if joint in NAMEABLE]
            if named and sequence.nameable:
                example = f"{{{named[0]}: {sequence.nameable[0]}}}"
                hint += f"; it has {', '.join(sequence.nameable)} (option joints says which is which, as {example})"
            raise UserError(
                f"{type(self).__name__}: {sequence.joints.name} of recording {recording.name} lacks "
                f"{', '.join(lacking)} of joint set {skeleton.name}{hint}"
            )
        return to_tracks(sequence, skeleton, self.fps, self.max_speed)

    def _report(self, split: str, short: list[str], faulty: list[str], dropped: int, cut: list[str]) -> None:
        name = type(self).__name__
        if short:
            count = counted(len(short), "recording")
            what = f"{count} of split {split} without a window of {self.frames} frames: {listed(short)}"
            if self.on_short_sequence == "error":
                raise UserError(f"{name}: {what}. --data.on_short_sequence=skip leaves them out.")
            log.warning("%s: left out %s", name, what)
        if faulty:
            what = f"{counted(len(faulty), 'faulty recording')} of split {split}"
            log.warning("%s: left out %s: %s", name, what, listed(faulty))
        if cut:
            why = f"where the body moves faster than {self.max_speed:g} m/s (option max_speed)"
            if dropped:
                why += f" or joints are no numbers: {counted(dropped, 'frame')} dropped"
            count = counted(len(cut), "recording")
            log.warning("%s: cut %s of split %s: %s, %s", name, count, split, listed(cut), why)
