"""``posekit table``: a paper's table or figure, run cell by cell and shown beside the paper's numbers."""

from __future__ import annotations

import argparse
import re
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from posekit.cli.arguments import ArgumentParser
from posekit.errors import UserError, counted, listed
from posekit.files import atomic_write_bytes, atomic_write_text
from posekit.printed import table_console
from posekit.tables import TableSpec, load_table, shipped_tables
from posekit.tables.cells import Run, matching
from posekit.tables.options import check_options, check_validation
from posekit.tables.plan import Planner
from posekit.tables.plot import can_plot, plot
from posekit.tables.render import as_json, markdown, show
from posekit.tables.results import gather
from posekit.tables.runner import Outcome, beyond, estimates, run_missing
from posekit.tables.store import Store, origin

MOST_SEEDS = 1000
"""More are a seed that was meant, not a number of them."""


def run(argv: list[str]) -> None:
    """Runs the command; exits with 1 when a cell or, with ``--all``, a table failed.

    Raises:
        UserError: An unknown table, option, row or results folder.
    """
    # What a cluster sends has to end the running cell too, which is a process of its own.
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        failures = _tables(argv)
    finally:
        signal.signal(signal.SIGTERM, previous)
    if failures:
        sys.exit(1)


def _stop(*_: Any) -> None:
    sys.exit(143)


def _tables(argv: list[str]) -> int:
    """Runs the tables asked for; returns the number of failures."""
    rest, cells = _apart(argv)
    options = _parser().parse_args(rest)
    extra = _extra(cells)
    known = list(shipped_tables())
    if options.all == (options.name is not None):
        raise UserError(f"posekit table needs one name, or --all; tables: {', '.join(known)}")
    specs = [load_table(name, "data.root" in extra) for name in (known if options.all else [options.name])]
    if options.all and options.only:
        specs = _with_rows(specs, options.only)
    console = table_console(110)
    budget = None if options.budget is None else minutes(options.budget)
    deadline = None if budget is None else time.monotonic() + 60 * budget
    command = "posekit table " + shlex.join(argv)
    tasks = [_task(spec, options, extra) for spec in specs]
    failures = 0
    for task in sorted(tasks, key=_Task.minutes):
        try:
            if options.dry_run:
                budget = _show_plan(task, budget, console)
            else:
                failures += _table(task, deadline, command, console)
        except UserError as error:
            if len(tasks) == 1:
                raise
            console.print(f"{task.planner.spec.name}: {error}", style="red", soft_wrap=True, markup=False)
            failures += 1
    return failures


def _with_rows(specs: Sequence[TableSpec], patterns: Sequence[str]) -> list[TableSpec]:
    """Returns the tables that have a row asked for.

    Raises:
        UserError: A pattern matches no row of any table.
    """
    found = {spec.name: matching(spec, patterns) for spec in specs}
    for pattern in patterns:
        if not any(pattern in matched for matched in found.values()):
            raise UserError(f"--only {pattern} matches no row of any table")
    return [spec for spec in specs if found[spec.name]]


@dataclass(frozen=True)
class _Task:
    """A table to be run, with its results and the options of the command line."""

    planner: Planner
    store: Store

    def minutes(self) -> float:
        """Estimates what is missing."""
        return sum(estimates(self.store, self.planner.plan()).values())


def _task(spec: TableSpec, options: argparse.Namespace, extra: dict[str, Any]) -> _Task:
    name = f"{spec.name}-real" if spec.real else spec.name
    store = Store(Path(options.output) / name, options.any_version)
    only = matching(spec, options.only) if options.all else options.only
    return _Task(Planner(spec, seeds_of(options.seeds, spec), extra, only, store.read), store)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="posekit table",
        allow_abbrev=False,
        description="Runs what is missing of a table and shows it beside the paper's numbers. Options of the trainer, "
        "the model and the data (--model.lr 1e-3) go to every cell; --data.root ROOT takes the real data.",
    )
    parser.add_argument("name", nargs="?", help=f"{', '.join(shipped_tables())}, or a file")
    parser.add_argument("--all", action="store_true", help="every shipped table, the cheapest first")
    parser.add_argument("--budget", help="stop starting cells that would end later: 60m, 2h, 900s")
    parser.add_argument("--only", action="append", default=[], metavar="ROW", help="rows by name; * and ? match")
    parser.add_argument("--seeds", help="number of seeds (3), or a list (0,1,5 or 7,); the table's own by default")
    what = "print the cells and the estimated time; with --budget also which of them fit"
    parser.add_argument("--dry_run", "--dry-run", action="store_true", help=what)
    parser.add_argument("--output", default="runs/tables", help="results folder (default runs/tables)")
    parser.add_argument("--any_version", action="store_true", help="accept results of another version of posekit")
    return parser


def _apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tells the command's own words from the cells' options, which are returned as ``key=value``."""
    own, cells, rest = [], [], list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith(("--model.", "--data.", "--trainer.")):
            own.append(word)
        elif "=" in word:
            cells.append(word.removeprefix("--"))
        elif rest:
            cells.append(f"{word.removeprefix('--')}={rest.pop(0)}")
        else:
            raise UserError(f"{word} needs a value")
    return own, cells


def _extra(words: Sequence[str]) -> dict[str, Any]:
    """Returns the cells' options by key."""
    extra: dict[str, Any] = {key: value for key, _, value in (word.partition("=") for word in words)}
    root = extra.get("data.root")
    if root is not None and not Path(root).expanduser().is_dir():
        raise UserError(f"--data.root {root}: there is no such folder")
    return extra


def minutes(text: str) -> float:
    """Reads a time such as ``60m``, ``2h``, ``900s`` (a bare number is minutes).

    Raises:
        UserError: It is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if match is None:
        raise UserError(f"--budget must be a time such as 60m or 2h, not {text!r}")
    return float(match[1]) * {"s": 1 / 60, "m": 1.0, "": 1.0, "h": 60.0}[match[2]]


def seeds_of(text: str | None, spec: TableSpec) -> list[int]:
    """Reads ``--seeds``: a count, or a list of seeds; a comma at its end makes a list of one.

    Raises:
        UserError: It is neither, or a count that can only be meant as a seed.
    """
    if text is None:
        return spec.seeds
    try:
        numbers = [int(part) for part in text.strip().removesuffix(",").split(",")]
    except ValueError:
        raise UserError(f"--seeds must be a number (3) or a list (0,1,5), not {text!r}") from None
    if len(numbers) == 1 and "," not in text:
        if numbers[0] < 1:
            raise UserError(f"--seeds must be at least 1, not {numbers[0]}")
        if numbers[0] > MOST_SEEDS:
            raise UserError(f"--seeds must be at most {MOST_SEEDS}; a single seed is given as `{numbers[0]},`")
        return list(range(numbers[0]))
    if min(numbers) < 0 or max(numbers) >= 2**32 or len(set(numbers)) < len(numbers):
        raise UserError(f"--seeds must be different numbers from 0 to {2**32 - 1}, not {text!r}")
    return numbers


def _table(task: _Task, deadline: float | None, command: str, console: Console) -> int:
    """Runs and shows one table; returns the number of failed runs."""
    planner, store = task.planner, task.store
    _check(planner)
    with store.locked():
        outcome = run_missing(store, planner, deadline, console)
        _write(planner, store, outcome, command, console)
    if outcome.skipped:
        takes = estimates(store, planner.plan(outcome.failed))
        left = sum(takes[key] for key in outcome.skipped if key in takes)
        text = f"{planner.spec.name}: {len(outcome.skipped)} runs left out, no time for them in the budget"
        text += f" (about {left:.0f} minutes): the same command goes on with them"
        console.print(text, soft_wrap=True, markup=False)
    if outcome.failed:
        console.print(f"{len(outcome.failed)} runs failed; their logs are in {store.folder / 'logs'}", soft_wrap=True)
    return len(outcome.failed)


def _check(planner: Planner) -> None:
    """Refuses what would cost time and give nothing, before any run.

    Raises:
        UserError: Options that do not fit, or a run that does not validate at its end.
    """
    check_options(planner, _check_words)
    check_validation(planner)


def _check_words(words: Sequence[str]) -> None:
    from posekit.cli.build import check_config  # imports torch

    check_config(words)


def _show_plan(task: _Task, budget: float | None, console: Console) -> float | None:
    """Prints a table's runs, with a budget which of them fit; returns the minutes that are left of it."""
    planner = task.planner
    _check(planner)
    plan = planner.plan()
    runs, takes = [*plan.runs, *plan.later], estimates(task.store, plan)
    left = {} if budget is None else beyond(plan, takes, budget)
    console.print(f"{planner.spec.name}: {planner.spec.title}", soft_wrap=True, markup=False)
    for run in runs:
        state = f"{takes[run.key]:.1f} min" if run.key in takes else "done"
        seed = "" if run.seed is None else f", seed {run.seed}"
        note = "  (left out)" if run.key in left else ""
        text = f"  {state:>9}  {run.job.command} {run.job.config}: {run.used_by}{seed}{_shared(run, runs)}{note}"
        console.print(text, soft_wrap=True, markup=False)
    total = sum(takes.values())
    console.print(f"  about {total:.0f} minutes on two CPU cores for {len(runs)} runs", soft_wrap=True)
    if budget is None:
        return None
    spent = total - sum(left.values())
    text = f"  within the budget: {counted(len(takes) - len(left), 'run')} (about {spent:.1f} minutes)"
    text += f"; left out: {counted(len(left), 'run')} (about {total - spent:.1f} minutes)"
    console.print(text, soft_wrap=True, markup=False)
    return budget - spent


def _shared(run: Run, runs: Sequence[Run]) -> str:
    """Says which runs start from a run, where there are several."""
    names = [other.used_by for other in runs if other.before is not None and other.before.key == run.key]
    return f" (shared by {len(names)} runs: {listed(names)})" if len(names) > 1 else ""


def _write(planner: Planner, store: Store, outcome: Outcome, command: str, console: Console) -> None:
    results = gather(planner, outcome.failed, outcome.skipped)
    show(results, console)
    lacking = {lack.run.key for lack in results.missing}
    kept = [result for run in results.runs if run.key not in lacking and (result := store.read(run))]
    about = {"command": command, "date": time.strftime("%Y-%m-%d"), "seeds": planner.seeds, **origin(kept)}
    atomic_write_text(store.folder / "table.md", markdown(results, about))
    atomic_write_text(store.folder / "table.json", as_json(results, about))
    written = ["table.md", "table.json"]
    picture = plot(results) if can_plot() else None
    if picture is not None:
        atomic_write_bytes(store.folder / "table.png", picture)
        written.append("table.png")
    hint = "" if can_plot() else " (no plot: pip install 'posekit[plot]')"
    console.print(f"written: {store.folder}/{{{','.join(written)}}}{hint}", soft_wrap=True, markup=False)
