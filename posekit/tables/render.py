"""A table in the terminal, as Markdown and as JSON: ours beside the paper's, never one in place of the other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from posekit.errors import counted
from posekit.printed import Field, print_table
from posekit.tables.missing import missing_lines
from posekit.tables.plan import Choice, Trial, describe
from posekit.tables.results import Cell, Results, spearman
from posekit.tables.spec import Column, Row, TableSpec

PAPER = "paper"
MAX_PAIRS = 8


def cell_texts(cell: Cell, column: Column) -> tuple[str, str]:
    """Returns our number (with its spread over seeds, and what it lacks) and the paper's, as shown."""
    ours, notes = "-", []
    if cell.mean is not None:
        ours = f"{cell.mean:.{column.digits}f}"
        if cell.spread is not None:
            ours += f" ± {cell.spread:.{column.digits}f}"
        notes = [f"{len(cell.values)} of {cell.wanted} seeds"] if cell.lacks else []
        notes += ["a seed failed"] if cell.failed else []
    elif cell.failed:
        ours = "failed"
    ours += f" ({', '.join(notes)})" if notes else ""
    return ours, "" if cell.paper is None else f"{cell.paper:.{column.digits}f}"


def _has_paper(results: Results, column: Column) -> bool:
    return any(results.cells[i, column.name].paper is not None for i in range(len(results.rows)))


def headings(results: Results) -> list[str]:
    """Returns the headings of the columns: each of ours, and beside it the paper's where it has numbers."""
    names = []
    for column in results.spec.columns:
        names += [column.name] + ([f"{column.name} ({PAPER})"] if _has_paper(results, column) else [])
    return names


def body(results: Results) -> list[list[str]]:
    """Returns the rows as texts: name, then the numbers under :func:`headings`."""
    lines = []
    for index, row in enumerate(results.rows):
        line = [_row_name(row)]
        for column in results.spec.columns:
            ours, paper = cell_texts(results.cells[index, column.name], column)
            line += ["" if row.external else ours] + ([paper] if _has_paper(results, column) else [])
        lines.append(line)
    return lines


def order_lines(results: Results) -> list[str]:
    """Says per column whether our order is the paper's."""
    lines = []
    for order in results.orders:
        rank = "undefined" if order.correlation is None else f"{order.correlation:+.2f}"
        total = order.count * (order.count - 1) // 2
        text = f"{order.name}: rank correlation with the paper {rank} over {order.count} cells"
        pairs = order.reversed_pairs
        if pairs:
            shown = "; ".join(f"{a} and {b}" for a, b in pairs[:MAX_PAIRS])
            more = f"; and {len(pairs) - MAX_PAIRS} more" if len(pairs) > MAX_PAIRS else ""
            text += f"; {len(pairs)} of {total} pairs reversed: {shown}{more}"
        else:
            text += "; no pair reversed"
        lines.append(text)
    return lines + curve_lines(results)


def tuned_lines(results: Results) -> list[str]:
    """Says of each tuned row which options were tried, and which are shown."""
    select = results.spec.select
    lines = []
    for index, choices in results.choices.items():
        for columns, choice in choices:
            name = _row_name(results.rows[index]) + (f" / {', '.join(columns)}" if len(choices) > 1 else "")
            tried = "; ".join(f"{describe(t.options)}: {_trial_text(t)}" for t in choice.trials)
            chosen = f"{describe(choice.best.options)} chosen" if choice.best else "nothing chosen"
            seed = choice.trials[0].run.seed
            where = "" if seed is None else f" at seed {seed}"
            assert select is not None
            lines.append(f"{name}: {chosen}, by {select.metric}{where} ({select.better} is better; {tried})")
    return lines


def _trial_text(trial: Trial) -> str:
    if trial.state == "done":
        return "no number" if trial.value is None else f"{trial.value:.4g}"
    return "failed" if trial.state == "failed" else "not run"


def curve_lines(results: Results) -> list[str]:
    """Says of each curve how the two quantities go together over the epochs."""
    curve = results.spec.curve
    if curve is None:
        return []
    lines = []
    for index, runs in results.curves.items():
        for seed, points in runs.items():
            rank = spearman([p[0] for p in points], [p[1] for p in points])
            text = "undefined" if rank is None else f"{rank:+.2f}"
            where = f"{results.rows[index].name}, seed {seed}"
            lines.append(f"{where}: rank correlation of {curve.x} and {curve.y} over {len(points)} epochs {text}")
    return lines


def show(results: Results, console: Console) -> None:
    """Prints the table; the paper's numbers stand in brackets, so that a grid fits a terminal."""
    spec = results.spec
    fields = []
    for column in spec.columns:
        mark = f"\nours [{PAPER}]" if _has_paper(results, column) else ""
        cells = [_both(results.cells[index, column.name], column, row) for index, row in enumerate(results.rows)]
        fields.append(Field(column.name + mark, cells))
    names = Field("", [Text(_row_name(row)) for row in results.rows], text=True)
    print_table(console, f"{spec.name}: {spec.title}", [names], fields, [row.group for row in results.rows])
    remarks = _footer(results)
    if results.missing:
        missing = f"{len(results.missing)} of {counted(len(results.runs), 'run')} missing: table.md names them."
        remarks.insert(0, missing)
    for text in remarks:  # whole lines in a file or a pipe, where they are searched
        console.print(text, soft_wrap=not console.is_terminal, markup=False)


def _both(cell: Cell, column: Column, row: Row) -> Text:
    ours, paper = cell_texts(cell, column)
    text = Text("" if row.external else ours)
    if paper:
        text.append(f" [{paper}]" if text else f"[{paper}]", style="dim")
    return text


def _row_name(row: Row) -> str:
    name = f"{row.group}: {row.name}" if row.group else row.name
    return name + (f" ({PAPER}'s number only)" if row.external else "")


def _footer(results: Results) -> list[str]:
    spec = results.spec
    data = "real data" if spec.real else "the embedded data"
    lines = [f"Ours on {data}; numbers in brackets or under '{PAPER}' are the paper's: {spec.source}."]
    return [*lines, *([spec.note] if spec.note else []), *tuned_lines(results), *order_lines(results)]


def markdown(results: Results, about: Mapping[str, Any]) -> str:
    """Returns the table as Markdown.

    Args:
        results: The table.
        about: How it was made: command, date and seeds, and the origin of its runs.
    """
    head = ["", *headings(results)]
    lines = [f"# {results.spec.name}: {results.spec.title}", ""]
    lines += [_markdown_line(head), "|" + "---|" * len(head)]
    lines += [_markdown_line(line) for line in body(results)]
    for text in _footer(results):
        lines += ["", text]
    lacking = missing_lines(results.missing, len(results.runs), [_row_name(row) for row in results.hidden])
    lines += ["", *(f"- {line}" for line in [*_about_lines(about), *lacking])]
    return "\n".join(lines) + "\n"


def _markdown_line(texts: Sequence[str]) -> str:
    """Returns a table's line; a bar or a line's end in a name would else begin another cell or row."""
    return "| " + " | ".join(" ".join(text.splitlines()).replace("|", "\\|") for text in texts) + " |"


def _about_lines(about: Mapping[str, Any]) -> list[str]:
    """Says how a table was made; its runs may be older than it, and from other machines."""
    lines = [f"made by `{about['command']}` on {about['date']}, seeds {', '.join(map(str, about['seeds']))}"]
    if about["finished"]:
        first, last = (end.replace("T", " ") for end in about["finished"])
        lines.append(f"its runs took {about['minutes']} minutes together; finished {first} to {last}")
    lines += [f"{m['device']}, {m['cores']} cores, {m['system']}" for m in about["machines"]]
    lines += [", ".join(f"{name} {version}" for name, version in v.items()) for v in about["versions"]]
    return lines


def as_json(results: Results, about: Mapping[str, Any]) -> str:
    """Returns every number as JSON: ours by seed, the paper's apart; of an unfinished table also what is missing."""
    spec = results.spec
    rows = []
    for index, row in enumerate(results.rows):
        cells = {}
        for column in spec.columns:
            cell = results.cells[index, column.name]
            ours = {"mean": cell.mean, "spread": cell.spread, "values": list(cell.values), "failed": cell.failed}
            ours |= {"wanted": cell.wanted} if cell.lacks else {}
            cells[column.name] = {"paper": cell.paper} if row.external else {"ours": ours, "paper": cell.paper}
        curves = {"curves": results.curves[index]} if index in results.curves else {}
        tuned = (
            {"tuned": [_tuned(*choice, spec) for choice in results.choices[index]]} if index in results.choices else {}
        )
        entry = {"name": row.name, "group": row.group, "external": row.external, "cells": cells}
        rows.append(entry | curves | tuned)
    order = [
        {"name": o.name, "rank_correlation": o.correlation, "cells": o.count, "reversed_pairs": o.reversed_pairs}
        for o in results.orders
    ]
    content = {
        "table": spec.name, "title": spec.title, "source_of_paper_numbers": spec.source, "note": spec.note,
        "data": "real" if spec.real else "embedded", "rows": rows, "order": order, **_lacking(results),
        "about": dict(about),
    }  # fmt: skip
    return json.dumps(content, indent=1) + "\n"


def _lacking(results: Results) -> dict[str, Any]:
    """Names the runs without a result and the rows that are not shown; nothing of a whole table."""
    runs = [{"run": lack.run.used_by, "seed": lack.run.seed, "why": lack.why} for lack in results.missing]
    rows = [{"name": row.name, "group": row.group} for row in results.hidden]
    return {"missing": {"needed": len(results.runs), "runs": runs, "rows": rows}} if runs or rows else {}


def _tuned(columns: Sequence[str], choice: Choice, spec: TableSpec) -> dict[str, Any]:
    assert spec.select is not None
    tried = [{"options": t.options, "state": t.state, "value": t.value} for t in choice.trials]
    return {
        "columns": columns, "metric": spec.select.metric, "better": spec.select.better,
        "seed": choice.trials[0].run.seed, "chosen": choice.best.options if choice.best else None, "tried": tried,
    }  # fmt: skip
