"""Which stage a training iteration belongs to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple


class Place(NamedTuple):
    """A place in a schedule."""

    stage: int  # row of the schedule
    step: int  # within the stage


class Schedule:
    """Stages one after the other, counted in iterations (one training batch each).

    Args:
        steps: Iterations of each stage.
    """

    def __init__(self, steps: Sequence[int]) -> None:
        self.steps = tuple(steps)
        self._ends = list(accumulate(self.steps))

    @property
    def total(self) -> int:
        """Iterations of the whole run."""
        return self._ends[-1]

    def place(self, iteration: int) -> Place:
        """Returns the stage of an iteration and its step there; behind the end, the last stage's end."""
        if iteration >= self.total:
            return Place(len(self.steps) - 1, self.steps[-1])
        stage = bisect_right(self._ends, iteration)
        return Place(stage, iteration - (self._ends[stage] - self.steps[stage]))
