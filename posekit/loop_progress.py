"""Where a run stands in the trainer's loops, told by its checkpoints: validations and parts of epochs still to come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any

import torch
from lightning.pytorch import Trainer
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


def keep_place(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Changes a checkpoint so that a resumed run goes on where its trainer stands; see the functions below.

    Args:
        trainer: Whose checkpoint it is.
        checkpoint: Its content, changed in place where it has the loops' state.
    """
    state = checkpoint.get("loops", {}).get("fit_loop")
    if state is None:
        return
    begun = _take_back_begun_step(trainer, checkpoint, state)
    _keep_validations_whole(trainer, state)
    if not begun:
        _keep_validation_due(trainer, state)
        _keep_epoch_finished(trainer, state)
    _keep_epoch_unfinished(trainer, state, begun)


def _take_back_begun_step(trainer: Trainer, checkpoint: dict[str, Any], state: dict[str, Any]) -> bool:
    """Changes a checkpoint written within an optimiser's step, e.g. after an error: resumed, it makes the step anew.

    Of the batches of a step (``accumulate_grad_batches``) no checkpoint holds the gradients, and a batch that broke off
    has none. Lightning would take them as trained on.

    Returns:
        Whether a step had begun, or was about to.
    """
    loop = trainer.fit_loop
    batches = loop.epoch_loop.batch_progress
    current: Any = batches.current
    done = current.processed
    places = _loader_places(trainer, checkpoint, state)
    # The last batch is known as such when it is given out, before it is counted.
    ended = batches.is_last_batch and current.ready == done and all(place["batches"] <= done for place in places)
    if not ended:
        done -= done % trainer.accumulate_grad_batches
    for place in places:
        place["batches"] = min(place["batches"], done)
    back = current.ready - done
    trained, judged = state["epoch_loop.batch_progress"], state["epoch_loop.val_loop.batch_progress"]
    trained["is_last_batch"] = ended
    # Between two batches the count of the one before is made, which a resumed run makes once more behind a validation.
    if not back and (ended or current.completed != done or not done or trainer.validating):
        return False
    if back:
        for kind, progress in (("total", batches.total), ("current", current)):
            trained[kind].update(dict.fromkeys(trained[kind], progress.ready - back))
            judged[kind].update(dict.fromkeys(judged[kind], judged[kind]["completed"]))
    _pass_over_validation(trainer, state, back)
    return True


def _loader_places(trainer: Trainer, checkpoint: dict[str, Any], state: dict[str, Any]) -> list[dict[str, Any]]:
    """Finds what posekit's loaders have put into a checkpoint: the data module's, and Lightning's copy."""
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
    own = checkpoint.get(type(datamodule).__qualname__, {}).get("train")
    found = [own, *state["state_dict"].get("combined_loader", [])]
    return [place for place in found if isinstance(place, dict) and "batches" in place]


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


def _keep_validations_whole(trainer: Trainer, state: dict[str, Any]) -> None:
    """Changes a checkpoint written after a validation that a resumed run made anew: it counts as one, and as ended.

    Lightning would keep the batch that had been begun, and take it for one to go on with in the next run.
    """
    batches: Any = trainer.fit_loop.epoch_loop.val_loop.batch_progress.current
    if batches.ready != batches.completed:
        return
    judged = state["epoch_loop.val_loop.batch_progress"]["total"]
    judged["ready"] = judged["started"] = judged["processed"] = judged["completed"]


def _keep_validation_due(trainer: Trainer, state: dict[str, Any]) -> None:
    """Changes a checkpoint written at the end of a batch after which a validation follows: resumed, it begins with it.

    Lightning would take the epoch, or the interval, as done.
    """
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    # At a batch's end it is processed and not completed.
    if batches.completed != batches.processed - 1 or not _validates_here(trainer):
        return
    ended, judged = state["epoch_loop.batch_progress"], state["epoch_loop.val_loop.batch_progress"]
    for kind in ("total", "current"):
        ended[kind]["completed"] = ended[kind]["processed"]
        # A batch that was begun and not ended is how the trainer knows that there is a validation to go on with.
        judged[kind].update(ready=1, started=1, processed=0, completed=0)
    judged["is_last_batch"] = False


def _keep_epoch_finished(trainer: Trainer, state: dict[str, Any]) -> None:
    """Changes a checkpoint written at the end of an epoch's last batch, no validation following: the epoch is done.

    Lightning would begin the next one without counting it, and mistake its middle for its end in later checkpoints.
    """
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress
    at_end = batches.is_last_batch and batches.current.completed == batches.current.processed - 1
    if not at_end or _validates_here(trainer):
        return
    for name, done in (("epoch_progress", "started"), ("epoch_loop.batch_progress", "processed")):
        for progress in (state[name]["total"], state[name]["current"]):
            progress["processed"] = progress["completed"] = progress[done]
    state["epoch_loop.state_dict"]["_batches_that_stepped"] += 1


def _keep_epoch_unfinished(trainer: Trainer, state: dict[str, Any], begun: bool) -> None:
    """Changes a checkpoint of a run that ended within an epoch, by its steps or its time: resumed, it does the rest.

    Lightning would take the epoch as done, and leave out the batches that were not trained.

    Args:
        trainer: Whose checkpoint it is.
        state: Of its loops.
        begun: Whether a step was taken back.
    """
    loop = trainer.fit_loop
    epochs: Any = loop.epoch_progress.total
    batches = loop.epoch_loop.batch_progress
    ended = epochs.started > 0 and epochs.processed == epochs.started
    if not ended or (batches.is_last_batch and not begun):
        return
    if not 0 < batches.current.ready < loop.max_batches:
        return
    for kind in ("total", "current"):
        progress = state["epoch_progress"][kind]
        progress["processed"] = progress["completed"] = progress["started"] - 1
    if not begun:
        _pass_over_validation(trainer, state, 0)


def _validates_here(trainer: Trainer, back: int = 0) -> bool:
    """Tells whether a validation belongs to the batch so many before, in whatever run: not only since this one stops.

    Args:
        trainer: Where it stands.
        back: Number of batches.
    """
    batches, stops = trainer.fit_loop.epoch_loop.batch_progress, trainer.should_stop
    last = batches.is_last_batch
    trainer.should_stop, batches.is_last_batch = False, last and not back
    for progress in (batches.total, batches.current):
        progress.ready -= back
    try:
        return validation_is_due(trainer)
    finally:
        trainer.should_stop, batches.is_last_batch = stops, last
        for progress in (batches.total, batches.current):
            progress.ready += back


def _pass_over_validation(trainer: Trainer, state: dict[str, Any], back: int) -> None:
    """Counts one batch less where a resumed run passes over a validation: it counts the one before that once more.

    Args:
        trainer: Whose checkpoint it is.
        state: Of its loops, changed in place.
        back: Batches that the checkpoint stands before the trainer.
    """
    timed = getattr(trainer, "_val_check_time_interval", None) is not None
    # Lightning counts where the step is whole: so is the one before a step that was taken back.
    whole = bool(back) or not trainer.fit_loop.epoch_loop._should_accumulate()
    if not timed and whole and _validates_here(trainer, back):
        state["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


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


def validate_anew(trainer: Trainer) -> None:
    """Has a resumed run validate from the first batch: what the metrics have gathered so far is in no checkpoint."""
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.reset()
    progress.increment_ready()
    progress.increment_started()
