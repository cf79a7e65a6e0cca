"""Files that appear whole or not at all, and whether a file is there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def is_there(path: Path) -> bool:
    """Tells whether a file is there; names that no file can have (too long, no text) are those of none.

    A name may come from an annotation file, so what the system says of it is no error of the program.
    """
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def atomic_write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file by way of a temporary one in the same folder, which is made if need be.

    Raises:
        OSError: The folder cannot be made or written to; an earlier file of that name is left as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
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
