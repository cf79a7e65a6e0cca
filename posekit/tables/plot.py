"""A table's picture: curves over epochs, one column against another, or columns over rows."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import Any

from posekit.tables.results import Results


def can_plot() -> bool:
    """Tells whether matplotlib is installed (``pip install posekit[plot]``)."""
    return find_spec("matplotlib") is not None


def plot(results: Results) -> bytes | None:
    """Draws the table as PNG; None where there is nothing to draw yet."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawers = [_curves] if results.spec.curve is not None else [_against] if results.spec.plot else [_columns]
    panels = max(len(results.spec.columns), len(results.curves))
    figure = Figure(figsize=(max(9, min(3 * panels, 24)), 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    if not drawers[0](figure, results):
        return None
    figure.suptitle(f"{results.spec.name}: {results.spec.title}", fontsize=11)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _curves(figure: Any, results: Results) -> bool:
    """One panel per row, since losses of different kinds share no scale."""
    curve = results.spec.curve
    assert curve is not None
    drawn = [(results.rows[i].name, runs) for i, runs in results.curves.items() if runs]
    if not drawn:
        return False
    for axes, (name, runs) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        for points in runs:
            axes.plot([p[0] for p in points], [p[1] for p in points], "o-", alpha=0.8)
        axes.set(title=name, xlabel=curve.x, ylabel=curve.y)
        axes.invert_xaxis()  # training goes from left to right: the loss falls
        axes.grid(alpha=0.3)
    return True


def _against(figure: Any, results: Results) -> bool:
    assert results.spec.plot is not None
    x, y = results.spec.plot
    axes, drawn = figure.subplots(), False
    for side, mark in (("ours", "o"), ("paper", "x")):
        for index, row in enumerate(results.rows):
            a, b = results.cells[index, x], results.cells[index, y]
            point = (a.mean, b.mean) if side == "ours" else (a.paper, b.paper)
            if point[0] is None or point[1] is None:
                continue
            axes.plot(*point, mark, color="C0" if side == "ours" else "C1", label=side)
            axes.annotate(f"{row.name} ({side})", point, fontsize=8, xytext=(4, 4), textcoords="offset points")
            drawn = True
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return drawn


def _columns(figure: Any, results: Results) -> bool:
    columns = [
        c for c in results.spec.columns if any(results.cells[i, c.name].values for i in range(len(results.rows)))
    ]
    if not columns:
        return False
    units = {(c.metric, c.scale) for c in columns}
    panels = 1 if len(units) == 1 else len(columns)
    grid = figure.subplots(1, panels, squeeze=False)[0]
    names = [f"{row.group} {row.name}".strip() for row in results.rows]
    for number, column in enumerate(columns):
        axes = grid[0 if panels == 1 else number]
        for side, style in (("ours", "o-"), ("paper", "x--")):
            values = [_value(results.cells[i, column.name], side) for i in range(len(names))]
            if any(v is not None for v in values):
                spread = [results.cells[i, column.name].spread or 0 if side == "ours" else 0 for i in range(len(names))]
                known = [(i, v, s) for i, (v, s) in enumerate(zip(values, spread, strict=True)) if v is not None]
                at, heights, errors = zip(*known, strict=True)
                axes.errorbar(at, heights, errors, fmt=style, capsize=3, label=f"{column.name} ({side})", alpha=0.8)
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    return True


def _value(cell: Any, side: str) -> float | None:
    return cell.mean if side == "ours" else cell.paper
