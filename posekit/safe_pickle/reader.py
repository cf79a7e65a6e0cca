"""The restricted unpickler, and the files that it reads: plain pickles, and objects in ``.npz`` archives."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from posekit.errors import UserError, one_line
from posekit.safe_pickle.sharing import check_sharing
from posekit.safe_pickle.stand_ins import PLAIN_NAMES, RefusedPickleError, shown


def permitted(names: Mapping[tuple[str, str], Any], module: str, name: str) -> Any:
    """Returns what a name stands for.

    Raises:
        RefusedPickleError: It stands for nothing.
    """
    if (module, name) not in names:
        raise RefusedPickleError(f"{module}.{name}")
    return names[module, name]


class SafeUnpickler(pickle.Unpickler):
    """Unpickles what permitted names stand for.

    Args:
        file: The pickle. Texts of Python 2 are read as latin-1.
        names: Stand-ins by module and name. One that is a class must have a ``__setstate__`` of its own, or a file
            could set attributes on it.
    """

    def __init__(self, file: IO[bytes], names: Mapping[tuple[str, str], Any] = PLAIN_NAMES) -> None:
        super().__init__(file, encoding="latin1")
        self.names = names

    def load(self) -> Any:
        """Returns the pickle's content.

        Raises:
            RefusedPickleError: It names what is not permitted, or would be far larger written out than it is.
        """
        return check_sharing(super().load())

    def find_class(self, module: str, name: str) -> Any:
        """Returns what a name stands for.

        Raises:
            RefusedPickleError: It is not permitted.
        """
        return permitted(self.names, module, name)

    def persistent_load(self, pid: Any) -> Any:
        """Refuses objects outside the file.

        Raises:
            RefusedPickleError: Always.
        """
        raise RefusedPickleError(f"the persistent object {shown(pid)}")


def load_pickle(path: str | Path, what: str = "file") -> Any:
    """Reads a pickle of plain data: numbers, texts, containers and NumPy arrays, of any protocol of Python 2 or 3.

    Args:
        path: The file. Texts of Python 2 are read as latin-1.
        what: What to call it in messages.

    Raises:
        UserError: It is absent or broken, or names anything else, which is told and was not run.
    """
    path = Path(path)
    return guarded(path, what, lambda file: SafeUnpickler(file).load())


def load_object_array(file: IO[bytes]) -> Any:
    """Reads the pickle that stands in an ``.npy`` file of objects, after its head.

    Raises:
        RefusedPickleError: It names what plain data do not need.
    """
    return SafeUnpickler(file).load()


def guarded(
    path: Path, what: str, load: Callable[[IO[bytes]], Any], allowed: str = "plain data and NumPy arrays"
) -> Any:
    """Reads a file by a function, and tells in one line what was wrong.

    Args:
        path: The file.
        what: What to call it in messages.
        load: Reads the open file.
        allowed: What is read, for the message of a refusal.

    Raises:
        UserError: The file is absent, broken or refused.
    """
    try:
        with path.open("rb") as file:
            return load(file)
    except RefusedPickleError as error:
        raise UserError(
            f"{what} {path} is refused: its pickle asks for {one_line(error, 200)}, and only {allowed} are read; "
            "nothing of it was run"
        ) from None
    except OSError as error:
        absent = isinstance(error, FileNotFoundError)
        reason = "does not exist" if absent else f"cannot be read ({error.strerror or error})"
        raise UserError(f"{what} {path} {reason}") from None
    except MemoryError:
        raise UserError(f"{what} {path} is damaged, or needs more memory than there is") from None
    except UserError:
        raise
    except Exception as error:  # broken pickles raise whatever their bytes happen to mean
        raise UserError(
            f"{what} {path} is truncated or no pickle ({type(error).__name__}: {one_line(error)})"
        ) from None


def load_npz_object(path: str | Path, name: str, what: str = "file") -> Any:
    """Reads one object, such as a dictionary, that ``numpy.savez`` pickled into an ``.npz`` archive.

    Args:
        path: The file.
        name: Of the array that holds the object.
        what: What to call the file in messages.

    Raises:
        UserError: It is absent or broken, lacks the array, or names anything but plain data.
    """
    path = Path(path)
    return guarded(path, what, lambda file: _npz_object(path, what, file, name))


def _npz_object(path: Path, what: str, file: IO[bytes], name: str) -> Any:
    with zipfile.ZipFile(file) as archive:
        if f"{name}.npy" not in archive.namelist():
            there = ", ".join(entry.removesuffix(".npy") for entry in archive.namelist()[:12])
            raise UserError(f"{what} {path} has no array {name!r}; it has {there}")
        with archive.open(f"{name}.npy") as member:
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            _, _, dtype = read(member)
            if not dtype.hasobject:
                raise UserError(f"{what} {path}: {name!r} holds {dtype}, not Python objects")
            found = np.asarray(load_object_array(member))
            return found.item() if found.size == 1 else found
