"""SIGTERM, and failures of one process among several: a run ends soon, and nobody waits for a process that is gone."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.utilities.exceptions import SIGTERMException


class Termination(Callback):
    """Ends a run on SIGTERM where the trainer would go on, and the other processes when this one fails.

    The trainer's own handler sets a mark that training alone looks at, and with several processes it waits within the
    signal for the others. While steps are trained :class:`~posekit.callbacks.CleanInterrupt` has the signal.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes the signal over from the trainer, which gives it back at its end."""
        trained_alone = stage == "fit" and trainer.world_size == 1
        if trained_alone or threading.current_thread() is not threading.main_thread():
            return

        def end(number: int, _: FrameType | None) -> None:
            if trainer.world_size == 1:
                raise SIGTERMException
            end_at_once(trainer, 128 + number)

        signal.signal(signal.SIGTERM, end)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Ends the processes that the trainer has started, if this one fails: they would wait for it."""
        if trainer.world_size > 1 and not stopped_together(trainer):
            end_children(trainer)


def stopped_together(trainer: Trainer) -> bool:
    """Tells whether all processes of a run have agreed to stop here, so that they can still do something together."""
    return trainer.world_size == 1 or any(getattr(callback, "agreed", False) for callback in trainer.callbacks)  # type: ignore[attr-defined]


def end_children(trainer: Trainer) -> None:
    """Kills the processes that the trainer has started; those of torchrun or SLURM are ended by these."""
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        launcher.kill(signal.SIGKILL)


def end_at_once(trainer: Trainer, code: int) -> None:
    """Ends this process, and those that the trainer has started, whatever they wait for.

    Args:
        trainer: The trainer.
        code: The exit code.
    """
    end_children(trainer)
    if trainer.is_global_zero:
        print("posekit: stopped", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
