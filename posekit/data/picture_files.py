"""Which files of a folder are pictures to predict on, and what is left out of it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from posekit.data.images import opencv_reads, opencv_takes_name
from posekit.data.video import VIDEO_SUFFIXES, open_capture
from posekit.errors import UserError, counted

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif",
    ".tiff", ".webp",
)  # fmt: skip
_NOT_EVERYWHERE = (".avif", ".jp2")  # OpenCV may be built without them
# OpenCV reads none of these, or only the small preview in a camera's raw file.
_UNREAD = (
    ".arw", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".hif", ".jxl", ".nef", ".orf", ".psd", ".raf", ".rw2", ".svg",
)  # fmt: skip


def pictures_in(folder: Path) -> list[Path]:
    """Returns the pictures of a folder that can be read, sorted."""
    return sorted(path for path in folder.iterdir() if is_picture(path))


def other_kinds(folder: Path) -> str:
    """Returns how many films and pictures of kinds that are not read a folder holds, e.g. ``2 .heic, 1 .mov``."""
    kinds = (*_NOT_EVERYWHERE, *_UNREAD, *VIDEO_SUFFIXES)
    others = (path for path in folder.iterdir() if _is_file_of(path, kinds) and not is_picture(path))
    found = Counter(path.suffix.lower() for path in others)
    return ", ".join(f"{number:,} {suffix}" for suffix, number in sorted(found.items()))


def warn_of_others(owner: str, folder: Path, pictures: Sequence[Path]) -> None:
    """Warns of what is left out of a folder's films and pictures: other kinds, and of moving pictures all but one.

    Args:
        owner: Class of the data module.
        folder: The folder.
        pictures: What :func:`pictures_in` has found there.
    """
    others = other_kinds(folder)
    if others:
        log.warning("%s: left out of folder %s, as no pictures that can be read: %s", owner, folder, others)
    moving = [path.name for path in pictures if is_moving(path)]
    if moving:
        count = counted(len(moving), "animated GIF", "animated GIFs")
        log.warning("%s: of %s in folder %s the first frame is taken: %s", owner, count, folder, ", ".join(moving[:3]))


def is_moving(path: Path) -> bool:
    """Tells whether a file is a GIF of several frames."""
    if path.suffix.lower() != ".gif" or not opencv_takes_name(path):
        return False
    capture = open_capture(path)
    several = capture.isOpened() and capture.grab() and capture.grab()
    capture.release()
    return bool(several)


def is_picture_source(source: Path) -> bool:
    """Tells whether a single file is to be read as a picture, not as a film.

    Raises:
        UserError: It is a picture of a kind that OpenCV does not read.
    """
    suffix = source.suffix.lower()
    readable = opencv_reads(source)
    if suffix in _UNREAD and not readable:  # FFmpeg would take a tile of a HEIC picture for a film
        raise UserError(f"source {source}: {suffix} pictures are not read; convert it to JPEG or PNG")
    return (suffix in IMAGE_SUFFIXES or readable) and not is_moving(source)


def is_picture(path: Path) -> bool:
    """Tells whether a folder's entry is a picture that can be read, by its name and OpenCV's build."""
    return _is_file_of(path, IMAGE_SUFFIXES) and (path.suffix.lower() not in _NOT_EVERYWHERE or opencv_reads(path))


def _is_file_of(path: Path, suffixes: Sequence[str]) -> bool:
    # macOS keeps a file's attributes in a twin "._name" on foreign disks.
    return path.suffix.lower() in suffixes and not path.name.startswith("._") and path.is_file()
