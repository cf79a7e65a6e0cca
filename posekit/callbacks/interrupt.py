"""Runs that are stopped: a step that has begun is ended first, and the checkpoints that stay hold whole steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException

from posekit.callbacks.keeper import Keeper
from posekit.callbacks.termination import end_at_once, stopped_together
from posekit.errors import UserError
from posekit.loop_progress import ends_step, validation_is_due


class CleanInterrupt(Callback):
    """Lets the running step end before Ctrl-C or SIGTERM stops training, so that no half-updated weights are kept.

    A step ends with the optimiser's: with ``accumulate_grad_batches`` it takes several batches, whose gradients a
    checkpoint does not hold. A second Ctrl-C stops at once. Between steps and in validations the first one does.

    Several processes agree at the end of each step whether one of them was asked to stop, and then all do, so that they
    can still write a checkpoint together; a validation is ended first.
    """

    def __init__(self) -> None:
        self.agreed = False
        self._in_step = False
        self._asked: Callable[[], None] | None = None
        self._earlier: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signal over: here, for what came earlier the trainer would put back at its end."""
        self.agreed, self._in_step, self._asked = False, False, None
        _note_saved_step(trainer)
        if threading.current_thread() is not threading.main_thread():
            return
        if trainer.world_size > 1:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._earlier[number] = signal.signal(number, partial(self._ask_all, trainer))
            return
        self._earlier[signal.SIGINT] = signal.signal(signal.SIGINT, self._on_interrupt)
        if callable(signal.getsignal(signal.SIGTERM)):  # the trainer's own
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
            SIGTERMException: In place of SIGTERM.
        """
        if not ends_step(trainer, batch_idx):
            return
        if self._is_asked(trainer):
            callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
            for other in callbacks[callbacks.index(self) + 1 :]:  # this step ends for them as well
                other.on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            trainer._logger_connector.on_batch_end()  # and its values are logged
            trainer._logger_connector.update_train_step_metrics()
            self._stop()
        # From here to its start nothing would tell a checkpoint that a validation is due.
        self._in_step = validation_is_due(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops a run that was asked to after the step before; within a step, the validation comes first."""
        if not trainer.sanity_checking and not trainer.fit_loop._should_accumulate():
            self._end_step(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops a run that was asked to, where a validation was due and had no batches."""
        self._end_step(trainer)

    def _end_step(self, trainer: Trainer) -> None:
        self._in_step = False
        if self._is_asked(trainer):
            self._stop()

    def _is_asked(self, trainer: Trainer) -> bool:
        asked = self._asked is not None
        # In a group the trainer itself asks the others before each batch: one question more costs little.
        return trainer.strategy.reduce_boolean_decision(asked, all=False) if trainer.world_size > 1 else asked

    def _stop(self) -> None:
        self._in_step, self.agreed = False, True
        (self._asked or _terminate)()

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

    def _ask_all(self, trainer: Trainer, number: int, _: FrameType | None) -> None:
        if number == signal.SIGTERM:
            self._asked = self._asked or _terminate
            return
        if self._asked is not None:
            end_at_once(trainer, 128 + number)
        self._asked = _interrupt
        rank_zero_info("stopping all processes after this step, or validation; Ctrl-C again stops at once")

    def _on_termination(self, number: int, frame: FrameType | None) -> None:
        stop = partial(_terminate, partial(self._earlier[number], number, frame))
        if self._in_step:
            self._asked = stop
        else:
            stop()


def _note_saved_step(trainer: Trainer) -> None:
    """Tells keepers that save every so many steps that the step which a resumed run begins with has been saved.

    Lightning forgets it, and would save it again after the next batch: with ``accumulate_grad_batches`` in the middle
    of a step, whose gradients the file would lack.
    """
    for keeper in trainer.checkpoint_callbacks:
        if isinstance(keeper, ModelCheckpoint) and keeper._every_n_train_steps > 0:
            keeper._last_global_step_saved = trainer.global_step


def _terminate(notify: Callable[[], None] | None = None) -> None:
    """Does what the trainer's handler does, and ends the run here: the trainer would make its validation first."""
    if notify is not None:
        notify()
    raise SIGTERMException


def _interrupt() -> None:
    raise KeyboardInterrupt


class RecentCheckpoint(Keeper):
    """Keeps a state of the middle of long epochs, at the end of a step; methods of manual optimisation included.

    Args:
        every: Least time between two of them.
    """

    def __init__(self, every: timedelta) -> None:
        super().__init__(filename="recent", train_time_interval=every, save_top_k=1, enable_version_counter=False)
        self._every = every.total_seconds()
        self._latest = time.monotonic()

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
        self._begun: int | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finds the folder."""
        super().setup(trainer, pl_module, stage)
        self._begun = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the step that the run begins with."""
        super().on_train_start(trainer, pl_module)
        self._begun = trainer.global_step

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Saves the state, unless nothing has been learned yet, and says what a run goes on with.

        Raises:
            UserError: The state cannot be saved; the message names the checkpoint before.
        """
        if trainer.state.fn != "fit":
            return
        if self._begun is None or trainer.global_step == self._begun:
            if isinstance(exception, KeyboardInterrupt | SIGTERMException):
                rank_zero_info("stopped before the first step" + _go_on_with(trainer.ckpt_path))
            return
        if not stopped_together(trainer):  # in the middle of a step, perhaps, and the others would be waited for
            newest = self._newest(trainer)
            if newest:
                rank_zero_info(f"stopped{_go_on_with(newest)}")
            return
        try:
            super().on_exception(trainer, pl_module, exception)
        except UserError as error:
            raise UserError(f"{error}{_go_on_with(self._newest(trainer))}") from None
        if self._last_checkpoint_saved:
            rank_zero_info(f"stopped after step {trainer.global_step}{_go_on_with(self._last_checkpoint_saved)}")

    def _newest(self, trainer: Trainer) -> Any:
        """Returns the run's latest checkpoint, or the one that it went on from; None where there is neither."""
        places = [Path(self.dirpath or ".") / f"{name}.ckpt" for name in ("last", "recent")]
        found = sorted((path for path in places if path.is_file()), key=lambda path: path.stat().st_mtime)
        return found[-1] if found else trainer.ckpt_path


def _go_on_with(path: Any) -> str:
    return f"; go on with --ckpt_path {path}" if path else ""
