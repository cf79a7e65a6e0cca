"""Where a run keeps its files."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Trainer


def run_folder(trainer: Trainer) -> Path | None:
    """Returns the folder of a run, or None for a run that keeps no log (``logger: false``, ``fast_dev_run``).

    Every process has to call it: Lightning broadcasts the name from the first one, and a process that waits alone
    hangs.
    """
    log_dir = trainer.log_dir
    if log_dir is None or not trainer.loggers or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    return Path(log_dir)
