"""Lightning's searches for a learning rate and a batch size, which act on the trainer before a fit begins."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder


def searches_rate(trainer: Trainer) -> bool:
    """Tells whether a fit begins with a search for a learning rate, as a callback or the ``Tuner``'s."""
    return any(isinstance(callback, LearningRateFinder) for callback in _callbacks(trainer))


def searches_batch_size(trainer: Trainer, tuner: bool = False) -> bool:
    """Tells whether a fit begins with a search for a batch size.

    Args:
        trainer: Of the fit.
        tuner: Whether that of the ``Tuner``, which comes before a fit, counts.
    """
    found = [callback for callback in _callbacks(trainer) if isinstance(callback, BatchSizeFinder)]
    return any(tuner or not finder._early_exit for finder in found)


def search_rate_no_more(trainer: Trainer) -> None:
    """Leaves the search for a learning rate out of a fit."""
    callbacks = _callbacks(trainer)
    callbacks[:] = [callback for callback in callbacks if not isinstance(callback, LearningRateFinder)]


def _callbacks(trainer: Trainer) -> list[Any]:
    found: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return found
