"""The loader of all data modules: keyed samples, and a place in the epoch that a checkpoint can hold."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler, SequentialSampler

from posekit.errors import UserError

# Seeds of runs lie so far apart that no epoch of one is shuffled as an epoch of another.
_RUN_STRIDE = 1_000_003


def single_threaded(_: int = 0) -> None:
    """Keeps OpenCV to one thread: its pool in every worker would fight over the same cores."""
    cv2.setNumThreads(0)


def shuffle_seed(seed: int) -> int:
    """Returns the seed of an order: the data module's, moved by ``seed_everything``'s.

    So runs of several seeds see the same samples in different orders. Run seed 0, or none, gives the data's own.
    """
    return seed + _RUN_STRIDE * int(os.environ.get("PL_GLOBAL_SEED", "0"))


class EpochSampler(DistributedSampler[Any]):
    """Yields ``(epoch, index)`` keys, so that augmentation is a function of (seed, epoch, index) in any worker.

    A data set that keeps an epoch of its own would be out of date in persistent workers; a key is not. Without
    shuffling, that is in evaluation, the epoch is always 0: the same samples every time. Being a
    ``DistributedSampler`` it is left alone by Lightning, which calls ``set_epoch`` on it.

    Attributes:
        skip: Samples left out at the start of the next pass, once: those that a resumed run has seen already.
        repeats: Whether processes that come out short repeat samples, so that all take the same number of steps.
    """

    skip: int = 0
    repeats: bool = True

    def share_once(self) -> None:
        """Repeats no sample, so that processes may differ by one: for predictions, and see :class:`EvenBatches`."""
        if self._share(self.num_replicas - 1):  # a process without any would stay out
            self.repeats = False
            self.num_samples = len(self._share(self.rank))

    def _share(self, rank: int) -> range:
        return range(rank, len(self.dataset), self.num_replicas)  # type: ignore[arg-type]

    def set_epoch(self, epoch: int) -> None:
        """Names the epoch of the next pass; one other than before begins at its beginning.

        Args:
            epoch: Its number.
        """
        if epoch != self.epoch:
            self.skip = 0
        super().set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        epoch = self.epoch if self.shuffle else 0
        skip, self.skip = self.skip, 0
        indices = super().__iter__() if self.repeats else self._share(self.rank)
        return iter([(epoch, index) for index in indices][skip:])


class FixedSampler(EpochSampler, SequentialSampler):
    """Yields the same keys in every pass, in the data set's order: for evaluation, and for ``overfit_batches``.

    Being a ``SequentialSampler``, too, it is left alone by Lightning's ``overfit_batches``, whose own would give bare
    indices.

    Args:
        dataset: The samples.
        world: Number of processes.
        rank: Number of this one.
    """

    def __init__(self, dataset: Dataset[Any], world: int, rank: int) -> None:
        super().__init__(dataset, world, rank, shuffle=False)


def overfits(trainer: Any) -> bool:
    """Tells whether a trainer (or None) has ``overfit_batches``, which repeats the first batches in each epoch."""
    return bool(getattr(trainer, "overfit_batches", 0) > 0)


class EvenBatches(BatchSampler):
    """Cuts a process's share of an evaluation into as many batches as each other process has, none of them empty.

    All processes take part in each step, but a padded share would weigh the samples that it repeats twice in averages
    over batches. Shares differ by one sample at most. Only a share smaller than the number of batches (of a batch size
    of 1, or of fewer samples than processes) repeats one; metrics drop it by its id.

    Args:
        sampler: The process's share.
        batch_size: Most samples of a batch.
        drop_last: Unused, as nothing is left over.
    """

    def __init__(self, sampler: EpochSampler, batch_size: int, drop_last: bool = False) -> None:
        super().__init__(sampler, batch_size, drop_last)
        sampler.share_once()
        largest = -(-len(sampler.dataset) // sampler.num_replicas)  # type: ignore[arg-type]
        self._count = -(-largest // batch_size)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[Any]]:
        keys = list(self.sampler)
        keys += keys[: max(0, self._count - len(keys))]
        for places in np.array_split(np.arange(len(keys)), self._count):
            yield [keys[place] for place in places]


def evaluation_loader(
    dataset: Dataset[Any], batch_size: int, world: int = 1, rank: int = 0, **options: Any
) -> DataLoader[Any]:
    """Makes a loader that gives each sample to one process, and all processes the same number of batches.

    Args:
        dataset: Indexed with ``(epoch, index)``.
        batch_size: Most samples of a batch.
        world: Number of processes.
        rank: Number of this one.
        options: Further arguments of ``DataLoader``.
    """
    sampler = FixedSampler(dataset, world, rank)
    if world == 1 or len(dataset) == 0:  # type: ignore[arg-type]
        return DataLoader(dataset, batch_size=batch_size, sampler=sampler, **options)
    loader = DataLoader(dataset, batch_sampler=EvenBatches(sampler, batch_size), **options)
    # What Lightning looks at before it puts a sampler of its own in the place of one that does not share.
    object.__setattr__(loader, "sampler", sampler)
    return loader


class ResumableLoader(DataLoader[Any]):
    """A loader whose state is the number of batches given out, so that a run goes on in the middle of an epoch.

    Lightning stores ``state_dict()`` in checkpoints and gives it back before the first batch of a resumed epoch. The
    pass begins with the first batch that is asked for, not with ``iter()``: Lightning sets the sampler's epoch in
    between, which workers that had begun earlier would miss.
    """

    KEYS = frozenset(("batches", "of", "epoch", "samples"))
    """Of its state."""
    _given = 0
    moved = 0
    """What the number of batches given out has changed by since the checkpoint, as theirs had another size."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self._given = self._sampler.skip // (self.batch_size or 1)
        for batch in super().__iter__():
            self._given += 1
            yield batch

    @property
    def _sampler(self) -> EpochSampler:
        if not isinstance(self.sampler, EpochSampler):
            raise UserError(
                "the trainer has put another sampler into the training loader (overfit_batches): give it the data "
                "module, fit(model, datamodule=data)"
            )
        return self.sampler

    @property
    def _samples(self) -> int:
        """Samples of a step, of all processes."""
        return (self.batch_size or 1) * self._sampler.num_replicas

    def state_dict(self) -> dict[str, int]:
        """Returns the batches given out in this pass and their number, the sampler's epoch, and a step's samples."""
        samples, epoch = self._samples, self._sampler.epoch
        return {"batches": self._given, "of": len(self), "epoch": epoch, "samples": samples}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Makes the next pass begin where ``state`` was taken; a finished pass begins anew.

        Where batches have another size now, it begins with the one that holds the first sample not yet seen.
        """
        self._sampler.set_epoch(state["epoch"])
        given, length = state["batches"], state.get("of", len(self))
        seen = given * state.get("samples", self._samples)
        begin = seen // self._samples if given < length else 0
        if begin >= len(self):  # the number of steps, of a mixture, is the same whatever the size of a batch
            begin = given * len(self) // length
        self._sampler.skip = begin * (self.batch_size or 1)
        self._given = begin  # a validation may come first, and write a checkpoint
        self.moved = begin - given
