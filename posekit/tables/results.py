"""A table's numbers: ours by cell with their spread over seeds, beside the paper's; and whether the order agrees."""

from __future__ import annotations

import difflib
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from posekit.tables.cells import Run
from posekit.tables.missing import Missing, missing_runs
from posekit.tables.plan import Choice, Planner, number
from posekit.tables.spec import Column, Curve, Row, TableSpec


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        values: Ours, in the column's unit, one per finished seed.
        paper: The paper's number, or None.
        failed: Whether a run of it failed.
        wanted: How many values it has once all runs are there.
    """

    values: tuple[float, ...]
    paper: float | None
    failed: bool = False
    wanted: int = 0

    @property
    def lacks(self) -> bool:
        """Whether it is the mean of fewer values than it is to be."""
        return 0 < len(self.values) < self.wanted

    @property
    def mean(self) -> float | None:
        """Mean over the seeds."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over the seeds; None with fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Order:
    """Agreement of our order with the paper's in one column (or over a whole grid).

    Attributes:
        name: Column, or what was compared.
        correlation: Spearman's rank correlation, ties at their mean rank; None with fewer than two pairs of numbers,
            or where one side is constant.
        count: Cells compared.
        reversed_pairs: Pairs of names whose order is the other way round in ours.
    """

    name: str
    correlation: float | None
    count: int
    reversed_pairs: tuple[tuple[str, str], ...]


@dataclass
class Results:
    """A table's cells by row and column; by row its curves, one per seed, and its choices with their columns.

    Attributes:
        spec: The table.
        rows: Those shown.
        cells: By index among the rows and column.
        curves: By index and seed, the points (x, y) of its epochs.
        choices: By index, each with the columns that share it.
        orders: Agreement with the paper's order.
        runs: All that the rows shown need, known by now.
        missing: Those without a result.
        hidden: Rows that were not asked for and have no result, so are not shown.
    """

    spec: TableSpec
    rows: list[Row]
    cells: dict[tuple[int, str], Cell]
    curves: dict[int, dict[int, list[tuple[float, float]]]] = field(default_factory=dict)
    choices: dict[int, list[tuple[tuple[str, ...], Choice]]] = field(default_factory=dict)
    orders: list[Order] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    hidden: list[Row] = field(default_factory=list)


def gather(planner: Planner, failed: Collection[str] = (), skipped: Collection[str] = ()) -> Results:
    """Collects what is finished: of the rows asked for, and of others that have a result.

    Args:
        planner: The table with its seeds and options, reading its results.
        failed: Keys of failed runs.
        skipped: Keys of runs that a budget left no time for.
    """
    asked, planner = planner, planner.shown()
    plan = planner.plan(failed)
    results = Results(planner.spec, planner.rows, {}, runs=[*plan.runs, *plan.later])
    results.missing = missing_runs(asked, planner, failed, skipped)
    results.hidden = [row for row in planner.spec.rows if row not in planner.rows]
    for index, row in enumerate(planner.rows):
        for column in planner.spec.columns:
            results.cells[index, column.name] = _cell(planner, row, column, failed)
        if row.external:
            continue
        if planner.spec.curve is not None:
            results.curves[index] = _curves(planner, row, planner.spec.curve, failed)
        if len(row.tune) > 1:
            results.choices[index] = _choices(planner, row, failed)
    results.orders = orders(results)
    return results


def _cell(planner: Planner, row: Row, column: Column, failed: Collection[str]) -> Cell:
    paper = row.paper.get(column.name)
    if row.external:
        return Cell((), paper)
    job = planner.spec.jobs[column.job]
    runs = planner.cell(row, column, job, failed)
    found = [number(result["metrics"], column.metric) for result in map(planner.read, runs) if result is not None]
    choice = planner.choice(row, column, failed)
    lost = not runs and choice is not None and all(trial.state == "failed" for trial in choice.trials)
    values = tuple(column.scale * value for value in found if value is not None)
    return Cell(values, paper, lost or any(run.key in failed for run in runs), planner.wanted(row, job))


def absent_metrics(planner: Planner) -> list[str]:
    """Names the metrics of columns, choice and curve that no finished run has, with the nearest that there are."""
    select, curve = planner.spec.select, planner.spec.curve
    wanted = [(f"column {c.name}", c.job, "metrics", c.metric) for c in planner.spec.columns]
    wanted += [] if select is None else [("select", select.job, "metrics", select.metric)]
    wanted += [] if curve is None else [("curve", curve.job, "history", name) for name in (curve.x, curve.y)]
    found = _names_found(planner)
    lines = []
    for what, job, kind, metric in wanted:
        known = found.get((job, kind), {metric})
        if metric not in known:
            near = difflib.get_close_matches(metric, sorted(known), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"they have {', '.join(sorted(known)) or 'none'}"
            lines.append(f"{what}: the runs so far have no {metric}; {hint}")
    return lines


def _names_found(planner: Planner) -> dict[tuple[str, str], set[str]]:
    """Returns the names that the finished runs have, by job, as metrics at the end and in the history by epoch."""
    found: dict[tuple[str, str], set[str]] = {}
    for run in planner.plan().runs:
        result = planner.read(run)
        if result is not None:
            found.setdefault((run.job.name, "metrics"), set()).update(result["metrics"])
            if "history" in result:
                found.setdefault((run.job.name, "history"), set()).update(*result["history"])
    return found


def _curves(planner: Planner, row: Row, curve: Curve, failed: Collection[str]) -> dict[int, list[tuple[float, float]]]:
    lines = {}
    for run in planner.cell(row, None, planner.spec.jobs[curve.job], failed):
        history = (planner.read(run) or {}).get("history", [])
        points = [(e[curve.x], e[curve.y]) for e in history if curve.x in e and curve.y in e]
        if points:
            lines[run.seed or 0] = points
    return lines


def _choices(planner: Planner, row: Row, failed: Collection[str]) -> list[tuple[tuple[str, ...], Choice]]:
    """Returns a tuned row's choices, each with the columns that share it."""
    shared: dict[tuple[str, ...], tuple[list[str], Choice]] = {}
    for column in planner.spec.columns:
        choice = planner.choice(row, column, failed)
        if choice is not None:
            keys = tuple(trial.run.key for trial in choice.trials)
            shared.setdefault(keys, ([], choice))[0].append(column.name)
    return [(tuple(columns), choice) for columns, choice in shared.values()]


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Returns the rank correlation of two equally long lists, ties at their mean rank; None where it is undefined."""
    if len(a) < 2:
        return None
    x, y = _ranks(a), _ranks(b)
    if len(set(x)) == 1 or len(set(y)) == 1:
        return None
    return statistics.correlation(x, y)


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered.index(v) + (ordered.count(v) - 1) / 2 for v in values]


def is_grid(spec: TableSpec) -> bool:
    """Tells whether the columns are settings of one metric and unit, so that cells compare across them."""
    columns = [c for c in spec.columns if c.better is not None]
    return len({(c.job, c.metric, c.scale) for c in columns}) == 1 and len(columns) > 1


def orders(results: Results) -> list[Order]:
    """Compares our order of cells with the paper's.

    Columns of one metric and unit (a grid of settings) are compared as a whole, other columns one by one.
    """
    columns = [c for c in results.spec.columns if c.better is not None]
    if is_grid(results.spec):
        entries = [(i, c) for i in range(len(results.rows)) for c in columns]
        return [o for o in [_order(results, "all cells", entries)] if o.count > 1]
    every = [_order(results, c.name, [(i, c) for i in range(len(results.rows))]) for c in columns]
    return [o for o in every if o.count > 1]


def _order(results: Results, name: str, entries: list[tuple[int, Column]]) -> Order:
    grid = name == "all cells"
    kept = []
    for index, column in entries:
        cell, row = results.cells[index, column.name], results.rows[index]
        if cell.mean is not None and cell.paper is not None:
            label = "/".join(part for part in (row.group, row.name, column.name if grid else "") if part)
            kept.append((label, cell.mean, cell.paper))
    turned = [(p[0], q[0]) for p, q in combinations(kept, 2) if (p[1] - q[1]) * (p[2] - q[2]) < 0]
    return Order(name, spearman([k[1] for k in kept], [k[2] for k in kept]), len(kept), tuple(turned))
