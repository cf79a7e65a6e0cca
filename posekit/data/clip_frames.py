"""The last few frames of videos, kept: neighbouring windows, and the people of one video, share them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Read = Callable[[int], NDArray[np.uint8]]


class FrameCache:
    """Keeps frames, the least lately used ones going first.

    Args:
        size: How many.
        megabytes: How much they may take; the last one is kept in any case.
    """

    def __init__(self, size: int, megabytes: int = 512) -> None:
        self.size = size
        self.megabytes = megabytes
        self._kept: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()

    def get(self, read: Read, row: int) -> NDArray[np.uint8]:
        """Returns a frame of a video, read by its row if it is not there.

        Raises:
            UserError: It is broken.
        """
        key = (id(read), row)
        if key not in self._kept:
            image = self._kept[key] = read(row)
            most = max(1, min(self.size, (self.megabytes << 20) // max(image.nbytes, 1)))
            while len(self._kept) > most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the pictures out: they need not travel to another process."""
        return self.__dict__ | {"_kept": OrderedDict()}
