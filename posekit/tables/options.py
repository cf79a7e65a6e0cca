"""Options of the command line, checked before any cell runs."""

from __future__ import annotations

from typing import Any

from posekit.errors import UserError
from posekit.tables.cells import Run, value_of
from posekit.tables.plan import Planner
from posekit.tables.spec import Overrides
from posekit.tables.worker import words_of


def check_options(planner: Planner) -> None:
    """Parses the config of each job's first cell with the options that all cells take.

    Raises:
        UserError: The options do not fit it. A fault of the config's own is left to its cell.
    """
    if not planner.extra:
        return
    firsts = {run.job.name: run for run in reversed(planner.plan().runs) if run.job.command != "bench"}
    for run in firsts.values():
        options = {
            key: value for key, value in run.overrides.items() if not (run.job.data_folder and key == "data.root")
        }
        own = {key: value for key, value in options.items() if key not in planner.extra}
        fault = _fault(run, options)
        if fault is not None and _fault(run, own) is None:
            raise UserError(f"{run.job.config}: {fault}")


def check_validation(planner: Planner) -> None:
    """Refuses training runs that would end before they validate: they would take their time and have no numbers.

    Raises:
        UserError: There is one.
    """
    plan = planner.plan()
    for run in (*plan.runs, *plan.later):
        reason = _never_validates(run) if run.job.command == "fit" else None
        if reason is not None:
            raise UserError(f"{planner.spec.name}: {run.used_by} would never validate and so have no number: {reason}")


def _never_validates(run: Run) -> str | None:
    """Says why a run does not validate, as far as its options tell."""
    if _number(value_of(run, "trainer.limit_val_batches")) == 0:
        return "trainer.limit_val_batches is 0"
    epochs = _number(value_of(run, "trainer.max_epochs"))
    every = _number(value_of(run, "trainer.check_val_every_n_epoch", 1))  # none where it counts steps instead
    if epochs is None or every is None or not 0 <= epochs < every:
        return None
    return (
        f"trainer.max_epochs is {epochs:g} and trainer.check_val_every_n_epoch {every:g}; "
        "give --trainer.check_val_every_n_epoch 1"
        if epochs >= 1
        else "trainer.max_epochs is 0"
    )


def _number(value: Any) -> float | None:
    """Returns an option's number, which the command line gives as text; None of anything else."""
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _fault(run: Run, overrides: Overrides) -> str | None:
    from posekit.cli.build import check_config

    try:
        check_config(["--config", run.job.config, *words_of(overrides)])
    except UserError as error:
        return str(error)
    return None
