"""Where a run keeps its files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from posekit.errors import UserError

_AT_THE_START = ("config.yaml", "hparams.yaml", "events.out.tfevents.*")
"""Files that a run's folder holds before the first step."""


def run_folder(trainer: Trainer) -> Path | None:
    """Returns the folder of a run, or None for a run that keeps no log (``logger: false``, ``fast_dev_run``).

    Every process has to call it: Lightning broadcasts the name from the first one, and a process that waits alone
    hangs.
    """
    log_dir = trainer.log_dir
    if log_dir is None or not trainer.loggers or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    return Path(log_dir)


@contextmanager
def unless_refused(trainer: Trainer) -> Iterator[None]:
    """Takes back the folder of a run that is refused before its first step, where the run made it and put nothing in.

    Args:
        trainer: About to run; every process calls it.
    """
    folder, step = run_folder(trainer), trainer.global_step
    absent = [path for path in (folder, *folder.parents) if not path.exists()] if folder is not None else []
    try:
        yield
    except (UserError, MisconfigurationException):
        if absent and trainer.is_global_zero and trainer.global_step == step:
            _take_back(absent)
        raise


def _take_back(made: Sequence[Path]) -> None:
    """Removes a folder that holds nothing but the config and a log without a row, and empty ones that it lies in.

    Args:
        made: The folder, and then what it lies in.
    """
    folder, *around = made
    if not folder.is_dir() or not all(any(file.match(name) for name in _AT_THE_START) for file in folder.iterdir()):
        return
    shutil.rmtree(folder)
    for path in around:
        if any(path.iterdir()):
            return
        path.rmdir()
