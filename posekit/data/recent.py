"""Readers that hold a frame or an open file: the few of a process lately used keep theirs, the others let go."""

from __future__ import annotations

from typing import Protocol
from weakref import WeakValueDictionary


class Holder(Protocol):
    """Something that holds on to what can be had again."""

    def close(self) -> None:
        """Lets go of it."""
        ...


class Recent:
    """The holders lately used; what falls out of them is closed.

    Args:
        most: How many.
    """

    def __init__(self, most: int = 8) -> None:
        self.most = most
        self._holders: WeakValueDictionary[int, Holder] = WeakValueDictionary()

    def use(self, holder: Holder) -> None:
        """Makes a holder the last one used."""
        self._holders.pop(id(holder), None)
        self._holders[id(holder)] = holder
        for old in list(self._holders.values())[: -self.most]:
            self._holders.pop(id(old), None)
            old.close()

    def close_all(self) -> None:
        """Closes all of them."""
        holders = list(self._holders.values())
        self._holders.clear()
        for holder in holders:
            holder.close()
