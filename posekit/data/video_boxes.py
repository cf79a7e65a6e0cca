"""Boxes of people in videos: reading, linking to tracks, smoothing, and what makes a track fit for learning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Float64, Int64
from posekit.data.coco_file import OnFault, outside_fault, report_faults
from posekit.data.detections import box_entries, entry_fault
from posekit.errors import UserError, excerpt
from posekit.json_file import read_json

LINK_OVERLAP = 0.3  # IoU above which a box without track id continues a track
LINK_GAP = 5  # frames that such a track may miss


@dataclass(frozen=True)
class BoxTrack:
    """One person's boxes in a video.

    Attributes:
        video: Number of the video.
        person: Number or name in the file; made up where the boxes have none.
        frames: (N,) places of the frames in the video, increasing.
        boxes: (N, 4) xywh px.
        scores: (N,)
    """

    video: int
    person: str
    frames: Int64
    boxes: Float64
    scores: Float64

    def take(self, rows: NDArray[Any]) -> BoxTrack:
        """Returns some of the frames: (M,) row numbers or (N,) bool."""
        return BoxTrack(self.video, self.person, self.frames[rows], self.boxes[rows], self.scores[rows])


def read_video_boxes(
    path: Path,
    places: list[dict[str, int]],
    names: dict[str, int],
    threshold: float = 0.0,
    on_bad_annotation: OnFault = "error",
    size_of: Callable[[int], tuple[int, int] | None] = lambda video: None,
    picture_ids: Mapping[int, int] | None = None,
    content: Any = None,
) -> list[BoxTrack]:
    """Reads boxes and makes tracks of them.

    The file is a JSON list of objects, or a COCO file, with ``bbox`` (xywh px), the frame, and perhaps ``score``,
    ``track`` (or ``track_id``; a number or a name, unique in a video) and ``video`` (its file's or folder's name;
    needed where there are several). The frame is ``frame`` or ``image_id`` (its number) or, in folders of frames,
    ``file_name``. Boxes without a track are linked by overlap: IoU above 0.3 with a track's last box, at most 5 frames
    ago. Crowds and boxes of other categories than people are left out.

    Single pictures are named by ``file_name`` or ``image_id``; a file for many pictures serves one of them.

    Args:
        path: The file.
        places: For each video, the place of a frame by its number and by its file's name, both written as text.
        names: Number of a video by its name.
        threshold: Boxes of a lower score are left out.
        on_bad_annotation: ``"error"`` refuses a file with faulty boxes or boxes wholly outside the frame, ``"skip"``
            leaves them out and warns.
        size_of: Gives W, H of a video's frames in px by its number; None where they are unknown.
        picture_ids: Where the videos are single pictures: the number of each by its image id.
        content: What the file holds, where it was read before.

    Raises:
        UserError: The file cannot be used, or no box is left.
    """
    content = read_json(path, "boxes file") if content is None else content
    rows: list[tuple[int, int, str | None, list[float], float]] = []
    faults: list[str] = []
    strangers: list[str] = []
    for number, entry in box_entries(path, content):
        reason = _fault(entry)
        single = picture_ids is not None and not reason and _names_picture(entry)
        row = None if reason else _picture(entry, names, picture_ids or {}) if single else _row(entry, places, names)
        if isinstance(row, tuple):
            reason = outside_fault(entry["bbox"], size_of(row[0]), "its frame")
        if reason or isinstance(row, str):
            (strangers if single and not reason else faults).append(f"box number {number} {reason or row}")
        elif isinstance(row, tuple) and entry.get("score", 1.0) >= threshold:
            track = entry.get("track", entry.get("track_id"))
            rows.append((*row, None if track is None else str(track), entry["bbox"], float(entry.get("score", 1.0))))
    one_of_many = bool(rows) and len(places) == 1
    report_faults(path, faults if one_of_many else faults + strangers, "box", on_bad_annotation)
    if not rows:
        raise UserError(f"boxes file {path} has no box of score {threshold:g} or more")
    return _tracks(path, sorted(rows, key=lambda row: row[:2]))


def _fault(entry: Any) -> str | None:
    if not isinstance(entry, Mapping):
        return "is no object"
    track = entry.get("track", entry.get("track_id"))
    if track is not None and type(track) not in (int, str):
        return f"has a track that is neither a number nor a name: {excerpt(track)}"
    return entry_fault(entry)


def _names_picture(entry: Mapping[str, Any]) -> bool:
    return entry.get("video") is None and ("file_name" in entry or "image_id" in entry)


def _picture(entry: Mapping[str, Any], names: Mapping[str, int], ids: Mapping[int, int]) -> tuple[int, int] | str:
    """Returns a box's picture and the place 0, or what is wrong."""
    name, image_id = entry.get("file_name"), entry.get("image_id")
    if isinstance(name, str):
        number, label = names.get(name), name
    else:
        number, label = ids.get(image_id) if type(image_id) is int else None, f"image_id {excerpt(image_id)}"
    return f"is in picture {label}, which the source lacks" if number is None else (number, 0)


def _row(entry: Mapping[str, Any], places: list[dict[str, int]], names: dict[str, int]) -> tuple[int, int] | str:
    """Returns a box's video and the frame's place, or what is wrong."""
    video: Any = entry.get("video")
    if video is None and len(places) > 1:
        return f"does not say which of the {len(places)} videos it is in"
    number = 0 if video is None else names.get(str(video))
    if number is None:
        return f"is in video {str(video)!r}, which the source lacks"
    frame = next((entry[key] for key in ("frame", "image_id", "file_name") if key in entry), None)
    if frame is None:
        return "has neither frame nor file_name"
    place = places[number].get(str(frame))
    return f"is in frame {frame}, which the source lacks" if place is None else (number, place)


def _tracks(path: Path, rows: list[tuple[int, int, str | None, list[float], float]]) -> list[BoxTrack]:
    """Groups rows, in the order of time, to tracks."""
    groups: dict[tuple[int, str], list[tuple[int, list[float], float]]] = {}
    for video, own in groupby(rows, key=lambda row: row[0]):
        loose = [(frame, box, score) for _, frame, track, box, score in own if track is None]
        for number, linked in enumerate(_linked(loose)):
            groups[video, f"box track {number}"] = linked
    for video, frame, track, box, score in rows:
        if track is not None:
            group = groups.setdefault((video, track), [])
            if group and group[-1][0] == frame:
                raise UserError(f"boxes file {path}: track {track} has two boxes in frame {frame}")
            group.append((frame, box, score))
    result = []
    for (video, person), group in sorted(groups.items()):
        frames, boxes, scores = zip(*group, strict=True)
        arrays = np.array(frames, dtype=np.int64), np.array(boxes, dtype=np.float64), np.array(scores, dtype=np.float64)
        result.append(BoxTrack(video, person, *arrays))
    return result


def _linked(rows: list[tuple[int, list[float], float]]) -> list[list[tuple[int, list[float], float]]]:
    """Links boxes of a video by overlap, the most overlapping pairs of a frame first."""
    tracks: list[list[tuple[int, list[float], float]]] = []
    open_tracks: list[list[tuple[int, list[float], float]]] = []
    for frame, own in groupby(sorted(rows, key=lambda row: row[0]), key=lambda row: row[0]):
        fresh = list(own)
        open_tracks = [track for track in open_tracks if frame - track[-1][0] <= LINK_GAP]
        overlap = iou(np.array([t[-1][1] for t in open_tracks]), np.array([row[1] for row in fresh]))
        taken = set()
        for place in np.argsort(-overlap, axis=None, kind="stable"):
            t, r = divmod(int(place), len(fresh))
            if overlap[t, r] <= LINK_OVERLAP:
                break
            if r not in taken and open_tracks[t][-1][0] != frame:
                open_tracks[t].append(fresh[r])
                taken.add(r)
        begun = [[row] for r, row in enumerate(fresh) if r not in taken]
        tracks += begun
        open_tracks += begun
    return tracks


def iou(a: Float64, b: Float64) -> Float64:
    """Returns the overlap (N, M) of boxes (N, 4) and (M, 4) xywh: intersection over union."""
    a, b = a.reshape(-1, 1, 4), b.reshape(1, -1, 4)
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    common = np.maximum(high - low, 0).prod(-1)
    return np.asarray(common / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - common))


def fill_gaps(track: BoxTrack, most: int = LINK_GAP) -> BoxTrack:
    """Puts boxes into gaps of up to ``most`` frames, on the straight line between those at the ends."""
    missing = np.diff(track.frames) - 1
    gaps = np.flatnonzero((missing > 0) & (missing <= most))
    if not len(gaps):
        return track
    filled = [np.arange(track.frames[gap] + 1, track.frames[gap + 1]) for gap in gaps]
    frames = np.union1d(track.frames, np.concatenate(filled))
    boxes = np.stack([np.interp(frames, track.frames, column) for column in track.boxes.T], axis=1)
    return BoxTrack(track.video, track.person, frames, boxes, np.interp(frames, track.frames, track.scores))


def smooth_boxes(frames: Int64, boxes: Float64, width: int) -> Float64:
    """Returns boxes (N, 4) whose centre and size are means over ``width`` frames around each, as far as there are any.

    Frames beyond a gap of the track do not count.
    """
    if width <= 1 or len(frames) < 2:
        return boxes
    values = np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]], axis=1)
    run = np.cumsum(np.diff(frames, prepend=frames[0]) > 1)
    total = np.concatenate([np.zeros((1, 4)), np.cumsum(values, axis=0)])
    place = np.arange(len(frames))
    first, last = np.searchsorted(run, run), np.searchsorted(run, run, side="right") - 1
    # Equally far to both sides: a person that walks evenly is not held back at the ends.
    reach = np.minimum(np.minimum(width // 2, place - first), last - place)
    low, high = place - reach, place + reach + 1
    mean = (total[high] - total[low]) / (high - low)[:, None]
    return np.concatenate([mean[:, :2] - mean[:, 2:] / 2, mean[:, 2:]], axis=1)


def square_boxes(boxes: Float64) -> Float64:
    """Returns the squares (N, 4) around the centres of boxes, as large as their longer side."""
    side = boxes[:, 2:].max(1, keepdims=True)
    return np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2 - side / 2, side, side], axis=1)


def fit_for_learning(tracks: list[BoxTrack], max_overlap: float, min_height: float) -> list[BoxTrack]:
    """Drops boxes that are too low, and those that overlap another person's (both), frame by frame.

    Args:
        tracks: All people of all videos.
        max_overlap: Greatest IoU of two people's boxes.
        min_height: Least height of a box, px.
    """
    if not tracks:
        return []
    sizes = [len(track.frames) for track in tracks]
    boxes, frames = (np.concatenate([getattr(track, name) for track in tracks]) for name in ("boxes", "frames"))
    videos = np.repeat([track.video for track in tracks], sizes)
    keep = boxes[:, 3] >= min_height
    order = np.lexsort((frames, videos))
    changes = (np.diff(frames[order]) != 0) | (np.diff(videos[order]) != 0)
    for group in np.split(order, np.flatnonzero(changes) + 1):
        if len(group) > 1:
            overlap = iou(boxes[group], boxes[group])
            np.fill_diagonal(overlap, -np.inf)
            keep[group[(overlap > max_overlap).any(1)]] = False
    kept = [track.take(rows) for track, rows in zip(tracks, np.split(keep, np.cumsum(sizes)[:-1]), strict=True)]
    return [track for track in kept if len(track.frames)]
