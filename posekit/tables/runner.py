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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from posekit.data.files import atomic_write_text
from posekit.tables.cells import Run
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


def estimate(store: Store, runs: Sequence[Run]) -> float:
    """Returns the estimated minutes of the runs that are missing.

    Finished runs of the same job tell how long one takes on this machine; else the table file's figure stands.
    """
    return sum(estimate_run(store, runs, run) for run in runs if store.read(run) is None)


def estimate_run(store: Store, runs: Sequence[Run], run: Run) -> float:
    """Returns the estimated minutes of one run."""
    done = [store.read(other) for other in runs if other.job.name == run.job.name]
    seconds = [float(r["seconds"]) for r in done if r is not None and "seconds" in r]
    return sum(seconds) / len(seconds) / 60 if seconds else run.minutes


def run_missing(
    store: Store, runs: Sequence[Run], deadline: float | None = None, console: Console | None = None
) -> Outcome:
    """Runs what has no result yet.

    Args:
        store: Results.
        runs: In an order in which earlier runs come first.
        deadline: ``time.monotonic()`` at which no further run starts that would not end before; None runs all.
        console: For progress.
    """
    console = console or Console()
    outcome = Outcome({}, [])
    missing = [run for run in runs if store.read(run) is None]
    needed = {run.before.key for run in runs if run.before is not None}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(missing))
        for run in missing:
            progress.update(task, description=f"{run.used_by}" + ("" if run.seed is None else f", seed {run.seed}"))
            reason = _refusal(run, outcome)
            if reason is None and deadline is not None:
                ends = time.monotonic() + 60 * estimate_run(store, runs, run)
                if ends > deadline:
                    outcome.skipped.append(run.key)
                    progress.advance(task)
                    continue
            reason = reason or _run_one(store, run, keeps_checkpoint=run.key in needed)
            if reason is not None:
                outcome.failed[run.key] = reason
                progress.console.print(f"failed: {run.used_by}: {reason}", style="red", soft_wrap=True, markup=False)
            progress.advance(task)
    return outcome


def _refusal(run: Run, outcome: Outcome) -> str | None:
    if run.before is None:
        return None
    if run.before.key in outcome.failed:
        return f"the run before it failed ({run.before.job.name})"
    return f"the run before it was left out ({run.before.job.name})" if run.before.key in outcome.skipped else None


def _run_one(store: Store, run: Run, keeps_checkpoint: bool) -> str | None:
    """Runs a job in a process of its own; returns the reason of a failure."""
    store.claim()
    work = store.folder / "work" / run.key
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    work.mkdir(parents=True)
    overrides = _filled(store, run)
    if run.job.data_folder and "data.root" in overrides:
        (work / "data").symlink_to(Path(overrides.pop("data.root")).expanduser().absolute())
    job = {"command": run.job.command, "config": run.job.config, "overrides": overrides, "seed": run.seed}
    atomic_write_text(work / "job.json", json.dumps(job, default=str))
    log = store.folder / "logs" / f"{run.key}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    files = [str((work / name).absolute()) for name in ("job.json", "result.json")]
    words = [sys.executable, "-m", "posekit.tables.worker", *files]
    cwd = work if run.job.data_folder else None
    with log.open("w", encoding="utf-8") as file:
        child = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, cwd=cwd)
        try:
            code = child.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
            child.wait()
            shutil.rmtree(work, ignore_errors=True)
            raise
    result_path = work / "result.json"
    if code != 0 or not result_path.is_file():
        shutil.rmtree(work, ignore_errors=True)
        return f"{_last_line(log)} (exit code {code}, log {log})"
    result = json.loads(result_path.read_text(encoding="utf-8"))
    if keeps_checkpoint:
        _keep_checkpoint(store, run, result)
    else:
        result.pop("checkpoint", None)
    store.write(run, result)
    shutil.rmtree(work, ignore_errors=True)
    log.unlink(missing_ok=True)
    return None


def _filled(store: Store, run: Run) -> dict[str, Any]:
    """Puts the checkpoint of the run before in place of ``{checkpoint}``."""
    if run.before is None:
        return dict(run.overrides)
    before = store.read(run.before) or {}
    path = str(Path(str(before.get("checkpoint"))).absolute())
    return {k: v.replace("{checkpoint}", path) if isinstance(v, str) else v for k, v in run.overrides.items()}


def _keep_checkpoint(store: Store, run: Run, result: dict[str, Any]) -> None:
    """Moves the run's checkpoint beside its result; the rest of the run's files is not kept."""
    source = result.get("checkpoint")
    if source is None or not Path(source).is_file():
        return
    target = store.folder / "checkpoints" / f"{run.key}.ckpt"
    target.parent.mkdir(parents=True, exist_ok=True)
    Path(source).replace(target)
    result["checkpoint"] = str(target)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["no output"])[-1].removeprefix("posekit: error: ")[:300]
