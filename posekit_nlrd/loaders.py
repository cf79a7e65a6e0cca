"""Loaders that follow NLRD's schedule: which batch comes is a function of (seed, stage, step)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Sampler

from posekit.data.datamodule import PoseDataModule
from posekit_nlrd.augment import mixed
from posekit_nlrd.streams import Batch


class Feeder(Protocol):
    """What the loaders ask of the data module."""

    epoch_steps: int
    parts: dict[str, PoseDataModule]

    def step_batch(self, stream: str, stage: int, number: int) -> Batch:
        """Returns a batch of a stream in a stage."""

    def release(self, streams: tuple[str, ...]) -> None:
        """Stops the loader processes of all streams but these."""

    def evaluation_batches(self, stream: str, split: str) -> Iterator[Batch]:
        """Yields the batches of a split."""


class StepSampler(Sampler[list[Any]]):
    """Yields the keys of batches without end, beginning at any step: pass after pass, each in its own order.

    Args:
        length: Samples of the data set.
        batch_size: Samples per process and batch.
        key: Integers that seed the orders.
        step: The first batch's number.
        world: Processes; each takes its own part of a step.
        rank: Number of this one.
        repeat: Batches after which the first one comes again (``overfit_batches``); None goes on.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        key: tuple[int, ...],
        step: int = 0,
        world: int = 1,
        rank: int = 0,
        repeat: int | None = None,
    ) -> None:
        self.length, self.batch_size, self.key = length, batch_size, key
        self.step, self.world, self.rank, self.repeat = step, world, rank, repeat
        self._order: tuple[int, list[int]] = (-1, [])

    def __iter__(self) -> Iterator[list[Any]]:
        step = self.step
        while True:
            number = step % self.repeat if self.repeat else step
            first = (number * self.world + self.rank) * self.batch_size
            yield [self._sample(position) for position in range(first, first + self.batch_size)]
            step += 1

    def _sample(self, position: int) -> tuple[int, int]:
        epoch, place = divmod(position, self.length)
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(mixed(*self.key, epoch))
            order = torch.randperm(self.length, generator=generator)
            self._order = (epoch, order.tolist())
        return epoch, self._order[1][place]


class Cursor:
    """A running loader, and which batch it gives next.

    Args:
        loader: Whose batches begin there.
        place: Stage, and number of the batch in it.
    """

    def __init__(self, loader: DataLoader[Any], place: tuple[int, int]) -> None:
        self.place = place
        self._batches = iter(loader)

    def __next__(self) -> Any:
        batch = next(self._batches)
        self.place = (self.place[0], self.place[1] + 1)
        return batch


class StageLoader:
    """An epoch of ``epoch_steps`` iterations from where the method stands in its schedule.

    Args:
        data: Where batches come from.
        method: The NLRD module: its ``plan``, ``stages`` and ``iteration``.
    """

    def __init__(self, data: Feeder, method: Any) -> None:
        self.data, self.method = data, method

    def __len__(self) -> int:
        return min(self.data.epoch_steps, int(self.method.plan.total))

    @property
    def stage_batches(self) -> int:
        """Batches from where the method stands to the end of its stage; a pass goes on into the next one."""
        place = self.method.place
        return int(self.method.plan.steps[place.stage]) - int(place.step)

    def __iter__(self) -> Iterator[dict[str, Batch]]:
        schedule, iteration = self.method.plan, self.method.iteration
        while iteration < schedule.total:
            place = schedule.place(iteration)
            stage = self.method.stages[place.stage]
            self.data.release(stage.streams)
            wanted = stage.batches_at(place.step)
            yield {stream: self.data.step_batch(stream, place.stage, number) for stream, number in wanted.items()}
            iteration += 1

    def state_dict(self) -> dict[str, int]:
        """Returns the place, for the record: the method holds it, and a pass begins where the method stands."""
        return {"iteration": int(self.method.iteration)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Does nothing: the method has its place back already."""


class EvaluationLoader:
    """The batches of all streams that the method wants to be judged by, one stream after the other.

    Args:
        data: Where batches come from.
        method: The NLRD module.
        split: ``val`` or ``test``.
    """

    def __init__(self, data: Feeder, method: Any, split: str) -> None:
        self.data, self.method, self.split = data, method, split

    def __iter__(self) -> Iterator[dict[str, Batch]]:
        for stream in self.method.evaluated_streams():
            if stream in self.data.parts:
                for batch in self.data.evaluation_batches(stream, self.split):
                    yield {stream: batch}
