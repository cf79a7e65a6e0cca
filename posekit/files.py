"""Files that appear whole or not at all, and whether a file is there, and as it was written."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 20
_ARCHIVE = b"PK\x03\x04"
_FOLDER = 0x10  # among a record's attributes


def is_there(path: Path) -> bool:
    """Tells whether a file is there; names that no file can have (too long, no text) are those of none.

    A name may come from an annotation file, so what the system says of it is no error of the program.
    """
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def atomic_write_bytes(path: str | Path, content: bytes, durable: bool = False) -> None:
    """Writes a file by way of a temporary one in the same folder, which is made if need be.

    Args:
        path: The file.
        content: Its bytes.
        durable: Waits until the disk has them, so that a power cut cannot take the earlier file and leave no later one.

    Raises:
        OSError: The folder cannot be made or written to; an earlier file of that name is left as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        # mkstemp makes a file for the owner alone; what a run leaves should have the usual rights.
        umask = os.umask(0)
        os.umask(umask)
        Path(part).chmod(0o666 & ~umask)
        Path(part).replace(path)
    except BaseException as error:
        Path(part).unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # that of a full disk has none
        raise


def atomic_write_text(path: str | Path, text: str) -> None:
    """Writes a UTF-8 text file; see :func:`atomic_write_bytes`."""
    atomic_write_bytes(path, text.encode())


class _Unnamed:
    """A file that can only be written to: NumPy sends arrays past a real one's buffer, with errors that say nothing."""

    def __init__(self, file: Any) -> None:
        self.write = file.write


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Writes an array as an ``.npy`` file, without any pickle.

    Raises:
        OSError: It cannot be written; unlike ``numpy.save``'s it has the system's number of the error, and the file.
    """
    try:
        with path.open("wb") as file:
            np.lib.format.write_array(_Unnamed(file), np.asarray(array), allow_pickle=False)
    except OSError as error:
        error.filename = str(path)
        raise


def is_archive(path: Path) -> bool:
    """Tells whether a file is a zip archive whose table can be read; of some broken ones ``is_zipfile`` raises."""
    try:
        zipfile.ZipFile(path).close()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return True


def archive_fault(path: Path) -> str | None:
    """Says what is wrong with a zip archive, such as torch writes; None of a whole one, and of what is no archive.

    Some without a table that can be read torch would guess at, and it looks at no checksums. Records of checksum 0 are
    passed over: torch writes that where it was told to compute none (``torch.serialization.set_crc32_options``).
    """
    if not is_archive(path):
        with path.open("rb") as file:
            return "truncated, or damaged" if file.read(len(_ARCHIVE)) == _ARCHIVE else None
    with zipfile.ZipFile(path) as archive:
        for record in archive.infolist():
            if record.CRC and not _is_whole(archive, record):
                return f"damaged in its record {record.filename}"
    return None


def _is_whole(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> bool:
    if record.compress_type == zipfile.ZIP_STORED and record.compress_size != record.file_size:
        return False
    if record.external_attr & _FOLDER and record.file_size:  # torch would leave such a tensor's memory as it was
        return False
    try:
        with archive.open(record) as file:
            while file.read(_BLOCK):  # which raises at the end if the checksum differs
                pass
    except Exception:  # a header of changed bits raises whatever they happen to mean
        return False
    return True
