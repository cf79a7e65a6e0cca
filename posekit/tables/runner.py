"""Runs what is missing of a table, one run after another, and keeps each result as soon as it is there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from posekit.data.synthetic.cache import RENDERED_FOLDER
from posekit.files import atomic_write_text, is_there
from posekit.tables.cells import Run, value_of
from posekit.tables.plan import Plan, Planner
from posekit.tables.results import absent_metrics
from posekit.tables.store import Store


@dataclass
class Outcome:
    """What became of the runs.

    Attributes:
        failed: Reason by run key.
        skipped: Keys that the budget left no time for.
    """

    failed: dict[str, str]
    skipped: list[str]


def estimates(store: Store, plan: Plan) -> dict[str, float]:
    """Returns the estimated minutes of the runs that are missing, by key.

    Finished runs of the same job tell how long one takes on this machine; else the table file's figure stands.
    """
    runs = {run.key: run for run in (*plan.runs, *plan.later)}
    results = {key: store.read(run) for key, run in runs.items()}
    taken: dict[str, list[float]] = {}
    for key, result in results.items():
        if result is not None and "seconds" in result:
            taken.setdefault(runs[key].job.name, []).append(float(result["seconds"]) / 60)
    missing = [run for key, run in runs.items() if results[key] is None]
    return {run.key: fmean(taken.get(run.job.name, [run.job.minutes])) for run in missing}


def beyond(plan: Plan, takes: Mapping[str, float], minutes: float) -> dict[str, float]:
    """Returns the missing runs that a budget would leave out, with their minutes, as far as estimates tell.

    Args:
        plan: The runs.
        takes: Estimated minutes of those that are missing, by key.
        minutes: The budget.
    """
    left: dict[str, float] = {}
    for run in (*plan.runs, *plan.later):
        if run.key not in takes:
            continue
        barred = (run.before is not None and run.before.key in left) or bool(plan.waits.get(run.key, set()) & set(left))
        if barred or takes[run.key] > minutes:
            left[run.key] = takes[run.key]
        else:
            minutes -= takes[run.key]
    return left


def run_missing(
    store: Store, planner: Planner, deadline: float | None = None, console: Console | None = None
) -> Outcome:
    """Runs what has no result yet.

    Args:
        store: Results.
        planner: Says what is needed, anew after each run, since a tuned row's other seeds wait for its choice.
        deadline: ``time.monotonic()`` at which no further run starts that would not end before; None runs all.
        console: For progress.
    """
    try:
        return _run_missing(store, planner, deadline, console or Console())
    finally:
        shutil.rmtree(_rendered(store), ignore_errors=True)


def _run_missing(store: Store, planner: Planner, deadline: float | None, console: Console) -> Outcome:
    outcome = Outcome({}, [])
    tried: set[str] = set()
    said: set[str] = set()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        while True:
            for line in absent_metrics(planner):  # before more runs are spent on it
                if line not in said:
                    said.add(line)
                    progress.console.print(line, style="red", soft_wrap=True, markup=False)
            plan = planner.plan(outcome.failed)
            runs = [*plan.runs, *plan.later]
            missing = [run for run in _missing(store, plan.runs) if run.key not in tried]
            if not missing:
                return outcome
            run = missing[0]
            tried.add(run.key)
            text = run.used_by + ("" if run.seed is None else f", seed {run.seed}")
            progress.update(task, description=text, total=len(tried) + len(missing) - 1 + len(plan.later))
            reason = _refusal(store, run, outcome)
            if reason is None and _is_late(run, estimates(store, plan), deadline, outcome):
                outcome.skipped.append(run.key)
                progress.advance(task)
                continue
            needed = any(other.before == run for other in runs)
            reason = reason or _run_one(store, run, keeps_checkpoint=needed)
            if reason is not None:
                outcome.failed[run.key] = reason
                progress.console.print(f"failed: {text}: {reason}", style="red", soft_wrap=True, markup=False)
            progress.advance(task)


def _missing(store: Store, runs: Sequence[Run]) -> list[Run]:
    """Returns the runs without a result, and those whose checkpoint such a run starts from and is not there."""
    unfinished = [run for run in runs if store.read(run) is None]
    lost = [run.before for run in unfinished if run.before is not None and not store.checkpoint(run.before).is_file()]
    return [run for run in runs if run in unfinished or run in lost]


def _refusal(store: Store, run: Run, outcome: Outcome) -> str | None:
    if run.before is None or run.before.key in outcome.skipped:
        return None
    if run.before.key in outcome.failed:
        return f"the run before it failed ({run.before.job.name})"
    kept = store.checkpoint(run.before).is_file()
    return None if kept else f"the run before it left no checkpoint ({run.before.job.name})"


def _is_late(run: Run, takes: Mapping[str, float], deadline: float | None, outcome: Outcome) -> bool:
    """Tells whether a run has to be left out: it would end after the deadline, or starts from one left out."""
    if run.before is not None and run.before.key in outcome.skipped:
        return True
    # A finished run whose checkpoint is lost has no estimate of its own left: the table file's figure stands.
    return deadline is not None and time.monotonic() + 60 * takes.get(run.key, run.job.minutes) > deadline


def _run_one(store: Store, run: Run, keeps_checkpoint: bool) -> str | None:
    """Runs a job in a process of its own; returns the reason of a failure."""
    store.claim()
    work = store.folder / "work" / run.key
    log = store.folder / "logs" / f"{run.key}.log"
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    work.mkdir(parents=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        atomic_write_text(work / "job.json", json.dumps(_job(store, run, work), default=str))
        code = _await(work, log, work if run.job.data_folder else None, _surroundings(store))
        if code != 0 or not (work / "result.json").is_file():
            return f"{_last_line(log)} (exit code {code}, log {log})"
        _keep(store, run, work / "result.json", keeps_checkpoint)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    log.unlink(missing_ok=True)
    return None


def _job(store: Store, run: Run, work: Path) -> dict[str, Any]:
    """Returns what the worker is to do; a run that wants its data in its own folder finds them there."""
    overrides, config = _filled(store, run), run.job.config
    if run.job.data_folder and "data.root" in overrides:
        (work / "data").symlink_to(Path(overrides.pop("data.root")).expanduser().absolute())
        overrides = {key: _from_here(value) for key, value in overrides.items()} | _weights(run)
        config = str(Path(config).absolute()) if is_there(Path(config)) else config
    return {"command": run.job.command, "config": config, "overrides": overrides, "seed": run.seed}


def _await(work: Path, log: Path, cwd: Path | None, env: Mapping[str, str]) -> int:
    """Runs the worker on the job of a folder to its end; returns its exit code."""
    files = [str((work / name).absolute()) for name in ("job.json", "result.json")]
    words = [sys.executable, "-m", "posekit.cli.worker", *files]
    # The worker ends when its standard input does: that also happens where this process is killed outright.
    ours, lifeline = os.pipe()
    with log.open("w", encoding="utf-8") as file, os.fdopen(ours), os.fdopen(lifeline):
        child = subprocess.Popen(
            words, stdin=ours, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, cwd=cwd, env=env
        )
        try:
            return child.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
            child.wait()
            raise


def _keep(store: Store, run: Run, path: Path, keeps_checkpoint: bool) -> None:
    """Puts a finished run's result into the store, and its checkpoint where others start from it."""
    result = json.loads(path.read_text(encoding="utf-8"))
    checkpoint = result.pop("checkpoint", None)
    if keeps_checkpoint and checkpoint is not None:
        store.checkpoint(run).parent.mkdir(parents=True, exist_ok=True)
        Path(checkpoint).replace(store.checkpoint(run))
    store.write(run, result)


def _surroundings(store: Store) -> dict[str, str]:
    """Returns the variables of a run: all of a table's runs share the people that they render."""
    return {RENDERED_FOLDER: str(_rendered(store).absolute()), **os.environ}


def _rendered(store: Store) -> Path:
    return store.folder / "work" / "rendered"


def _filled(store: Store, run: Run) -> dict[str, Any]:
    """Puts the checkpoint of the run before in place of ``{checkpoint}``."""
    if run.before is None:
        return dict(run.overrides)
    path = str(store.checkpoint(run.before).absolute())
    return {k: v.replace("{checkpoint}", path) if isinstance(v, str) else v for k, v in run.overrides.items()}


def _weights(run: Run) -> dict[str, str]:
    """Returns a run's files of weights as seen from here, for a run that gets a folder of its own."""
    named = {key: value_of(run, key) for key in ("model.init_from", "model.backbone_weights")}
    files = {key: Path(value) for key, value in named.items() if isinstance(value, str)}
    return {key: str(path.absolute()) for key, path in files.items() if path.is_file()}


def _from_here(value: Any) -> Any:
    """Returns an option's value, files as seen from here, for a run that gets a folder of its own.

    What lies in ``data`` is that folder's; a bare word is a name, whatever lies here under it.
    """
    if isinstance(value, Mapping):
        return {key: _from_here(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_from_here(part) for part in value]
    if not isinstance(value, str) or not is_there(Path(value)):
        return value
    path = Path(value)
    named = len(path.parts) > 1 or path.suffix
    return str(path.absolute()) if named and path.parts[0] != "data" else value


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["no output"])[-1].removeprefix("posekit: error: ")[:300]
