"""Which runs a table needs, as far as its finished runs tell: a tuned row's value is chosen before its other seeds."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from posekit.tables.cells import Run, check_patterns, make_run, selected
from posekit.tables.spec import Column, Job, Overrides, Row, TableSpec

Read = Callable[[Run], dict[str, Any] | None]


@dataclass(frozen=True)
class Trial:
    """One of a tuned row's options.

    Attributes:
        options: The options, flat or by job.
        run: The run that it is judged by.
        state: ``done``, ``failed`` or ``open``.
        value: The metric; None where the run gave none.
    """

    options: Overrides
    run: Run
    state: str
    value: float | None


@dataclass(frozen=True)
class Choice:
    """What was tried at a tuned row's first seed.

    Attributes:
        trials: All of its options.
        best: The best; None while one is open, or when none gave a number.
    """

    trials: tuple[Trial, ...]
    best: Trial | None


@dataclass(frozen=True)
class Plan:
    """Runs of a table, each once, earlier runs before those that need them.

    Attributes:
        runs: Known to be needed.
        later: Needed once a choice is made, here with the first of the options.
        waits: By key of a later run, the keys of the runs that its choice waits for.
    """

    runs: list[Run]
    later: list[Run]
    waits: dict[str, set[str]] = field(default_factory=dict)


@dataclass
class _Draft:
    """A plan in the making; runs by their key, of two that are the same the first."""

    runs: dict[str, Run] = field(default_factory=dict)
    later: dict[str, Run] = field(default_factory=dict)
    waits: dict[str, set[str]] = field(default_factory=dict)


class Planner:
    """Lists a table's runs and chooses tuned options.

    Args:
        spec: The table.
        seeds: Seeds of the trainer's jobs; a row may take fewer.
        extra: Options of the command line.
        only: Patterns of row names (``*`` and ``?``); all rows when empty.
        read: Returns a finished run's result.

    Raises:
        UserError: A pattern matches no row.
    """

    def __init__(
        self,
        spec: TableSpec,
        seeds: Sequence[int],
        extra: Overrides,
        only: Sequence[str] = (),
        read: Read = lambda run: None,
    ) -> None:
        check_patterns(spec, only)
        self.spec, self.seeds, self.extra, self.read = spec, seeds, extra, read
        self.rows = [row for row in spec.rows if row.external or selected(row, only)]

    def plan(self, failed: Collection[str] = ()) -> Plan:
        """Returns the runs.

        Args:
            failed: Keys of failed runs, which are not chosen.
        """
        draft = _Draft()
        for seed in self.seeds:
            for row, column, job in self._cells():
                own = self._seeds(row)
                if seed in own[:1]:
                    self._first(draft, row, column, job, seed)
                elif seed in own:
                    self._other(draft, row, column, job, seed, failed)
        later = [run for run in draft.later.values() if run.key not in draft.runs]
        return Plan(list(draft.runs.values()), later, draft.waits)

    def _first(self, draft: _Draft, row: Row, column: Column | None, job: Job, seed: int) -> None:
        """Adds a cell's runs at its row's first seed: one for each of the options, after those that judge them."""
        for options in row.tune:
            for needed in (*self._judges(row), job):
                self._add(draft.runs, row, column, needed, seed, options, _note(row, options))

    def _other(
        self, draft: _Draft, row: Row, column: Column | None, job: Job, seed: int, failed: Collection[str]
    ) -> None:
        """Adds a cell's run at another seed: with the best of the options, or for later, while that is not known."""
        best = self._options(row, column, job, failed)
        if best is not None:
            self._add(draft.runs, row, column, job, seed, best, _note(row, best))
            return
        choice = self.choice(row, column, failed)
        trials = {trial.run.key for trial in choice.trials} if choice is not None else set()
        for key in self._add(draft.later, row, column, job, seed, row.tune[0], f"best of {len(row.tune)}"):
            draft.waits.setdefault(key, set()).update(trials)

    def shown(self) -> Planner:
        """Returns the planner of the report: the rows asked for, and of the others those that have a result."""
        others = [row for row in self.spec.rows if row not in self.rows]
        if not others:
            return self
        jobs = {column.job for column in self.spec.columns}
        jobs |= {part.job for part in (self.spec.curve, self.spec.select) if part is not None}
        plan = self.plan()
        asked = {run.key for run in (*plan.runs, *plan.later)}  # a result that rows share is no row's own

        def has_result(row: Row) -> bool:
            runs = [run for run in self._of([row]).plan().runs if run.job.name in jobs and run.key not in asked]
            return any(self.read(run) is not None for run in runs)

        kept = [row for row in others if has_result(row)]
        return self._of([row for row in self.spec.rows if row in self.rows or row in kept])

    def _of(self, rows: list[Row]) -> Planner:
        """Returns a planner of other rows."""
        other = copy.copy(self)
        other.rows = rows
        return other

    def cell(self, row: Row, column: Column | None, job: Job, failed: Collection[str] = ()) -> list[Run]:
        """Returns the runs that a cell shows: one per seed, none while a tuned value is not chosen."""
        options = self._options(row, column, job, failed)
        seeds = self._seeds(row) if options is not None else []
        runs = [make_run(self.spec, job, row, column, seed, self.extra, options) for seed in seeds]
        return list({run.key: run for run in runs}.values())

    def wanted(self, row: Row, job: Job) -> int:
        """Returns how many numbers a cell is the mean of once all runs are there."""
        seeds = len(self._seeds(row))
        return seeds if job.seeded else min(seeds, 1)

    def choice(self, row: Row, column: Column | None, failed: Collection[str] = ()) -> Choice | None:
        """Returns what was tried for a cell; None of a row that is not tuned or has no seed."""
        seeds = self._seeds(row)
        if len(row.tune) < 2 or not seeds:
            return None
        trials = tuple(self._trial(row, column, seeds[0], options, failed) for options in row.tune)
        found = [trial for trial in trials if trial.value is not None]
        if not found or any(trial.state == "open" for trial in trials):
            return Choice(trials, None)
        assert self.spec.select is not None
        sign = 1 if self.spec.select.better == "higher" else -1
        return Choice(trials, max(found, key=lambda trial: sign * (trial.value or 0.0)))

    def _cells(self) -> Iterator[tuple[Row, Column | None, Job]]:
        for row in self.rows:
            if row.external:
                continue
            for column in self.spec.columns:
                yield row, column, self.spec.jobs[column.job]
            if self.spec.curve is not None:
                yield row, None, self.spec.jobs[self.spec.curve.job]

    def _seeds(self, row: Row) -> list[int]:
        return [seed for seed in self.seeds if row.seeds is None or seed in row.seeds]

    def _options(self, row: Row, column: Column | None, job: Job, failed: Collection[str]) -> Overrides | None:
        """Returns a cell's tuned options, None while they are not chosen."""
        seed = next(iter(self._seeds(row)), 0)
        keys = {make_run(self.spec, job, row, column, seed, self.extra, options).key for options in row.tune}
        if len(keys) == 1:  # a row that is not tuned, or a job that the tuned options do not reach
            return row.tune[0]
        choice = self.choice(row, column, failed)
        return choice.best.options if choice is not None and choice.best is not None else None

    def _judges(self, row: Row) -> list[Job]:
        """Returns the job that a tuned row's options are judged by."""
        select = self.spec.select
        return [self.spec.jobs[select.job]] if select is not None and len(row.tune) > 1 else []

    def _add(
        self, runs: dict[str, Run], row: Row, column: Column | None, job: Job, seed: int, tuned: Overrides, note: str
    ) -> list[str]:
        """Adds a cell's run, and before it the one that it starts from; returns their keys."""
        run = make_run(self.spec, job, row, column, seed, self.extra, tuned, note)
        needed = [run] if run.before is None else [run.before, run]
        for one in needed:
            runs.setdefault(one.key, one)
        return [one.key for one in needed]

    def _trial(self, row: Row, column: Column | None, seed: int, options: Overrides, failed: Collection[str]) -> Trial:
        select = self.spec.select
        assert select is not None
        run = make_run(self.spec, self.spec.jobs[select.job], row, column, seed, self.extra, options)
        result = self.read(run)
        if result is None:
            return Trial(options, run, "failed" if run.key in failed else "open", None)
        return Trial(options, run, "done", number(result["metrics"], select.metric))


def _note(row: Row, options: Overrides) -> str:
    return describe(options) if len(row.tune) > 1 else ""


def describe(options: Mapping[str, Any]) -> str:
    """Returns tuned options as text, e.g. ``model.lr=0.006``."""
    parts = [value if isinstance(value, Mapping) else {name: value} for name, value in options.items()]
    return ", ".join(f"{name}={value}" for part in parts for name, value in part.items())


def number(metrics: Mapping[str, Any], name: str) -> float | None:
    """Returns a metric, None where it is none.

    COCO's tool says -1 where no person is in range (no large people in small pictures): that is no number.
    """
    value = metrics.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) and value != -1 else None
