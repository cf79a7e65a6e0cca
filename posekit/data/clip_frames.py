"""The last few frames of videos, kept: neighbouring windows, and the people of one video, share them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from posekit.arrays import Bytes
from posekit.errors import UserError

Read = Callable[[int], Bytes]


class FrameCache:
    """Keeps frames, the least lately used ones going first.

    Args:
        size: How many.
        megabytes: How much they may take; the last one is kept in any case.
    """

    def __init__(self, size: int, megabytes: int = 512) -> None:
        self.size = size
        self.megabytes = megabytes
        self._kept: OrderedDict[tuple[int, int], Bytes] = OrderedDict()

    def get(self, read: Read, row: int) -> Bytes:
        """Returns a frame of a video, read by its row if it is not there.

        Raises:
            UserError: It is broken.
        """
        key = (id(read), row)
        if key not in self._kept:
            image = self._kept[key] = read(row)
            while len(self._kept) > self._most(image):
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def read_ahead(self, read: Read, rows: list[int]) -> None:
        """Reads frames in their order, if there is room for all of them; broken ones are passed over."""
        for row in rows:
            try:
                image = self.get(read, row)
            except UserError:
                continue
            if self._most(image) < len(rows):
                return

    def _most(self, image: Bytes) -> int:
        return max(1, min(self.size, (self.megabytes << 20) // max(image.nbytes, 1)))

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the pictures out: they need not travel to another process."""
        return self.__dict__ | {"_kept": OrderedDict()}
