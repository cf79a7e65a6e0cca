"""LSPExtended: single pictures of people in sports with 14 joints in 2D."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from posekit.data.body3d.module import BodyDataModule, DataError, Part, Recording
from posekit.data.body3d.person import Person, chosen_share
from posekit.data.crops import FileReader
from posekit.data.joint_maps import source_of
from posekit.errors import UserError
from posekit.mat5 import read_mat5
from posekit.skeletons import LSP14

_WHAT = "joint file"
_HIGH = 9428  # pictures, and columns of the joint file, of the version of higher resolution
_PICTURE = re.compile(r"im([0-9]+)\.(jpg|png)", re.IGNORECASE)


class LSPExtended(BodyDataModule):
    """Leeds Sports Pose Extended (Johnson and Everingham, CVPR 2011) as pictures of people: clips of one frame.

    ``root`` holds ``joints.mat`` (14 x 3 x N: x, y, labelled) and ``images/im00001.jpg`` (or ``.png``, as in the
    version of higher resolution); the pictures may also lie beside the joint file. Where there are N pictures, the k-th
    in the order of their numbers belongs to the k-th column: the version of higher resolution leaves numbers out. Else
    the one of number k does. The data set has no splits: ``val_share`` of the pictures, chosen by a checksum of their
    names, are for validation and test. Pixels count from 0: 1 is taken off the file's.

    Args:
        root: Folder of the data.
        val_share: Share of the pictures that are for validation; with 0 there are none.
        frames: Frames of a clip.
        options: Of :class:`~posekit.data.body3d.module.BodyDataModule`, by name.
    """

    HOME: ClassVar[str] = "http://sam.johnson.io/research/lspet.html (for research)"

    def __init__(self, root: str = "data/lspet", val_share: float = 0.1, *, frames: int = 1, **options: Any) -> None:
        super().__init__(root, frames=frames, **options)
        if frames != 1:
            raise UserError(f"LSPExtended has single pictures: frames must be 1, not {frames}")
        if not 0 <= val_share < 1:
            raise UserError(f"LSPExtended: val_share is {val_share}, but must be in [0, 1)")
        self.val_share = val_share

    def recordings(self, split: Part) -> list[Recording]:
        """Lists the joint file.

        Raises:
            UserError: It is not there, or no picture is for the split.
        """
        if split != "train" and not self.val_share:
            raise UserError(
                f"LSPExtended: val_share is 0, which leaves no picture for split {split}: set it above 0, or evaluate "
                "another part of a Mixture"
            )
        path = self.root / "joints.mat"
        if not path.is_file():
            raise self.missing("file", path)
        return [Recording(path.name, partial(self._read, path, split))]

    def _read(self, path: Path, split: Part) -> list[Person]:
        joints = np.asarray(read_mat5(path, ["joints"], _WHAT)["joints"])
        joints = joints.transpose(1, 0, 2) if joints.ndim == 3 and joints.shape[:2] == (3, 14) else joints
        joints = joints[..., None] if joints.ndim == 2 else joints
        if joints.dtype.kind not in "fiu" or joints.ndim != 3 or joints.shape[:2] != (14, 3):
            raise UserError(f"{_WHAT} {path}: joints have shape {joints.shape}, expected (14, 3, N)")
        people = joints.transpose(2, 0, 1).astype(np.float64)
        labelled = (people[..., 2] > 0) & np.isfinite(people).all(-1)
        people = np.where(labelled[..., None], people - [1, 1, 0], 0.0)
        people[..., 2] = 2.0 * labelled
        files = self._pictures(path, len(people))
        part = chosen_share([file.stem for file in files], self.val_share)
        rows = np.flatnonzero(part if split != "train" else ~part)
        if not len(rows):
            return []
        rows = rows[self.present([files[row] for row in rows.tolist()])]
        read = FileReader(files)
        return [Person("pictures", "pictures", read, rows, rows, people[rows], source_of(LSP14), followed=False)]

    def _pictures(self, path: Path, count: int) -> list[Path]:
        """Returns the pictures of the joint file's columns, some of which may not be there.

        Raises:
            DataError: It cannot be told which belongs to which.
        """
        folder = self.root / "images"
        found = _numbered(folder)
        if not found and (beside := _numbered(self.root)):
            folder, found = self.root, beside
        if len(found) == count:
            return [found[number] for number in sorted(found)]
        if found and (count == _HIGH or not 1 <= min(found) <= max(found) <= count):
            raise DataError(
                f"LSPExtended: {folder} has {len(found)} pictures, up to im{max(found):05d}, for {count} columns of "
                f"{path}: there must be 10000 of both, im00001.jpg …, or {_HIGH} in the version of higher resolution"
            )
        return [found.get(number, folder / f"im{number:05d}.jpg") for number in range(1, count + 1)]


def _numbered(folder: Path) -> dict[int, Path]:
    """Returns a folder's pictures by their numbers; of two with one number the JPEG."""
    names = sorted((path.name for path in folder.iterdir()), reverse=True) if folder.is_dir() else []
    return {int(match[1]): folder / match[0] for name in names if (match := _PICTURE.fullmatch(name))}
