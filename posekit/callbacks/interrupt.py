"""Runs that are stopped: a step that has begun is ended first, and the checkpoints that stay hold whole steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info


def ends_step(trainer: Trainer, batch_idx: int) -> bool:
    """Tells whether a batch is the last of an optimiser's step: of those before, a checkpoint lacks the gradients."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch


class CleanInterrupt(Callback):
    """Lets the running step end before Ctrl-C or SIGTERM stops training, so that no half-updated weights are kept.

    A step ends with the optimiser's: with ``accumulate_grad_batches`` it takes several batches, whose gradients a
    checkpoint does not hold. A second Ctrl-C stops at once. Between steps, and in runs of several processes, which
    would wait for each other, the first one does.
    """

    def __init__(self) -> None:
        self._in_step = False
        self._asked: Callable[[], None] | None = None
        self._earlier: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signal over: here, for what came earlier the trainer would put back at its end."""
        self._in_step, self._asked = False, None
        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            self._earlier[signal.SIGINT] = signal.signal(signal.SIGINT, self._on_interrupt)
            if callable(signal.getsignal(signal.SIGTERM)):  # the trainer's own, which ends the run after this batch
                self._earlier[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._on_termination)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Notes that a step is under way."""
        self._in_step = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stops a run that was asked to.

        Raises:
            KeyboardInterrupt: In place of the one that came within the step.
        """
        if not ends_step(trainer, batch_idx):
            return
        self._in_step = False
        if self._asked is not None:
            self._asked()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gives the signal back."""
        self._give_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Gives the signal back; the trainer has it ignored while it shuts down."""
        if not isinstance(exception, KeyboardInterrupt):
            self._give_back()

    def _give_back(self) -> None:
        while self._earlier:
            number, handler = self._earlier.popitem()
            signal.signal(number, handler)

    def _on_interrupt(self, _: int, __: FrameType | None) -> None:
        if self._asked is not None or not self._in_step:
            raise KeyboardInterrupt
        self._asked = _interrupt
        rank_zero_info("stopping after this step; Ctrl-C again stops at once")

    def _on_termination(self, number: int, frame: FrameType | None) -> None:
        stop = partial(self._earlier[number], number, frame)
        if self._in_step:
            self._asked = stop
        else:
            stop()


def _interrupt() -> None:
    raise KeyboardInterrupt


class RecentCheckpoint(ModelCheckpoint):
    """Keeps a state of the middle of long epochs, at the end of a step; methods of manual optimisation included.

    Args:
        every: Least time between two of them.
    """

    def __init__(self, every: timedelta) -> None:
        super().__init__(filename="recent", train_time_interval=every, save_top_k=1, enable_version_counter=False)
        self._every = every.total_seconds()
        self._latest = time.monotonic()

    @property
    def state_key(self) -> str:
        """The key of its base class, under which checkpoints hold its state."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        super().on_train_start(trainer, pl_module)
        self._latest = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves the state, if it is time to."""
        if not ends_step(trainer, batch_idx):
            return
        # The processes' clocks differ: the first one's counts.
        due: bool = trainer.strategy.broadcast(time.monotonic() - self._latest >= self._every)
        if due and not self._should_skip_saving_checkpoint(trainer):
            self._latest = time.monotonic()
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))


class LastCheckpoint(ModelCheckpoint):
    """Keeps the last state, at the end of each epoch and when a run ends before its time, and says where it is."""

    def __init__(self) -> None:
        super().__init__(
            filename="last",
            every_n_epochs=1,
            save_on_train_epoch_end=True,
            save_on_exception=True,
            enable_version_counter=False,
        )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Saves the state, unless nothing has been learned yet."""
        if trainer.state.fn != "fit" or not trainer.global_step:
            return
        if trainer.validating:
            _validate_anew(trainer)
        super().on_exception(trainer, pl_module, exception)
        if self.best_model_path:
            rank_zero_info(f"stopped after step {trainer.global_step}; go on with --ckpt_path {self.best_model_path}")


def _validate_anew(trainer: Trainer) -> None:
    """Has a resumed run validate from the first batch: what the metrics have gathered so far is in no checkpoint."""
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.reset()
    # A batch that was begun and not ended is how the trainer knows that there is a validation to go on with.
    progress.increment_ready()
    progress.increment_started()
