"""Drawn data of a run of several processes on one machine: drawn by the process that starts the others."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from posekit.data.synthetic.cache import RENDERED_FOLDER, TEMPORARY


def starts_others(trainer: Trainer) -> bool:
    """Tells whether this process will start the others of its machine: with torchrun or SLURM it does not."""
    launcher = trainer.strategy.launcher
    return (
        trainer.world_size > 1
        and isinstance(launcher, _SubprocessScriptLauncher)
        and not launcher.cluster_environment.creates_processes_externally
    )


class DrawnOnce(Callback):
    """Names a temporary folder for what :class:`~posekit.data.SyntheticPeople` draws, and removes it when all have it.

    The other processes inherit the name, and map the files into their memory.
    """

    def __init__(self) -> None:
        self._folder: str | None = None
        if RENDERED_FOLDER not in os.environ:
            self._folder = os.environ[RENDERED_FOLDER] = tempfile.mkdtemp(prefix=TEMPORARY)
            atexit.register(self._remove)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Removes the folder: all processes have set up their data."""
        self._remove()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Removes the folder."""
        self._remove()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Removes the folder."""
        self._remove()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Removes the folder."""
        self._remove()

    def _remove(self) -> None:
        # Where an open file cannot be removed, as on Windows, this does nothing until the end.
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            if os.environ.get(RENDERED_FOLDER) == self._folder:
                del os.environ[RENDERED_FOLDER]
