"""Which frames of a track make a clip: windows around key frames, pools of long clips, and consecutive chunks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Bool, Int64
from posekit.errors import UserError, one_of

Kind = Literal["key", "pool", "chunk"]
KINDS = ("key", "pool", "chunk")
TAILS = ("pad", "shift", "drop")


class WindowRows(NamedTuple):
    """Windows over the rows of one track."""

    rows: Int64  # (M, T) rows of the track; padding repeats real ones
    valid: Bool  # (M, T) False on padding
    answers: Bool  # (M, T) the rows that the window answers for
    key: Int64  # (M,) place of the key row on the T axis

    def take(self, order: Int64) -> WindowRows:
        """Returns some of the windows."""
        return WindowRows(self.rows[order], self.valid[order], self.answers[order], self.key[order])


@dataclass(frozen=True)
class Window:
    """A rule that makes windows of ``frames`` rows out of a track.

    Three kinds:
        key    Around every row that may be a key frame (labelled frames), ``frames // 2`` neighbours a side, ``stride``
               apart in frame numbers. A missing neighbour is replaced by the key frame and not valid (DCPose's rule).
        pool   Out of ``frames * stride`` consecutive rows every ``stride``-th one (MAED's supplement: 16 of 128). The
               first is drawn from 0 … stride - 1 in training (of fewer, where a short run leaves some without a real
               row); evaluation takes all of them, so that the interleaved clips cover the pool. A run of rows is
               filled up to a multiple of the pool by reflection.
        chunk  ``frames`` consecutive rows (with a ``stride`` the interleaved sequences are cut one by one), every
               ``hop``. ``halo`` rows at either end are context: with ``tail="pad"`` exactly one window answers for
               every row.

    Attributes:
        frames: T, rows of a window. Odd for windows around key frames.
        stride: Distance between neighbours, in frame numbers around key frames, in rows otherwise.
        hop: Rows between the starts of windows. None: pools overlap by half in training and not at all in evaluation;
            chunks lie side by side, apart from the halo.
        kind: ``"key"``, ``"pool"`` or ``"chunk"``.
        halo: Rows at either end of a chunk that it does not answer for.
        tail: What becomes of a run's end that fills no chunk: ``"pad"`` repeats the nearest row (not valid),
            ``"shift"`` moves the last window back, ``"drop"`` leaves it out.
        gaps: ``"split"`` cuts a track where its frame numbers do not go on evenly; ``"ignore"`` does not look at them,
            as MAED's code does. Not for key frames.
        min_frames: Shorter runs give no window. Not for key frames.
        whole: Whether windows with rows that are not valid are left out.
        count_padding: Whether reflected rows of pools are valid, as in MAED's code, which learns from them.
    """

    frames: int
    stride: int = 1
    hop: int | None = None
    kind: Kind = "key"
    halo: int = 0
    tail: Literal["pad", "shift", "drop"] = "pad"
    gaps: Literal["split", "ignore"] = "split"
    min_frames: int = 1
    whole: bool = False
    count_padding: bool = False

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            UserError: A value is out of its range.
        """
        one_of("kind of window", self.kind, KINDS)
        one_of("tail of window", self.tail, TAILS)
        one_of("gaps of window", self.gaps, ("split", "ignore"))
        if self.frames < 1 or self.stride < 1 or (self.hop is not None and self.hop < 1) or self.halo < 0:
            raise UserError(
                f"window: frames {self.frames}, stride {self.stride} and hop {self.hop} must be at least 1, "
                f"halo {self.halo} not negative"
            )
        if self.kind == "key" and self.frames % 2 == 0:
            raise UserError(f"window: around a key frame there is an odd number of frames, not {self.frames}")
        if self.halo and (self.kind != "chunk" or self.tail != "pad" or 2 * self.halo >= self.frames):
            raise UserError(f"window: a halo of {self.halo} needs chunks of more than {2 * self.halo} frames, tail pad")
        if self.kind == "chunk" and self.tail == "pad" and self.inner + 2 * self.halo > self.frames:
            raise UserError(f"window: hop {self.hop} with halo {self.halo} leaves rows between {self.frames} frames")

    @classmethod
    def around_keys(cls, num_support: int = 1, stride: int = 1) -> Window:
        """Returns windows of ``num_support`` neighbours on either side of every key frame."""
        return cls(2 * num_support + 1, stride)

    @classmethod
    def pool(cls, frames: int = 16, stride: int = 8, hop: int | None = None, **options: object) -> Window:
        """Returns windows of every ``stride``-th row of pools of ``frames * stride`` (MAED)."""
        return replace(cls(frames, stride, hop, "pool"), **options)  # type: ignore[arg-type]

    @classmethod
    def chunk(cls, frames: int, hop: int | None = None, halo: int = 0, **options: object) -> Window:
        """Returns windows of consecutive rows."""
        return replace(cls(frames, 1, hop, "chunk", halo), **options)  # type: ignore[arg-type]

    @property
    def interleaved(self) -> bool:
        """Whether windows lie between one another's rows, and are gone through one by one."""
        return self.kind != "key" and self.stride > 1

    @property
    def span(self) -> int:
        """Rows that a window and those between its rows are made of."""
        return self.frames * self.stride

    @property
    def inner(self) -> int:
        """Rows from one chunk to the next."""
        return self.hop or self.frames - 2 * self.halo

    def of(self, frames: Int64, keys: Bool, train: bool) -> WindowRows:
        """Returns a track's windows.

        Args:
            frames: (N,) frame numbers, increasing.
            keys: (N,) rows that may be key frames; for ``kind="key"``.
            train: Whether pools overlap and are not divided into their interleaved clips yet.

        Returns:
            The windows; for pools in training of ``frames * stride`` rows, see :meth:`thin`.
        """
        found = self._around_keys(frames, keys) if self.kind == "key" else self._of_runs(frames, train)
        return found.take(np.flatnonzero(found.valid.all(1))) if self.whole else found

    def _of_runs(self, frames: Int64, train: bool) -> WindowRows:
        windows = [self._of_run(run, train) for run in self._runs(frames) if len(run) >= self.min_frames]
        width = self.frames * self.stride if self.kind == "pool" and train else self.frames
        return join(windows, width)

    def starts(self, valid: Bool) -> Int64:
        """Returns the first rows that a training pool may be thinned from: a short track leaves some without a row."""
        return np.flatnonzero(valid.reshape(self.frames, self.stride).any(0))

    def thin(self, rows: Int64, valid: Bool, start: int) -> tuple[Int64, Bool]:
        """Returns every ``stride``-th of a training pool's rows and their validity, from ``start`` on."""
        return rows[start :: self.stride], valid[start :: self.stride]

    def _around_keys(self, frames: Int64, keys: Bool) -> WindowRows:
        centre = np.flatnonzero(keys)
        side = self.frames // 2
        wanted = frames[centre, None] + self.stride * np.arange(-side, side + 1)
        found = np.minimum(np.searchsorted(frames, wanted), len(frames) - 1)
        valid = frames[found] == wanted if len(frames) else np.zeros(wanted.shape, dtype=bool)
        rows = np.where(valid, found, centre[:, None])
        own = np.zeros(rows.shape, dtype=bool)
        own[:, side] = True
        return WindowRows(rows, valid, own, np.full(len(centre), side))

    def _runs(self, frames: Int64) -> list[Int64]:
        """Returns the rows of each stretch of evenly spaced frames."""
        rows = np.arange(len(frames))
        if len(frames) < 2 or self.gaps == "ignore":
            return [rows] if len(frames) else []
        steps = np.diff(frames)
        usual = np.bincount(steps).argmax() if steps.max() < 1000 else steps.min()
        return np.split(rows, np.flatnonzero(steps != usual) + 1)

    def _of_run(self, run: Int64, train: bool) -> WindowRows:
        if self.kind == "pool":
            return self._pools(run, train)
        parts = [self._chunks(run[phase :: self.stride]) for phase in range(min(self.stride, len(run)))]
        return join(parts, self.frames)

    def _pools(self, run: Int64, train: bool) -> WindowRows:
        size = self.frames * self.stride
        places = np.pad(np.arange(len(run)), (0, -len(run) % size), "reflect" if len(run) > 1 else "edge")
        starts = np.arange(0, len(places) - size + 1, self.hop or (max(size // 2, 1) if train else size))
        at = starts[:, None] + np.arange(size)
        valid = (at < len(run)) | self.count_padding
        rows = run[places[at]]
        if not train:
            rows, valid, at = self._interleaved(rows), self._interleaved(valid), self._interleaved(at)
        answers = at < len(run)
        kept = answers.any(1)
        rows, valid, answers = rows[kept], valid[kept], answers[kept]
        return WindowRows(rows, valid, answers, _nearest_to_middle(answers))

    def _interleaved(self, pools: NDArray[Any]) -> NDArray[Any]:
        """Divides pools (M, frames * stride) into one clip for every first row, (M * stride, frames)."""
        return pools.reshape(-1, self.frames, self.stride).swapaxes(1, 2).reshape(-1, self.frames)

    def _chunks(self, run: Int64) -> WindowRows:
        count, hop = len(run), self.inner
        if self.tail == "pad":
            starts = np.arange(-self.halo, count - self.halo, hop)
            least = starts + self.halo
            most = least + hop
        else:
            starts = np.arange(0, count - self.frames + 1, hop)
            if self.tail == "shift" and (not len(starts) or starts[-1] + self.frames < count):
                starts = np.append(starts, max(count - self.frames, 0))
            most = starts + self.frames
            least = np.concatenate([[0], most[:-1]])  # what an earlier window has is its own
        at = starts[:, None] + np.arange(self.frames)
        inside = np.clip(at, 0, max(count - 1, 0))
        valid = at == inside
        answers = valid & (at >= least[:, None]) & (at < most[:, None])
        return WindowRows(run[inside], valid, answers, _nearest_to_middle(answers))


def _nearest_to_middle(answers: Bool) -> Int64:
    """Returns the place of the row that is nearest to the middle, (M,), among those that windows answer for."""
    middle = answers.shape[1] // 2
    distance = np.where(answers, np.abs(np.arange(answers.shape[1]) - middle), answers.shape[1])
    return np.asarray(distance.argmin(1), dtype=np.int64)


def join(parts: list[WindowRows], frames: int) -> WindowRows:
    """Returns the windows of several lists as one.

    Args:
        parts: Lists of windows of equal length.
        frames: Their length, in case there are none.
    """
    if not parts:
        empty = np.zeros((0, frames), dtype=bool)
        return WindowRows(empty.astype(np.int64), empty, empty, np.zeros(0, dtype=np.int64))
    rows, valid, answers, key = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return WindowRows(rows.astype(np.int64), valid, answers, key)
