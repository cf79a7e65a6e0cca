"""What feeds the trainers of a benchmark: one batch again and again, in a chosen stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

from posekit.data.datamodule import PoseDataModule


class BeforeSteps(Callback):
    """Calls a function when a fit begins, after the method was set up, and before each step."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call

    def on_fit_start(self, *_: Any) -> None:
        """Calls it: loaders begin where the method stands."""
        self.call()

    def on_train_batch_start(self, *_: Any) -> None:
        """Calls it: a stage may have ended with the last step."""
        self.call()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says that the run was to end here: a method with a schedule would warn that it is not done."""
        trainer.should_stop = True


class RepeatedBatch:
    """A loader; a list would be several loaders to Lightning."""

    def __init__(self, batch: Any, count: int) -> None:
        self.batch, self.count = batch, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        return repeat(self.batch, self.count)


class RepeatedData(LightningDataModule):
    """One batch again and again, and for the rest what another data module says."""

    def __init__(self, batch: Any, count: int, source: PoseDataModule) -> None:
        super().__init__()
        self._batches = RepeatedBatch(batch, count)
        self._source = source

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_source" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self._source, name)

    def train_dataloader(self) -> Any:
        """Returns the repeated batch."""
        return self._batches

    predict_dataloader = train_dataloader
