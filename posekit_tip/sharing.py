"""Windows over encoded frames: each frame is encoded once, however many windows look at it."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor

from posekit.data.batch import PICTURE_FIELDS, ClipBatch, CropBatch
from posekit.data.batch_parts import one_frame_clips

FRAME_FIELDS = (*PICTURE_FIELDS, "frame", "valid")
CLIP_FIELDS = ("box_score", "sample_id")


class Windows(NamedTuple):
    """M windows over N frames that lie in one row: places of frames, not frames."""

    key: Tensor  # (M,) the key frames
    before: Tensor  # (M, S) earlier neighbours, nearest first; the key frame itself where there is none
    after: Tensor  # (M, S) later neighbours
    start: Tensor  # (M,) the earlier frame that poses are synthesized from
    end: Tensor  # (M,) the later one
    whole: Tensor  # (M,) bool, both exist and are equally far from the key frame

    def part(self, rows: slice) -> Windows:
        """Returns some of the windows."""
        return Windows(*(value[rows] for value in self))


def key_windows(frame: Tensor, valid: Tensor, key: Tensor, num_support: int) -> Windows:
    """Lays one window around the key frame of each clip.

    Neighbours beyond the clip's ends, and padding, are replaced by the key frame (DCPose's rule); a frame behind a gap
    is used however far it is. Poses are synthesized between the outermost neighbours that exist on both sides, else
    between the nearest ones. Frame numbers tell whether the two ends are equally far; else the window is not whole.

    Args:
        frame: (B, T) number of each frame in its video.
        valid: (B, T) False on padding.
        key: (B,) place of the key frame on the T axis.
        num_support: Neighbours S a side.

    Returns:
        Windows over the B * T frames in a row, clip by clip.
    """
    batch, length = frame.shape
    device = frame.device
    reach = torch.arange(1, num_support + 1, device=device)
    first = (torch.arange(batch, device=device) * length)[:, None]
    sides = []
    for sign in (-1, 1):
        place = key[:, None] + sign * reach
        inside = (place >= 0) & (place < length)
        place = place.clamp(0, length - 1)
        exists = inside & valid.gather(1, place)
        sides.append((torch.where(exists, place, key[:, None]), exists))
    (before, has_before), (after, has_after) = sides
    both = has_before & has_after
    # Of the pairs that exist the farthest one; the nearest where none does.
    rank = torch.where(both, reach, torch.zeros_like(reach)).argmax(1, keepdim=True)
    start, end = before.gather(1, rank), after.gather(1, rank)
    at_key = frame.gather(1, key[:, None])
    back, ahead = at_key - frame.gather(1, start), frame.gather(1, end) - at_key
    whole = (both.gather(1, rank) & (back == ahead) & (back > 0))[:, 0]
    return Windows(
        (first + key[:, None])[:, 0], first + before, first + after, (first + start)[:, 0], (first + end)[:, 0], whole
    )


def windows_at(frame: Tensor, valid: Tensor, clip: Tensor, place: Tensor, num_support: int) -> Windows:
    """Lays windows around any frames of clips, several a clip.

    Args:
        frame: (B, T) as in :func:`key_windows`.
        valid: (B, T) as there.
        clip: (M,) the clip of each window.
        place: (M,) the place of its key frame on the T axis.
        num_support: Neighbours S a side.

    Returns:
        Windows over the B * T frames in a row.
    """
    windows = key_windows(frame[clip], valid[clip], place, num_support)
    # Rows came window by window; frames are shared, so each moves to its clip's row.
    shift = (clip - torch.arange(len(clip), device=clip.device)) * frame.shape[1]
    return Windows(
        windows.key + shift, windows.before + shift[:, None], windows.after + shift[:, None], windows.start + shift,
        windows.end + shift, windows.whole,
    )  # fmt: skip


def trim(batch: ClipBatch, num_support: int) -> ClipBatch:
    """Cuts longer clips to the window of 2 S + 1 frames around their key frame, so that no frame is encoded in vain.

    Only the fields that a method of 2D poses reads are kept. Places beyond a clip's end become padding.
    """
    length, wanted = batch["image"].shape[1], 2 * num_support + 1
    if length <= wanted:
        return batch
    place = batch["key"][:, None] + torch.arange(-num_support, num_support + 1, device=batch["key"].device)
    inside = (place >= 0) & (place < length)
    place = place.clamp(0, length - 1)
    row = torch.arange(len(place), device=place.device)[:, None]
    moved: dict[str, Tensor] = {name: batch[name][row, place] for name in FRAME_FIELDS}  # type: ignore[literal-required]
    moved["valid"] = moved["valid"] & inside
    moved["key"] = torch.full_like(batch["key"], num_support)
    return cast(ClipBatch, {**{name: batch[name] for name in CLIP_FIELDS}, **moved})  # type: ignore[literal-required]


def key_crops(batch: ClipBatch) -> CropBatch:
    """Returns the key frames of clips as crops."""
    row = torch.arange(len(batch["key"]), device=batch["key"].device)
    crops = {name: batch[name][row, batch["key"]] for name in PICTURE_FIELDS}  # type: ignore[literal-required]
    crops |= {"box_score": batch["box_score"], "sample_id": batch["sample_id"]}
    return cast(CropBatch, crops)


def as_clips(batch: CropBatch | ClipBatch) -> ClipBatch:
    """Returns crops as clips of one frame; clips as they are."""
    if batch["image"].ndim == 5:
        return cast(ClipBatch, batch)
    return cast(ClipBatch, one_frame_clips(batch))
