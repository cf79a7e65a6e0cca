"""``posekit evaluate``: metrics of a results file against a ground-truth file, without a model."""

from __future__ import annotations

import argparse
import json
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posekit.data.files import atomic_write_text
from posekit.errors import UserError
from posekit.skeletons import SKELETONS, get_skeleton


@dataclass
class Report:
    """What an evaluation prints and writes.

    Attributes:
        title: Headline of the table.
        values: All numbers by name, as written to the JSON file.
        rows: The printed table: one label and its cells per row.
        columns: Headings of the cells.
    """

    title: str
    values: dict[str, Any]
    rows: list[tuple[str, list[float]]]
    columns: list[str]
    decimals: int = 1
    notes: list[str] = field(default_factory=list)


def run(argv: list[str]) -> None:
    """Runs ``posekit evaluate KIND GT RESULTS [--json OUT] ...``.

    Args:
        argv: Words after ``evaluate``.

    Raises:
        UserError: A file or an entry in it is wrong.
    """
    arguments = _parser().parse_args(argv)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report: Report = arguments.evaluate(arguments)
    report.notes += [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    show(report)
    if arguments.json is not None:
        write_json(arguments.json, report.values)


def show(report: Report) -> None:
    """Prints the table, and below it one line per note."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=report.title, title_justify="left")
    table.add_column("")
    for column in report.columns:
        table.add_column(column, justify="right")
    for label, cells in report.rows:
        table.add_row(label, *("-" if math.isnan(c) else f"{c:.{report.decimals}f}" for c in cells))
    console = Console()
    console.print(table)
    for note in report.notes:
        console.print(f"note: {note}", markup=False, highlight=False)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes a JSON file in one piece: a reader sees the old file or the whole new one. NaN becomes null."""
    atomic_write_text(path, json.dumps(_without_nan(values), indent=2, allow_nan=False) + "\n")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UserError(f"{self.prog}: {message}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="posekit evaluate", description="Metrics of a results file, without a model.")
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="|".join(_KINDS), parser_class=_Parser)
    for kind, (describe, add) in _KINDS.items():
        sub = kinds.add_parser(kind, help=describe, description=describe)
        sub.add_argument("gt", metavar="GT", help="ground truth: a file, or for posetrack a folder")
        sub.add_argument("results", metavar="RESULTS", help="results: a file, or for posetrack a folder")
        sub.add_argument("--json", type=Path, metavar="OUT", help="write all numbers to this JSON file")
        add(sub)
    return parser


def _coco_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--skeleton", default="COCO17", help=f"joint set, for its sigmas: {', '.join(SKELETONS)}")
    parser.add_argument("--max-dets", type=int, default=20, help="people per image that count (20)")
    parser.set_defaults(evaluate=_coco)


def _coco(arguments: argparse.Namespace) -> Report:
    from posekit.metrics.coco_files import evaluate_coco_keypoints

    skeleton = get_skeleton(arguments.skeleton)
    values = evaluate_coco_keypoints(arguments.gt, arguments.results, skeleton.sigmas, max_dets=arguments.max_dets)
    rows = [(kind, [_percent(values[kind + column]) for column in _COCO_COLUMNS]) for kind in ("AP", "AR")]
    columns = ["0.50:0.95", "0.50", "0.75", "medium", "large"]
    return Report(f"OKS average precision and recall in % ({skeleton.name})", dict(values), rows, columns)


def _percent(value: float) -> float:
    return 100 * value if value >= 0 else math.nan


_COCO_COLUMNS: Sequence[str] = ("", "50", "75", "M", "L")

_KINDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "coco": ("OKS AP of COCO keypoint files, equal to pycocotools", _coco_options),
}
