"""Options of the command line, checked before any cell runs."""

from __future__ import annotations

from posekit.errors import UserError
from posekit.tables.cells import Run
from posekit.tables.plan import Planner
from posekit.tables.spec import Overrides
from posekit.tables.worker import words_of


def check_options(planner: Planner) -> None:
    """Parses the config of each job's first cell with the options that all cells take.

    Raises:
        UserError: The options do not fit it. A fault of the config's own is left to its cell.
    """
    if not planner.extra:
        return
    firsts = {run.job.name: run for run in reversed(planner.plan().runs) if run.job.command != "bench"}
    for run in firsts.values():
        options = {
            key: value for key, value in run.overrides.items() if not (run.job.data_folder and key == "data.root")
        }
        own = {key: value for key, value in options.items() if key not in planner.extra}
        fault = _fault(run, options)
        if fault is not None and _fault(run, own) is None:
            raise UserError(f"{run.job.config}: {fault}")


def _fault(run: Run, overrides: Overrides) -> str | None:
    from posekit.cli.build import check_config

    try:
        check_config(["--config", run.job.config, *words_of(overrides)])
    except UserError as error:
        return str(error)
    return None
