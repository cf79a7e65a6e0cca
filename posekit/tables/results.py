"""A table's numbers: ours by cell with their spread over seeds, beside the paper's; and whether the order agrees."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

from posekit.tables.cells import Run, make_run, selected
from posekit.tables.spec import Column, Overrides, Row, TableSpec
from posekit.tables.store import Store


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        values: Ours, in the column's unit, one per finished seed.
        paper: The paper's number, or None.
        failed: Whether a run of it failed.
    """

    values: tuple[float, ...]
    paper: float | None
    failed: bool = False

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
    """A table's cells by row and column, curves by row, and the runs behind them."""

    spec: TableSpec
    rows: list[Row]
    cells: dict[tuple[int, str], Cell]
    curves: dict[int, list[list[tuple[float, float]]]] = field(default_factory=dict)
    orders: list[Order] = field(default_factory=list)


def gather(
    spec: TableSpec,
    store: Store,
    seeds: Sequence[int],
    extra: Overrides,
    failed: set[str],
    only: Sequence[str] = (),
) -> Results:
    """Collects what is finished.

    Args:
        spec: The table.
        store: Its results.
        seeds: Seeds asked for.
        extra: Options of the command line.
        failed: Keys of failed runs.
        only: Patterns of row names.
    """
    rows = [row for row in spec.rows if row.external or selected(row, only)]
    results = Results(spec, rows, {})
    for index, row in enumerate(rows):
        for column in spec.columns:
            results.cells[index, column.name] = _cell(spec, store, row, column, seeds, extra, failed)
        if spec.curve is not None and not row.external:
            results.curves[index] = _curves(spec, store, row, seeds, extra)
    results.orders = orders(results)
    return results


def _cell(
    spec: TableSpec, store: Store, row: Row, column: Column, seeds: Sequence[int], extra: Overrides, failed: set[str]
) -> Cell:
    paper = row.paper.get(column.name)
    if row.external:
        return Cell((), paper)
    runs: dict[str, Run] = {}
    for seed in seeds:
        run = make_run(spec, spec.jobs[column.job], row, column, seed, extra)
        runs[run.key] = run
    found = [store.read(run) for run in runs.values()]
    values = [r["metrics"].get(column.metric) for r in found if r is not None]
    # COCO's tool says -1 where no person is in range (no large people in small pictures): that is no number.
    numbers = tuple(column.scale * v for v in values if v is not None and math.isfinite(v) and v != -1)
    return Cell(numbers, paper, failed=any(key in failed for key in runs))


def _curves(
    spec: TableSpec, store: Store, row: Row, seeds: Sequence[int], extra: Overrides
) -> list[list[tuple[float, float]]]:
    assert spec.curve is not None
    lines = []
    for seed in seeds:
        found = store.read(make_run(spec, spec.jobs[spec.curve.job], row, None, seed, extra))
        points = [(e[spec.curve.x], e[spec.curve.y]) for e in (found or {}).get("history", []) if _has(e, spec)]
        if points:
            lines.append(points)
    return lines


def _has(entry: dict[str, float], spec: TableSpec) -> bool:
    assert spec.curve is not None
    return spec.curve.x in entry and spec.curve.y in entry


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


def orders(results: Results) -> list[Order]:
    """Compares our order of cells with the paper's.

    Columns of one metric and unit (a grid of settings) are compared as a whole, other columns one by one.
    """
    columns = [c for c in results.spec.columns if c.better is not None]
    if len({(c.job, c.metric, c.scale) for c in columns}) == 1 and len(columns) > 1:
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
