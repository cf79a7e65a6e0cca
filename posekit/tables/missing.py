"""What a table lacks: runs without a result, and why there is none."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from posekit.errors import counted
from posekit.tables.cells import Run
from posekit.tables.plan import Planner


@dataclass(frozen=True)
class Missing:
    """A run that the report needs and that has no result.

    Attributes:
        run: The run.
        why: In words.
    """

    run: Run
    why: str


def missing_runs(
    planner: Planner, shown: Planner, failed: Collection[str] = (), skipped: Collection[str] = ()
) -> list[Missing]:
    """Lists the runs that a report lacks.

    Args:
        planner: Of the rows asked for.
        shown: Of the rows in the report.
        failed: Keys of failed runs.
        skipped: Keys of runs that a budget left no time for.
    """
    wanted, plan = planner.plan(failed), shown.plan(failed)
    asked = {run.key for run in (*wanted.runs, *wanted.later)}
    later = {run.key for run in plan.later}

    def why(run: Run) -> str:
        if run.key in failed:
            return "failed"
        if run.key in skipped:
            return "left out for want of time (--budget)"
        if run.key not in asked:
            return "not asked for (--only)"
        return "waiting for a tuned row's choice" if run.key in later else "not run"

    lacking = [run for run in (*plan.runs, *plan.later) if run.key in later or shown.read(run) is None]
    return [Missing(run, why(run)) for run in lacking]


def missing_lines(missing: Sequence[Missing], needed: int, hidden: Sequence[str]) -> list[str]:
    """Says which runs and rows a report lacks, a line for each reason; nothing where it is whole.

    Args:
        missing: The runs.
        needed: Runs of the whole report.
        hidden: Names of rows that were not asked for and have no result.
    """
    lines = []
    for why in dict.fromkeys(lack.why for lack in missing):
        runs = [lack.run for lack in missing if lack.why == why]
        lines.append(f"{len(runs)} of {counted(needed, 'run')} missing, {why}: {_names(runs)}")
    if hidden:
        lines.append(f"rows not asked for and without a result: {'; '.join(hidden)}")
    return lines


def _names(runs: Sequence[Run]) -> str:
    """Names runs, those of several seeds once."""
    seeds: dict[str, list[str]] = {}
    for run in runs:
        seeds.setdefault(run.used_by, []).extend([] if run.seed is None else [str(run.seed)])
    return "; ".join(
        name + (f", seed{'s' if len(own) > 1 else ''} {', '.join(own)}" if own else "") for name, own in seeds.items()
    )
