"""A table's picture: curves over epochs, one column against another, a grid of settings, or rows by column.

Ours and the paper's stand in panels of their own, each on its own scale: it is the pattern over the rows that compares,
while the numbers are of different data.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.util import find_spec
from textwrap import fill
from typing import Any

from posekit.tables.results import Cell, Results, is_grid
from posekit.tables.spec import Column, Row

SIDES = {"ours": ("C0", "o"), "the paper's": ("C1", "x")}
MAX_NAME = 40  # characters a line; names have two at most
MAX_PANELS = 6


def can_plot() -> bool:
    """Tells whether matplotlib is installed (``pip install posekit[plot]``)."""
    return find_spec("matplotlib") is not None


def plot(results: Results) -> bytes | None:
    """Draws the table as PNG; None where there is nothing of ours to draw yet."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not any(cell.values for cell in results.cells.values()) and not any(results.curves.values()):
        return None
    spec = results.spec
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    if spec.curve is not None:
        _curves(figure, results)
    elif spec.plot is not None:
        _against(figure, results, *spec.plot)
    elif is_grid(spec):
        _grid(figure, results)
    else:
        _columns(figure, results)
    lacking = f" ({len(results.missing)} of {len(results.runs)} runs missing)" if results.missing else ""
    figure.suptitle(fill(f"{spec.name}: {spec.title}{lacking}", int(11 * figure.get_figwidth())), fontsize=11)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _value(cell: Cell, side: str) -> float | None:
    return cell.mean if side == "ours" else cell.paper


def _sides(results: Results, columns: Sequence[str]) -> list[str]:
    """Returns the sides that have a number in the columns."""
    rows = range(len(results.rows))
    return [s for s in SIDES if any(_value(results.cells[i, c], s) is not None for i in rows for c in columns)]


def _curves(figure: Any, results: Results) -> None:
    """One panel per row, since losses of different kinds share no scale."""
    curve = results.spec.curve
    assert curve is not None
    rows = results.rows
    drawn = [
        (f"{rows[i].group}: {rows[i].name}".removeprefix(": "), runs) for i, runs in results.curves.items() if runs
    ]
    figure.set_size_inches(max(5, 3.2 * len(drawn)), 4)
    for axes, (name, runs) in zip(figure.subplots(1, max(len(drawn), 1), squeeze=False)[0], drawn, strict=False):
        for points in runs.values():
            axes.plot([p[0] for p in points], [p[1] for p in points], "o-", alpha=0.8)
        axes.set(title=name, xlabel=curve.x, ylabel=curve.y)
        axes.invert_xaxis()  # training goes from left to right: the loss falls
        axes.grid(alpha=0.3)


def _against(figure: Any, results: Results, x: str, y: str) -> None:
    """One panel per side, a point per row."""
    sides = [side for side in _sides(results, [x]) if side in _sides(results, [y])]
    figure.set_size_inches(6 * max(len(sides), 1), 4.5)
    for axes, side in zip(figure.subplots(1, max(len(sides), 1), squeeze=False)[0], sides, strict=False):
        for index, row in enumerate(results.rows):
            point = tuple(_value(results.cells[index, name], side) for name in (x, y))
            if None not in point:
                axes.plot(*point, SIDES[side][1], color=SIDES[side][0])
                axes.annotate(row.name, point, fontsize=8, xytext=(0, 6), textcoords="offset points", ha="center")
        axes.set(title=side, xlabel=x, ylabel=y)
        axes.margins(0.25)  # room for the names
        axes.grid(alpha=0.3)


def _lines(rows: Sequence[Row]) -> list[tuple[str, int | None]]:
    """Returns what stands at the left, from top to bottom: rows with their index, and above each group its name."""
    lines: list[tuple[str, int | None]] = []
    group = ""
    for index, row in enumerate(rows):
        if row.group != group:
            lines.append((row.group, None))
        group = row.group
        lines.append((row.name, index))
    return lines


def _label(figure: Any, axes: Any, lines: Sequence[tuple[str, int | None]], across: int, down: int = 1) -> None:
    """Writes names at the left of the first panel, groups in bold, and gives the figure room for them."""
    names = [fill(name, MAX_NAME, max_lines=2, placeholder="…") for name, _ in lines]
    axes.set_yticks(range(len(lines)), names, fontsize=8)
    for text, (_, index) in zip(axes.get_yticklabels(), lines, strict=True):
        text.set_fontweight("normal" if index is not None else "bold")
    width = 0.6 + 0.075 * max((len(part) for name in names for part in name.splitlines()), default=0)
    row = 0.36 if any("\n" in name for name in names) else 0.28
    figure.set_size_inches(min(width + 2.6 * across, 28), 0.4 + down * (1 + row * len(lines)))


def _columns(figure: Any, results: Results) -> None:
    """One panel per column and side: side by side where few, the paper's below ours where many."""
    columns = [c for c in results.spec.columns if "ours" in _sides(results, [c.name])]
    panels = [(column, side) for column in columns for side in _sides(results, [column.name])]
    sides = list(dict.fromkeys(side for _, side in panels))
    stacked = len(panels) > MAX_PANELS and len(sides) > 1
    across, down = (len(columns), len(sides)) if stacked else (len(panels), 1)
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    lines = _lines(results.rows)
    for axes in grid.flat:
        axes.set_visible(False)
    for number, (column, side) in enumerate(panels):
        axes = grid[sides.index(side)][columns.index(column)] if stacked else grid[0][number]
        axes.set_visible(True)
        _points(axes, results, column, side, lines)
        axes.set_title(f"{column.name}\n{side}", fontsize=9)
        axes.set_xlabel(f"{column.better} is better" if column.better else "", fontsize=8)
        axes.margins(x=0.12)
        axes.grid(alpha=0.3)
    grid[0][0].set_ylim(len(lines) - 0.5, -0.5)
    for line in grid:
        _label(figure, line[0], lines, across, down)


def _points(axes: Any, results: Results, column: Column, side: str, lines: Sequence[tuple[str, int | None]]) -> None:
    """Draws a column's numbers as dots, for rows have no order that a line could follow."""
    color, marker = SIDES[side]
    for y, (_, index) in enumerate(lines):
        cell = results.cells[index, column.name] if index is not None else None
        value = _value(cell, side) if cell is not None else None
        if cell is not None and value is not None:
            spread = (cell.spread if side == "ours" else None) or 0.0
            axes.errorbar(value, y, xerr=spread, fmt=marker, color=color, capsize=3)


def _grid(figure: Any, results: Results) -> None:
    """One coloured grid per side, rows and columns as in the table."""
    columns = results.spec.columns
    sides = _sides(results, [c.name for c in columns])
    lines = _lines(results.rows)
    grid = figure.subplots(1, len(sides), squeeze=False, sharey=True)[0]
    for axes, side in zip(grid, sides, strict=True):
        values = [
            [None if index is None else _value(results.cells[index, c.name], side) for c in columns]
            for _, index in lines
        ]
        _paint(axes, values, columns)
        axes.set_title(side, fontsize=9)
    _label(figure, grid[0], lines, len(sides) * max(1, round(len(columns) / 4)))


def _paint(axes: Any, values: Sequence[Sequence[float | None]], columns: Sequence[Column]) -> None:
    """Paints one grid, the better the darker, and writes its numbers."""
    shown = [[float("nan") if value is None else value for value in line] for line in values]
    axes.imshow(shown, cmap="YlGn_r" if columns[0].better == "lower" else "YlGn", aspect="auto", alpha=0.7)
    for y, line in enumerate(values):
        for x, value in enumerate(line):
            if value is not None:
                axes.text(x, y, f"{value:.{columns[x].digits}f}", ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(columns)), [c.name for c in columns], rotation=30, ha="right", fontsize=8)
