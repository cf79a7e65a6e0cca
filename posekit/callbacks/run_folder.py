"""Where a run keeps its files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
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
def unless_refused(trainer: Trainer, resumed: int = 0) -> Iterator[None]:
    """Takes back the folder of a run that is refused before its first step, where the run made it and put nothing in.

    Args:
        trainer: About to run; every process calls it.
        resumed: Steps of the checkpoint that it goes on from.
    """
    folder, steps = run_folder(trainer), (trainer.global_step, resumed)
    absent = [path for path in (folder, *folder.parents) if not path.exists()] if folder is not None else []
    try:
        yield
    except (UserError, MisconfigurationException):
        if absent and trainer.is_global_zero and trainer.global_step in steps:
            _take_back(absent)
        raise


def _take_back(made: Sequence[Path]) -> None:
    """Removes a folder that holds nothing but the config and a log without a row, and empty ones that it lies in.

    Args:
        made: The folder, and then what it lies in.
    """
    folder, *around = made
    if not folder.is_dir() or not all(map(_is_of_the_start, folder.iterdir())):
        return
    shutil.rmtree(folder)
    with suppress(OSError):  # another run is in it
        for path in around:
            path.rmdir()


def _is_of_the_start(path: Path) -> bool:
    """Tells whether a run's folder holds a file, or the earlier run's best state, before the first step."""
    if path.is_dir():
        return path.name == "checkpoints" and all(file.match("best*.ckpt") for file in path.iterdir())
    return any(path.match(name) for name in _AT_THE_START)
