"""``posekit evaluate``: metrics of a results file against a ground-truth file, without a model."""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posekit.cli.arguments import ArgumentParser
from posekit.json_file import write_json
from posekit.plugins import load_plugins
from posekit.skeletons import SKELETONS, Skeleton, get_skeleton


@dataclass
class Report:
    """What an evaluation prints and writes.

    Attributes:
        title: Headline of the table.
        values: All numbers by name, as written to the JSON file.
        rows: The printed table: one label and its cells per row.
        columns: Headings of the cells.
        notes: Lines below the table.
        more: Further tables.
    """

    title: str
    values: dict[str, Any]
    rows: list[tuple[str, list[float]]]
    columns: list[str]
    notes: list[str] = field(default_factory=list)
    more: list[Report] = field(default_factory=list)


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
    from rich.text import Text

    table = Table(title=report.title, title_justify="left")
    table.add_column("")
    for column in report.columns:
        table.add_column(column, justify="right", no_wrap=True)
    for label, cells in report.rows:
        table.add_row(Text(_printable(label)), *("-" if math.isnan(c) else f"{c:.1f}" for c in cells))
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file or a pipe has no width, and rich would cut columns at 80
    console.print(table)
    for other in report.more:
        show(other)
    for note in report.notes:
        console.print(f"note: {_printable(note)}", markup=False, highlight=False)


def _printable(text: str) -> str:
    """Returns text of a file without what no terminal can show: halves of characters."""
    return text.encode(errors="replace").decode()


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="posekit evaluate", description="Metrics of a results file, without a model.")
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="|".join(_KINDS))
    for kind, (describe, add) in _KINDS.items():
        sub = kinds.add_parser(kind, help=describe, description=describe)
        sub.add_argument("gt", metavar="GT", help="ground truth: a file, or for posetrack a folder")
        sub.add_argument("results", metavar="RESULTS", help="results: a file, or for posetrack a folder")
        sub.add_argument("--json", type=Path, metavar="OUT", help="write all numbers to this JSON file")
        add(sub)
    return parser


def _coco_options(parser: argparse.ArgumentParser) -> None:
    what = f"joint set, for its sigmas: {', '.join(SKELETONS)}, or a plug-in's"
    parser.add_argument("--skeleton", default="COCO17", help=what)
    parser.add_argument("--max-dets", type=int, default=20, help="people per image that count (20)")
    parser.set_defaults(evaluate=_coco)


def _coco(arguments: argparse.Namespace) -> Report:
    from posekit.metrics.coco_files import evaluate_coco_keypoints

    if arguments.skeleton not in SKELETONS:
        load_plugins()  # takes seconds
    skeleton = get_skeleton(arguments.skeleton)
    values = evaluate_coco_keypoints(
        arguments.gt, arguments.results, skeleton.sigmas, max_dets=arguments.max_dets, groups=_each_joint(skeleton)
    )
    rows = [(kind, [_percent(values[kind + column]) for column in _COCO_COLUMNS]) for kind in ("AP", "AR")]
    columns = ["0.50:0.95", "0.50", "0.75", "medium", "large"]
    report = Report(f"OKS average precision and recall in % ({skeleton.name})", dict(values), rows, columns)
    report.more.append(_ap_by_joint(values, skeleton))
    return report


def _each_joint(skeleton: Skeleton) -> dict[str, tuple[int]]:
    return {joint: (number,) for number, joint in enumerate(skeleton.joints)}


def _ap_by_joint(values: dict[str, float], skeleton: Skeleton) -> Report:
    return Report("by joint", {}, [(j, [_percent(values[f"AP/{j}"])]) for j in skeleton.joints], ["AP"])


def _percent(value: float) -> float:
    return 100 * value if value >= 0 else math.nan


_COCO_COLUMNS: Sequence[str] = ("", "50", "75", "M", "L")


def _crowdpose_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(evaluate=_crowdpose)


def _crowdpose(arguments: argparse.Namespace) -> Report:
    from posekit.metrics.crowdpose import evaluate_crowdpose
    from posekit.skeletons import CROWDPOSE14

    values = evaluate_crowdpose(arguments.gt, arguments.results, groups=_each_joint(CROWDPOSE14))
    columns = [name for name in values if not name.startswith("AP/")]
    rows = [("CrowdPose", [_percent(values[name]) for name in columns])]
    report = Report("OKS average precision and recall in % (CROWDPOSE14)", dict(values), rows, columns)
    report.more.append(_ap_by_joint(values, CROWDPOSE14))
    return report


def _posetrack_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(evaluate=_posetrack)


def _posetrack(arguments: argparse.Namespace) -> Report:
    from posekit.metrics.posetrack_ap import COLUMNS, evaluate_posetrack
    from posekit.skeletons import POSETRACK15

    values = evaluate_posetrack(arguments.gt, arguments.results)
    rows = [("AP", [*(values[c] for c in COLUMNS), values["AP"]])]
    report = Report("PoseTrack average precision in %", dict(values), rows, [*COLUMNS, "Total"])
    joints = [(j, [values[j], values[f"precision/{j}"], values[f"recall/{j}"]]) for j in POSETRACK15.joints]
    report.more.append(Report("by joint", {}, joints, ["AP", "precision", "recall"]))
    return report


def _mpii_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(evaluate=_mpii)


def _mpii(arguments: argparse.Namespace) -> Report:
    from posekit.metrics.mpii_files import evaluate_mpii
    from posekit.skeletons import MPII16

    table = evaluate_mpii(arguments.gt, arguments.results)
    report = Report("MPII: PCKh in %", table.values, table.rows, table.columns)
    report.more.append(Report("by joint", {}, [(j, [table.values[j]]) for j in MPII16.joints], ["PCKh@0.5"]))
    return report


def _h36m_options(parser: argparse.ArgumentParser) -> None:
    what = "unit of both files, but for a prediction's results.npz (m)"
    parser.add_argument("--unit", choices=("m", "mm"), default="m", help=what)
    parser.add_argument("--root", type=int, default=0, help="joint of the ground truth on which poses are centred (0)")
    parser.set_defaults(evaluate=_h36m)


def _h36m(arguments: argparse.Namespace) -> Report:
    from posekit.metrics.h36m_files import evaluate_h36m

    table = evaluate_h36m(arguments.gt, arguments.results, arguments.unit, arguments.root)
    report = Report("3D errors", table.values, table.rows, table.columns, notes=table.notes)
    labels = [column.removesuffix(" mm") for column in table.columns]
    if table.joints:
        joints = [(j, [table.values[f"{label}/{j}"] for label in labels]) for j in table.joints]
        report.more.append(Report("by joint", {}, joints, table.columns))
    return report


def _3dhp_options(parser: argparse.ArgumentParser) -> None:
    what = "unit of .npz and JSON files, but for a prediction's results.npz (mm)"
    parser.add_argument("--unit", choices=("m", "mm"), default="mm", help=what)
    parser.set_defaults(evaluate=_3dhp)


def _3dhp(arguments: argparse.Namespace) -> Report:
    from posekit.metrics.mpi_inf_3dhp_files import evaluate_3dhp

    table = evaluate_3dhp(arguments.gt, arguments.results, arguments.unit)
    report = Report("MPI-INF-3DHP", table.values, table.rows, table.columns, notes=table.notes)
    joints = [(j, [table.values[f"PCK/{j}"]]) for j in table.joints]
    report.more.append(Report("by joint", {}, joints, ["PCK@150mm"]))
    return report


_KINDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "coco": ("OKS AP of COCO keypoint files (also OCHuman), equal to pycocotools", _coco_options),
    "crowdpose": ("OKS AP of CrowdPose, with its easy, medium and hard split", _crowdpose_options),
    "posetrack": ("AP of PoseTrack 2017, 2018 or 21: folders of sequence files, equal to poseval", _posetrack_options),
    "mpii": ("PCKh of gt_valid.mat and pred.mat (or JSON lists)", _mpii_options),
    "h36m": ("MPJPE, PA-MPJPE, N-MPJPE of .npz, .npy or JSON poses", _h36m_options),
    "3dhp": ("PCK, AUC, MPJPE and PA-MPJPE of MPI-INF-3DHP's test set", _3dhp_options),
}
