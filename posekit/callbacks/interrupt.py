"""Ctrl-C: a training step that has begun is ended first, and the checkpoint that stays is named."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info


class CleanInterrupt(Callback):
    """Lets the running step end before Ctrl-C stops training, so that no half-updated weights are kept.

    A step ends with the optimiser's: with ``accumulate_grad_batches`` it takes several batches, whose gradients a
    checkpoint does not hold. A second Ctrl-C stops at once. Between steps, and in runs of several processes, which
    would wait for each other, the first one does.
    """

    def __init__(self) -> None:
        self._in_step = False
        self._asked = False
        self._earlier: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signal over: here, for what came earlier the trainer would put back at its end."""
        self._in_step = self._asked = False
        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            self._earlier = signal.signal(signal.SIGINT, self._on_signal)

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
        if (batch_idx + 1) % trainer.accumulate_grad_batches and not trainer.is_last_batch:
            return
        self._in_step = False
        if self._asked:
            raise KeyboardInterrupt

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gives the signal back."""
        self._give_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Gives the signal back; the trainer has it ignored while it shuts down."""
        if not isinstance(exception, KeyboardInterrupt):
            self._give_back()

    def _give_back(self) -> None:
        if self._earlier is not None:
            signal.signal(signal.SIGINT, self._earlier)
            self._earlier = None

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        if self._asked or not self._in_step:
            raise KeyboardInterrupt
        self._asked = True
        rank_zero_info("stopping after this step; Ctrl-C again stops at once")


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
