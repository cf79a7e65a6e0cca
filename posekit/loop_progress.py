"""Where a run stands in the trainer's loops, told by its checkpoints: validations and parts of epochs still to come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerStatus
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from posekit.data.loader import ResumableLoader


def ends_step(trainer: Trainer, batch_idx: int) -> bool:
    """Tells whether a batch is the last of an optimiser's step: of those before, a checkpoint lacks the gradients."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch


def validation_is_due(trainer: Trainer) -> bool:
    """Tells whether the trainer validates after the training batch that is ending."""
    loop = trainer.fit_loop
    return loop._data_fetcher is not None and bool(loop.epoch_loop._should_check_val_fx(loop._data_fetcher))


def keep_place(trainer: Trainer, checkpoint: dict[str, Any]) -> int | None:
    """Changes a checkpoint so that a resumed run goes on behind the last whole step, with the validation due there.

    Lightning's counters say what hook they were written in, and some of the places that a run can end in are taken for
    others: here each is told as one of those that Lightning goes on from exactly.

    Args:
        trainer: Whose checkpoint it is.
        checkpoint: Its content, changed in place where it has the loops' state.

    Returns:
        The step that the loggers' last row of training stands at; None where the run has not trained.
    """
    state = checkpoint.get("loops", {}).get("fit_loop")
    if state is None:
        return None
    places = _loader_places(trainer, checkpoint, state)
    stand = _stand(trainer, places)
    for place in places:
        place["batches"] = min(place["batches"], stand.batches if stand.within_epoch else 0)
    if _begins(trainer):
        return None
    _tell_epochs(trainer, state, stand)
    _tell_batches(trainer, state, stand)
    return stand.rows - 1 if stand.rows else None


@dataclass(frozen=True)
class _Stand:
    """Where a run stands: behind the last batch of a whole step of the optimiser.

    Of the batches of a step (``accumulate_grad_batches``) no checkpoint holds the gradients, and a batch that broke off
    has none. Lightning would take them as trained on; here such a step is made anew.

    Attributes:
        batches: Trained batches of the epoch.
        back: Batches that the trainer has begun behind them.
        last: Whether they are the whole epoch.
        over: Whether the trainer has left the epoch.
        validates: Whether a validation belongs behind them.
        judged: Whether that has been made.
        rows: Steps that the loggers have counted.
    """

    batches: int
    back: int
    last: bool
    over: bool
    validates: bool
    judged: bool
    rows: int

    @property
    def epoch_done(self) -> bool:
        """Whether a resumed run begins with the next epoch."""
        return self.last and (self.over or not self.validates)

    @property
    def within_epoch(self) -> bool:
        """Whether a resumed run goes on in this epoch, and not at its begin."""
        return self.batches > 0 and not self.epoch_done


def _begins(trainer: Trainer) -> bool:
    """Tells whether a resumed run has not gone on yet: its counters are those that it was given."""
    loop: Any = trainer.fit_loop.epoch_loop
    current = loop.batch_progress.current
    return bool(loop.restarting) and not trainer.validating and current.ready == current.completed


def _stand(trainer: Trainer, places: list[dict[str, Any]]) -> _Stand:
    loop: Any = trainer.fit_loop.epoch_loop
    epochs: Any = trainer.fit_loop.epoch_progress.total
    now: Any = loop.batch_progress.current
    rows = loop._batches_that_stepped
    if epochs.ready > epochs.started:  # on the threshold of an epoch: the counts are of the one before
        return _Stand(now.ready, 0, last=True, over=True, validates=False, judged=True, rows=rows)
    done = now.processed
    # The last batch is known as such when it is given out, before it is counted.
    last = loop.batch_progress.is_last_batch and now.ready == done and all(place["batches"] <= done for place in places)
    if not last:
        done -= done % trainer.accumulate_grad_batches
    back = now.ready - done
    over = epochs.started == epochs.processed  # by its end, or by a limit of steps or time
    ending = done > 0 and not (over or back) and (now.completed < done or trainer.validating)  # the last batch of these
    judged = not ending or (now.completed == done and _validation_ended(trainer))
    validates = done > 0 and _validates_behind(trainer, back)
    return _Stand(done, back, last, over, validates, judged, rows + ending)


def _validation_ended(trainer: Trainer) -> bool:
    """Tells whether the validation under way has been made: what an error breaks off has not, whatever it had done."""
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    current: Any = progress.current
    whole = progress.is_last_batch and 0 < current.ready == current.completed
    return whole and trainer.state.status != TrainerStatus.INTERRUPTED


def _validates_behind(trainer: Trainer, back: int) -> bool:
    """Tells whether a validation belongs to the batch so many before, in whatever run: not only since this one stops.

    One by the clock belongs to no batch.
    """
    if getattr(trainer, "_val_check_time_interval", None) is not None:
        return False
    loop = trainer.fit_loop
    fetcher: Any = loop._data_fetcher
    with _as_it_was(trainer, back):
        return bool(loop.epoch_loop._should_check_val_fx(fetcher))


@contextmanager
def _as_it_was(trainer: Trainer, back: int) -> Iterator[None]:
    """Sets the trainer to the end of the batch so many before, in a run that goes on."""
    batches, epochs = trainer.fit_loop.epoch_loop.batch_progress, trainer.fit_loop.epoch_progress
    trackers: tuple[Any, ...] = (batches.total, batches.current, epochs.current)
    before = [dict(vars(tracker)) for tracker in trackers]
    stops, last = trainer.should_stop, batches.is_last_batch
    trainer.should_stop, batches.is_last_batch = False, last and not back
    batches.total.ready -= back
    batches.current.ready -= back
    epochs.current.completed = trackers[2].started - 1
    try:
        yield
    finally:
        trainer.should_stop, batches.is_last_batch = stops, last
        for tracker, values in zip(trackers, before, strict=True):
            vars(tracker).update(values)


def _tell_epochs(trainer: Trainer, state: dict[str, Any], stand: _Stand) -> None:
    for kind, counts in state["epoch_progress"].items():
        begun = getattr(trainer.fit_loop.epoch_progress, kind).started
        whole = begun if stand.epoch_done else max(begun - 1, 0)
        begun = begun if stand.within_epoch else whole
        counts.update(ready=begun, started=begun, processed=whole, completed=whole)


def _tell_batches(trainer: Trainer, state: dict[str, Any], stand: _Stand) -> None:
    """Writes the counters of batches and validations.

    Lightning's resumed run begins with the end of a batch behind which a validation belongs, and counts it then; it
    makes the validation if a batch of that has begun and not ended.
    """
    progress: Any = trainer.fit_loop.epoch_loop.batch_progress
    judged: Any = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    trained, validated = state["epoch_loop.batch_progress"], state["epoch_loop.val_loop.batch_progress"]
    due = stand.validates and not stand.judged
    for kind in ("total", "current"):
        trained[kind].update(dict.fromkeys(trained[kind], getattr(progress, kind).ready - stand.back))
        validated[kind].update(dict.fromkeys(validated[kind], getattr(judged, kind).completed))
        if due:
            validated[kind].update(ready=1, started=1, processed=0, completed=0)
    trained["is_last_batch"] = stand.last
    validated["is_last_batch"] = judged.is_last_batch and not due
    counted_anew = stand.validates and stand.within_epoch
    state["epoch_loop.state_dict"]["_batches_that_stepped"] = stand.rows - counted_anew


def _loader_places(trainer: Trainer, checkpoint: dict[str, Any], state: dict[str, Any]) -> list[dict[str, Any]]:
    """Finds what posekit's loaders have put into a checkpoint: the data module's, and Lightning's copy."""
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
    own = checkpoint.get(type(datamodule).__qualname__, {}).get("train")
    found = [own, *state["state_dict"].get("combined_loader", [])]
    return [place for place in found if isinstance(place, dict) and place.keys() >= ResumableLoader.KEYS]


def recount(trainer: Trainer) -> None:
    """Has a run that is resumed within an epoch count batches of its own size; the earlier run's had another.

    Args:
        trainer: Whose loops' state is restored.
    """
    loader, batches = trainer.fit_loop._combined_loader, trainer.fit_loop.epoch_loop.batch_progress
    moves = [each.moved for each in loader.flattened if isinstance(each, ResumableLoader)] if loader else []
    if not (trainer.fit_loop.restarting and batches.current.ready and any(moves)):
        return
    if not isfinite(trainer.num_training_batches):
        return
    left = int(trainer.num_training_batches) - batches.current.ready  # a limit of batches counts those of now
    ended = batches.is_last_batch
    for progress in (batches.total, batches.current):
        for name, count in asdict(progress).items():
            setattr(progress, name, count + (left if ended else min(moves[0], left - 1)))
    if ended:
        return
    rank_zero_warn(
        "resumed within an epoch with batches of another size, or another number of processes: it goes on with batch "
        f"{batches.current.ready + 1}; some samples of this epoch may be seen twice"
    )


def place_loaders(trainer: Trainer) -> None:
    """Gives the loaders their places in the epoch, where Lightning has not: a method asked for the loaders before."""
    loop = trainer.fit_loop
    if loop._combined_loader_states_to_load and loop.restarting and loop._data_fetcher is not None:
        loop._load_combined_loader_states()
        iter(loop._data_fetcher)


def latest_metrics(trainer: Trainer) -> dict[str, float]:
    """Returns the numbers that callbacks judge by, as they were last computed."""
    known = trainer._logger_connector._callback_metrics
    return {name: float(value) for name, value in known.items() if isinstance(value, Tensor) and value.numel() == 1}


def recall_metrics(trainer: Trainer, values: Mapping[str, float]) -> None:
    """Gives callbacks the numbers of the run before: what judges at an epoch's end may have missed its validation.

    Args:
        trainer: Of a run that begins.
        values: Of :func:`latest_metrics`.
    """
    known = trainer._logger_connector._callback_metrics
    known.update({name: torch.tensor(value) for name, value in values.items() if name not in known})


def resume_by_epochs(trainer: Trainer) -> None:
    """Has a resumed run tell a finished epoch from one to go on with by its counts, whatever limits it.

    With ``max_steps`` Lightning takes each as one to go on with, and so ends a finished epoch twice: what follows would
    see another epoch's samples, or none.
    """
    vars(trainer.fit_loop)["_iteration_based_training"] = lambda: False
