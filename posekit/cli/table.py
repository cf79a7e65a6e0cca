"""``posekit table``: a paper's table or figure, run cell by cell and shown beside the paper's numbers."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from posekit.data.files import atomic_write_bytes, atomic_write_text
from posekit.errors import UserError
from posekit.tables import TableSpec, load_table, shipped_tables
from posekit.tables.cells import Run, table_runs
from posekit.tables.plot import can_plot, plot
from posekit.tables.render import as_json, markdown, show
from posekit.tables.results import gather
from posekit.tables.runner import Outcome, estimate, estimate_run, run_missing
from posekit.tables.store import Store, surroundings


def run(argv: list[str]) -> None:
    """Runs the command; exits with 1 when a cell failed.

    Raises:
        UserError: An unknown table, option, row or results folder.
    """
    # What a cluster sends has to end the running cell too, which is a process of its own.
    signal.signal(signal.SIGTERM, _stop)
    parser = _parser()
    options, rest = parser.parse_known_args(argv)
    extra, real = _extra(rest)
    known = list(shipped_tables())
    if options.all == (options.name is not None):
        raise UserError(f"posekit table needs one name, or --all; tables: {', '.join(known)}")
    names = known if options.all else [options.name]
    specs = [load_table(name, real) for name in names]
    # Narrower than this a table's numbers would be cut off rather than wrapped.
    console = Console(width=max(shutil.get_terminal_size().columns, 110))
    deadline = None if options.budget is None else time.monotonic() + 60 * minutes(options.budget)
    command = "posekit table " + shlex.join(argv)
    failures = 0
    for spec in sorted(specs, key=lambda s: _cost(s, options, extra)) if options.all else specs:
        failures += _table(spec, options, extra, deadline, command, console)
    if failures:
        sys.exit(1)


def _stop(*_: Any) -> None:
    sys.exit(143)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="posekit table",
        allow_abbrev=False,
        description="Runs what is missing of a table and shows it beside the paper's numbers. Options of the trainer, "
        "the model and the data (--trainer.max_epochs 1) go to every cell; --data.root ROOT takes the real data.",
    )
    parser.add_argument("name", nargs="?", help=f"{', '.join(shipped_tables())}, or a file")
    parser.add_argument("--all", action="store_true", help="every shipped table, the cheapest first")
    parser.add_argument("--budget", help="stop starting cells that would end later: 60m, 2h, 900s")
    parser.add_argument("--only", action="append", default=[], metavar="ROW", help="rows by name; * and ? match")
    parser.add_argument("--seeds", help="number of seeds (3), or a list (0,1,5); the table's own by default")
    parser.add_argument("--dry_run", "--dry-run", action="store_true", help="print the cells and the estimated time")
    parser.add_argument("--output", default="runs/tables", help="results folder (default runs/tables)")
    parser.add_argument("--any_version", action="store_true", help="accept results of another version of posekit")
    return parser


def _extra(words: Sequence[str]) -> tuple[dict[str, Any], bool]:
    """Returns the further options by key, and whether they ask for real data."""
    extra: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        key, _, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or key.split(".")[0] not in ("model", "data", "trainer"):
            raise UserError(
                f"posekit table does not know {word!r}; options of cells begin with --model., --data. or --trainer."
            )
        if "=" not in word:
            if not rest:
                raise UserError(f"{word} needs a value")
            value = rest.pop(0)
        extra[key] = value
    return extra, "data.root" in extra


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
    """Reads ``--seeds``: a count, or a list of seeds.

    Raises:
        UserError: It is neither.
    """
    if text is None:
        return spec.seeds
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--seeds must be a number (3) or a list (0,1,5), not {text!r}") from None
    if len(numbers) == 1 and "," not in text:
        if numbers[0] < 1:
            raise UserError(f"--seeds must be at least 1, not {numbers[0]}")
        return list(range(numbers[0]))
    if min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise UserError(f"--seeds must be different numbers from 0 on, not {text!r}")
    return numbers


def _store(spec: TableSpec, options: argparse.Namespace) -> Store:
    name = f"{spec.name}-real" if spec.real else spec.name
    return Store(Path(options.output) / name, options.any_version)


def _runs(spec: TableSpec, options: argparse.Namespace, extra: dict[str, Any]) -> list[Run]:
    return table_runs(spec, seeds_of(options.seeds, spec), extra, options.only)


def _cost(spec: TableSpec, options: argparse.Namespace, extra: dict[str, Any]) -> float:
    return estimate(_store(spec, options), _runs(spec, options, extra))


def _table(
    spec: TableSpec,
    options: argparse.Namespace,
    extra: dict[str, Any],
    deadline: float | None,
    command: str,
    console: Console,
) -> int:
    """Runs and shows one table; returns the number of failed runs."""
    store, runs = _store(spec, options), _runs(spec, options, extra)
    if options.dry_run:
        _show_plan(spec, store, runs, console)
        return 0
    outcome = run_missing(store, runs, deadline, console)
    _write(spec, store, options, extra, outcome, command, console)
    if outcome.skipped:
        console.print(f"{len(outcome.skipped)} runs left out: no time for them in the budget", soft_wrap=True)
    if outcome.failed:
        console.print(f"{len(outcome.failed)} of {len(runs)} runs failed; their logs are in {store.folder / 'logs'}")
    return len(outcome.failed)


def _show_plan(spec: TableSpec, store: Store, runs: list[Run], console: Console) -> None:
    console.print(f"{spec.name}: {spec.title}", soft_wrap=True)
    for run in runs:
        state = "done" if store.read(run) is not None else f"{estimate_run(store, runs, run):.1f} min"
        seed = "" if run.seed is None else f", seed {run.seed}"
        console.print(
            f"  {state:>9}  {run.job.command} {run.job.config}: {run.used_by}{seed}", soft_wrap=True, markup=False
        )
    console.print(f"  about {estimate(store, runs):.0f} minutes on two CPU cores for {len(runs)} runs", soft_wrap=True)


def _write(
    spec: TableSpec,
    store: Store,
    options: argparse.Namespace,
    extra: dict[str, Any],
    outcome: Outcome,
    command: str,
    console: Console,
) -> None:
    seeds = seeds_of(options.seeds, spec)
    results = gather(spec, store, seeds, extra, set(outcome.failed), options.only)
    show(results, console)
    around = surroundings()
    machine, versions = around["machine"], around["versions"]
    about = {"command": command, "date": time.strftime("%Y-%m-%d"), "seeds": seeds, **around}
    lines = [
        f"made by `{command}` on {about['date']}, seeds {', '.join(map(str, seeds))}",
        f"{machine['device']}, {machine['cores']} cores, {machine['system']}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items()),
    ]
    atomic_write_text(store.folder / "table.md", markdown(results, lines))
    atomic_write_text(store.folder / "table.json", as_json(results, about))
    written = ["table.md", "table.json"]
    picture = plot(results) if can_plot() else None
    if picture is not None:
        atomic_write_bytes(store.folder / "table.png", picture)
        written.append("table.png")
    hint = "" if can_plot() else " (no plot: pip install 'posekit[plot]')"
    console.print(f"written: {store.folder}/{{{','.join(written)}}}{hint}", soft_wrap=True, markup=False)
