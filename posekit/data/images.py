"""Reading pictures: one clear error for whatever is wrong with the file."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from posekit.data.opencv_log import silence_opencv
from posekit.errors import UserError, listed

log = logging.getLogger(__name__)

# What OpenCV prints of a broken file is said by the errors below.
silence_opencv()

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_OTHERS = (b"BM", b"II*\0", b"MM\0*", b"GIF8", b"RIFF")
_JPEG_END, _JPEG_SCAN = b"\xff\xd9", 0xDA


def read_image(path: str | Path, apply_exif: bool = False) -> NDArray[np.uint8]:
    """Reads a picture as RGB bytes (H, W, 3); grey, CMYK, 16-bit and transparent ones are converted.

    Args:
        path: The file.
        apply_exif: Turn the picture as its EXIF orientation says. Annotations of COCO count pixels as they are stored,
            so data sets leave it off; pictures of a camera need it.

    Raises:
        UserError: The file is absent, empty, cut short or no picture.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except (OSError, UnicodeEncodeError) as error:
        raise UserError(f"image {path}: {_why(path, error)}") from None
    reason = _fault(content)
    if reason is not None:
        raise UserError(f"image {path}: {reason}")
    return _decode(path, content, apply_exif)


def require_picture(picture: object) -> None:
    """Refuses what ``predict`` of a method cannot take for a picture in memory.

    Raises:
        UserError: It is no (H, W, 3) uint8 array.
    """
    if isinstance(picture, str | Path):
        raise UserError(
            f"predict takes uint8 RGB pictures (H, W, 3), not the file name {str(picture)!r}: read it by "
            "posekit.data.images.read_image"
        )
    if not isinstance(picture, np.ndarray):
        raise UserError(f"predict takes uint8 RGB pictures (H, W, 3), not a {type(picture).__name__}")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise UserError(f"predict takes uint8 RGB pictures (H, W, 3), not {picture.dtype} of shape {picture.shape}")


def _decode(path: Path, content: bytes, apply_exif: bool) -> NDArray[np.uint8]:
    flags = cv2.IMREAD_COLOR | (0 if apply_exif else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:  # e.g. more pixels than OpenCV's limit
        raise UserError(f"image {path}: cannot be decoded ({str(error.err).strip()})") from None
    if pixels is None:
        known = content.startswith((_JPEG, _PNG, *_OTHERS))
        reason = "cannot be decoded: its data are broken, cut short or of a kind unknown to OpenCV"
        raise UserError(f"image {path}: {reason if known else 'is no picture that OpenCV can read'}")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def check_image_files(paths: Iterable[Path]) -> dict[Path, str]:
    """Looks at the head and the tail of picture files, which takes well under a millisecond each.

    Returns:
        Reasons by path for the files that are absent, empty, cut short or no picture. Damage in between only shows when
        a file is decoded.
    """
    with ThreadPoolExecutor(8) as pool:  # most of the time is spent waiting for the disk
        files = list(paths)
        return {path: reason for path, reason in zip(files, pool.map(_check_file, files), strict=True) if reason}


def report_broken(owner: str, broken: Mapping[Path, str], total: int, on_broken_image: str, where: str = "") -> None:
    """Refuses pictures that cannot be read, or warns that they are left out: counted, and the first ones named.

    Args:
        owner: Class of the data module.
        broken: Reasons by path.
        total: Pictures that were looked at.
        on_broken_image: ``"error"`` or ``"skip"``.
        where: Which pictures they are, e.g. ``" of split train"``.

    Raises:
        UserError: There are broken pictures and they are not to be skipped, or nothing else is left.
    """
    if not broken:
        return
    first = listed([f"{path} {reason}" for path, reason in broken.items()])
    if total == 1:
        raise UserError(f"{owner}: image {first}")
    count = f"{len(broken)} of {total} images{where}"
    if on_broken_image == "error" or len(broken) == total:
        hint = "" if len(broken) == total else ". --data.on_broken_image=skip leaves them out."
        raise UserError(f"{owner}: {count} are absent or broken: {first}{hint}")
    log.warning("%s: left out %s, which are absent or broken: %s", owner, count, first)


def _check_file(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            head = file.read(16)
            if head.startswith(_JPEG):
                file.seek(-2, 2)
                if file.read(2) == _JPEG_END:
                    return None
                file.seek(0)
                return _fault(file.read())
            if head.startswith(_PNG):
                file.seek(0)
                return _fault(file.read())
    except (OSError, UnicodeEncodeError) as error:
        return _why(path, error)
    if not head:
        return "is empty (0 bytes)"
    return None if cv2.haveImageReader(str(path)) else "is no picture that OpenCV can read"


def _why(path: Path, error: OSError | UnicodeEncodeError) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "has a name that no file can have"
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    return "is a folder" if isinstance(error, IsADirectoryError) else f"cannot be read ({error.strerror})"


def _fault(content: bytes) -> str | None:
    """Returns what is wrong with a file's bytes as far as its frame tells. OpenCV decodes cut JPEGs without a word."""
    if not content:
        return "is empty (0 bytes)"
    if content.startswith(_JPEG) and content.find(_JPEG_END, _scan_start(content)) < 0:
        return f"is cut short: its {len(content)} bytes end in the middle of the picture"
    if content.startswith(_PNG) and b"IEND" not in content:
        return f"is cut short: its {len(content)} bytes end in the middle of the picture"
    return None


def _scan_start(content: bytes) -> int:
    """Returns where a JPEG's picture data begin; thumbnails in the segments before have end marks of their own."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == _JPEG_SCAN:
            return at
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return min(at, len(content))
