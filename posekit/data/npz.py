"""Reading .npz archives: one clear line for whatever is wrong, and nothing is unpickled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posekit.errors import UserError, one_line
from posekit.safe_pickle import broken_text


class NpzArchive:
    """The arrays of an open archive, read when they are asked for."""

    def __init__(self, path: Path, what: str, content: Any) -> None:
        self.path = path
        self.what = what
        self._content = content

    @property
    def names(self) -> list[str]:
        """Names of the arrays."""
        return list(self._content.files)

    def __contains__(self, name: str) -> bool:
        return name in self._content.files

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Reads an array.

        Raises:
            UserError: It is not there, broken, or made of Python objects.
        """
        if name not in self:
            raise UserError(f"{self.what} {self.path} has no array {name!r}; it has {', '.join(self.names[:12])}")
        try:
            found = np.asarray(self._content[name])
        except ValueError as error:
            pickled = "Python objects, which would have to be unpickled" if "pickle" in str(error) else "no array"
            raise UserError(f"{self.what} {self.path}: {name!r} holds {pickled}") from None
        except Exception as error:  # whatever the bytes lead the readers to
            raise UserError(f"{self.what} {self.path}: array {name!r} is broken ({one_line(error)})") from None
        if broken_text(found):
            raise UserError(f"{self.what} {self.path}: array {name!r} holds text that is none")
        return found

    def holds_objects(self, name: str) -> bool:
        """Tells from an array's head whether it is made of Python objects.

        Raises:
            UserError: It is no array.
        """
        try:
            with self._content.zip.open(f"{name}.npy") as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                return bool(read(file)[2].hasobject)
        except Exception as error:
            raise UserError(f"{self.what} {self.path}: array {name!r} is broken ({one_line(error)})") from None


@contextmanager
def open_npz(path: Path, what: str, needed: Sequence[str] = ()) -> Iterator[NpzArchive]:
    """Opens an archive.

    Args:
        path: The file.
        what: What to call it in messages, e.g. ``"motion file"``.
        needed: Arrays that it must hold.

    Raises:
        UserError: It is absent, broken, no .npz file, or lacks an array.
    """
    if not path.is_file():
        raise UserError(f"{what} {path} {'is a folder' if path.is_dir() else 'does not exist'}")
    try:
        content = np.load(path, allow_pickle=False)
    except Exception as error:  # zipfile's and NumPy's readers raise whatever the bytes lead them to
        raise UserError(f"{what} {path} is truncated or no .npz file ({one_line(error)})") from None
    if not hasattr(content, "files"):
        raise UserError(f"{what} {path} is a single array, not an .npz archive")
    with content:
        archive = NpzArchive(path, what, content)
        missing = [name for name in needed if name not in archive]
        if missing:
            raise UserError(f"{what} {path} has no array {', '.join(missing)}; it has {', '.join(archive.names[:12])}")
        yield archive
