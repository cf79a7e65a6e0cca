"""Where a run stands in the trainer's loops, told by its checkpoints: validations and parts of epochs still to come."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn


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
    if state is not None:
        for keep in (_keep_validations_whole, _keep_validation_due, _keep_epoch_finished, _keep_epoch_unfinished):
            keep(trainer, state)


def warn_of_validations_within_steps(trainer: Trainer) -> None:
    """Warns where validations come between the batches of one optimiser's step, and write checkpoints there."""
    every, batches = trainer.val_check_batch, trainer.accumulate_grad_batches
    if not trainer.enable_validation or every is None or every == float("inf") or not every % batches:
        return
    if trainer.check_val_every_n_epoch is None or every < trainer.num_training_batches:
        rank_zero_warn(
            f"a validation every {every} batches comes between those of a step (accumulate_grad_batches is {batches}): "
            "checkpoints that it writes, best.ckpt too, lack gradients, so that a run resumed from them is not exact"
        )


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
    if batches.completed != batches.processed - 1 or not validation_is_due(trainer):
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
    if not at_end or validation_is_due(trainer):
        return
    for name, done in (("epoch_progress", "started"), ("epoch_loop.batch_progress", "processed")):
        for progress in (state[name]["total"], state[name]["current"]):
            progress["processed"] = progress["completed"] = progress[done]
    state["epoch_loop.state_dict"]["_batches_that_stepped"] += 1


def _keep_epoch_unfinished(trainer: Trainer, state: dict[str, Any]) -> None:
    """Changes a checkpoint of a run that ended within an epoch, by its steps or its time: resumed, it does the rest.

    Lightning would take the epoch as done, and leave out the batches that were not trained.
    """
    loop = trainer.fit_loop
    epochs: Any = loop.epoch_progress.total
    batches = loop.epoch_loop.batch_progress
    ended = epochs.started > 0 and epochs.processed == epochs.started
    if not ended or batches.is_last_batch:
        return
    if not 0 < batches.current.ready < loop.max_batches:
        return
    for kind in ("total", "current"):
        progress = state["epoch_progress"][kind]
        progress["processed"] = progress["completed"] = progress["started"] - 1
    if _validates_here(trainer) and not loop.epoch_loop._should_accumulate():
        # Resumed, the trainer passes over that validation and counts the batch before it, as it would have after one.
        state["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def _validates_here(trainer: Trainer) -> bool:
    """Tells whether a validation belongs to the last batch, in whatever run: not only since this one ends with it."""
    stops, trainer.should_stop = trainer.should_stop, False
    try:
        return validation_is_due(trainer)
    finally:
        trainer.should_stop = stops


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
