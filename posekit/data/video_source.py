"""Videos from whatever holds them: files, folders of files, folders of frames, pictures."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posekit.arrays import Int64
from posekit.data.coco_file import OnFault
from posekit.data.crops import FileReader
from posekit.data.images import check_image_files, report_broken
from posekit.data.picture_files import is_picture_source, other_kinds, pictures_in, warn_of_others
from posekit.data.video import VIDEO_SUFFIXES, VideoReader
from posekit.errors import UserError, listed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Video:
    """Frames of one video.

    Attributes:
        name: Of its file or folder.
        read: Returns a frame as RGB bytes by its place.
        numbers: (N,) number of each frame: its place, or in folders the number in its file's name.
        files: Names of the frames' files; empty for a video file.
        fps: Frames per second, where the file says.
    """

    name: str
    read: FileReader | VideoReader
    numbers: Int64
    files: tuple[str, ...] = ()
    fps: float | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def size(self) -> tuple[int, int] | None:
        """Returns W, H of the frames in px; None where the first one is broken."""
        try:
            return self.read.size(0)
        except UserError:
            return None

    @property
    def places(self) -> dict[str, int]:
        """Place of a frame by its number and by its file's name, as text."""
        return {str(n): i for i, n in enumerate(self.numbers.tolist())} | {n: i for i, n in enumerate(self.files)}


@dataclass(frozen=True)
class Videos:
    """What a source holds.

    Attributes:
        videos: At least one.
        pictures: Whether they are single pictures that have nothing to do with each other.
        names: Of all those pictures' files, broken ones that are left out among them, sorted.
    """

    videos: list[Video]
    pictures: bool = False
    names: tuple[str, ...] = ()


def open_videos(source: Path, on_broken_image: OnFault = "error", apply_exif: bool = True) -> Videos:
    """Opens a source.

    A video file is one video; so is a folder of pictures whose names are numbers (behind one common beginning) of which
    no more than half are missing. Other pictures are videos of one frame each. A folder of video files, or of folders
    of pictures, holds as many videos.

    Args:
        source: File or folder.
        on_broken_image: ``"error"`` refuses broken files, ``"skip"`` leaves them out and warns.
        apply_exif: Turn pictures as their EXIF orientation says.

    Raises:
        UserError: There is nothing in it that can be read, or something is broken.
    """
    if not source.exists():
        raise UserError(f"source {source} does not exist (option data.source)")
    if not source.is_dir():
        return _open_file(source, apply_exif)
    pictures = pictures_in(source)
    if pictures:
        warn_of_others("VideoClips", source, pictures)
        names = tuple(path.name for path in pictures)
        whole = _whole(pictures, on_broken_image)
        numbers = frame_numbers([path.name for path in whole])
        span = int(np.ptp(numbers)) + 1 if numbers is not None else 0
        if numbers is not None and len(whole) > 1 and len(numbers) * 2 > span:
            return Videos([_frames(source.name, whole, apply_exif)])
        return Videos([_frames(path.name, [path], apply_exif) for path in whole], pictures=True, names=names)
    return Videos(_open_all(source, on_broken_image, apply_exif))


def _open_file(source: Path, apply_exif: bool) -> Videos:
    if not source.stat().st_size:
        raise UserError(f"source {source} is empty (0 bytes)")
    if is_picture_source(source):
        _whole([source], "error")
        return Videos([_frames(source.name, [source], apply_exif)], pictures=True, names=(source.name,))
    return Videos([_video_file(source)])


def _open_all(source: Path, on_broken_image: OnFault, apply_exif: bool) -> list[Video]:
    videos, faults = [], []
    entries = sorted(path for path in source.iterdir() if not path.name.startswith("."))
    for path in entries:
        try:
            pictures = pictures_in(path) if path.is_dir() else []
            if pictures:
                warn_of_others("VideoClips", path, pictures)
                videos.append(_frames(path.name, _whole(pictures, on_broken_image), apply_exif, pictures))
            elif path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
                if not path.stat().st_size:
                    raise UserError(f"video {path} is empty (0 bytes)")
                videos.append(_video_file(path))
        except UserError as error:
            if on_broken_image == "error":
                raise
            faults.append(str(error))
    if faults:
        log.warning("VideoClips: left out %d of %d entries: %s", len(faults), len(entries), listed(faults))
    if not videos:
        others = other_kinds(source)
        why = f"; {faults[0]}" if faults else f"; there are {others}, which are not read" if others else ""
        raise UserError(f"folder {source} holds no video, no picture and no folder of pictures that can be read{why}")
    return videos


def _video_file(path: Path) -> Video:
    reader = VideoReader(path)
    return Video(path.name, reader, np.arange(reader.count), fps=reader.fps)


def _frames(name: str, files: list[Path], apply_exif: bool, every: list[Path] | None = None) -> Video:
    """Makes a video of pictures; their places, where they have no numbers, are those among ``every`` one."""
    names = [path.name for path in files]
    numbers = frame_numbers(names)
    if numbers is None:
        kept = set(files)
        numbers = np.array([place for place, path in enumerate(every or files) if path in kept], dtype=np.int64)
    order = np.argsort(numbers, kind="stable")
    files = [files[place] for place in order.tolist()]
    return Video(name, FileReader(files, apply_exif=apply_exif), numbers[order], tuple(path.name for path in files))


def _whole(files: list[Path], on_broken_image: OnFault) -> list[Path]:
    """Returns the files that are no broken pictures, as far as head and tail tell."""
    broken = check_image_files(files)
    report_broken("VideoClips", broken, len(files), on_broken_image)
    return [path for path in files if path not in broken]


def frame_numbers(names: list[str]) -> Int64 | None:
    """Returns the numbers at the end of file names' stems, or None where they are no numbering of one sequence."""
    found = [re.fullmatch(r"(.*?)(\d{1,17})", Path(name).stem) for name in names]
    if any(match is None for match in found):
        return None
    parts = [match.groups() for match in found if match is not None]
    numbers = [int(number) for _, number in parts]
    if len({beginning for beginning, _ in parts}) > 1 or len(set(numbers)) < len(numbers):
        return None
    return np.array(numbers, dtype=np.int64)
