"""Options of cells as words of the command line, and their check before any cell runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from posekit.errors import UserError
from posekit.tables.cells import Run, value_of
from posekit.tables.plan import Planner
from posekit.tables.spec import Overrides

Check = Callable[[Sequence[str]], None]
"""Parses command line words, and raises UserError where they do not fit."""


def words_of(overrides: dict[str, Any]) -> list[str]:
    """Turns options into command line words; lists, dicts, booleans and None as YAML reads them."""
    words = []
    for key, value in overrides.items():
        plain = isinstance(value, str | int | float) and not isinstance(value, bool)
        words.append(f"--{key}={value}" if plain else f"--{key}={json.dumps(value)}")
    return words


def check_options(planner: Planner, check: Check) -> None:
    """Parses the config of each job's first cell with the options that all cells take.

    Args:
        planner: The table's cells.
        check: Parses a config and options.

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
        fault = _fault(run, options, check)
        if fault is not None and _fault(run, own, check) is None:
            raise UserError(f"{run.job.config}: {fault}")


def check_validation(planner: Planner) -> None:
    """Refuses training runs that would not validate at their end: their numbers would be none, or of an earlier state.

    Raises:
        UserError: There is one.
    """
    plan = planner.plan()
    for run in (*plan.runs, *plan.later):
        reason = _unvalidated_end(run) if run.job.command == "fit" else None
        if reason is not None:
            raise UserError(f"{planner.spec.name}: {run.used_by} {reason}")


def _unvalidated_end(run: Run) -> str | None:
    """Says why a run does not validate at its end, as far as its options tell."""
    never = "would never validate and so have no number: "
    if _number(value_of(run, "trainer.limit_val_batches")) == 0:
        return never + "trainer.limit_val_batches is 0"
    epochs = _number(value_of(run, "trainer.max_epochs"))
    every = _number(value_of(run, "trainer.check_val_every_n_epoch", 1))  # none where it counts steps instead
    if epochs is None or not every or epochs < 0:
        return None
    if epochs == 0:
        return never + "trainer.max_epochs is 0"
    if epochs % every == 0:
        return None
    what = never if epochs < every else f"would have the numbers of epoch {epochs - epochs % every:g}, not of its end: "
    return (
        f"{what}trainer.max_epochs is {epochs:g} and trainer.check_val_every_n_epoch {every:g}; "
        "give --trainer.check_val_every_n_epoch 1"
    )


def _number(value: Any) -> float | None:
    """Returns an option's number, which the command line gives as text; None of anything else."""
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _fault(run: Run, overrides: Overrides, check: Check) -> str | None:
    try:
        check(["--config", run.job.config, *words_of(overrides)])
    except UserError as error:
        return str(error)
    return None
