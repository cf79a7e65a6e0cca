"""The cells of a table as runs: what each one runs, and the key that its result is kept under."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from posekit.cli.configs import find_config
from posekit.errors import UserError
from posekit.tables.spec import Column, Job, Overrides, Row, TableSpec


@dataclass(frozen=True)
class Run:
    """One run of a job; cells of the same options share it.

    Attributes:
        job: What is run.
        overrides: All options together.
        seed: Seed; None where none is used.
        before: Run whose checkpoint this one starts from.
        used_by: Row (and column) names, for messages.
    """

    job: Job
    overrides: Overrides
    seed: int | None
    before: Run | None
    used_by: str = field(compare=False)

    @property
    def key(self) -> str:
        """File name of the result: changes with the options, the config's text, and the run before."""
        text = "" if self.job.command == "bench" else _config_text(self.job.config)
        content = [self.job.command, self.job.config, text, self.overrides, self.before.key if self.before else None]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]
        return f"{self.job.name}-{digest}" + ("" if self.seed is None else f"-s{self.seed}")

    @property
    def minutes(self) -> float:
        """Estimated minutes on two CPU cores, without the run before."""
        return self.job.minutes


def _config_text(config: str) -> str:
    path = Path(find_config(config))
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def options_for(job: Job, spec: TableSpec, *parts: Mapping[str, Any]) -> Overrides:
    """Merges a job's options with those of a row and a column.

    A part is flat (for every job), or has one entry per job, with the options of that job.
    """
    merged = dict(job.overrides)
    for part in parts:
        by_job = bool(part) and all(key in spec.jobs for key in part)
        merged.update((part.get(job.name) or {}) if by_job else part)
    return merged


def make_run(spec: TableSpec, job: Job, row: Row, column: Column | None, seed: int, extra: Overrides) -> Run:
    """Builds the run of a cell.

    Args:
        spec: The table.
        job: The cell's job.
        row: The cell's row.
        column: The cell's column; None for the run behind a curve.
        seed: Ignored by jobs that have none.
        extra: Options of the command line, for the trainer's jobs.
    """
    parts = [row.overrides, column.overrides if column else {}]
    same = [other for other in spec.rows if other.name == row.name]
    name = f"{row.group}: {row.name}" if row.group and len(same) > 1 else row.name
    before = None
    if job.after is not None:
        earlier = spec.jobs[job.after]
        shared = parts if job.after_overrides else [_only(part, spec, earlier) for part in parts]
        before = _run(spec, earlier, shared, seed, extra, f"{name} ({earlier.name})", None)
    return _run(spec, job, parts, seed, extra, name + (f" / {column.name}" if column else ""), before)


def _only(part: Mapping[str, Any], spec: TableSpec, job: Job) -> Overrides:
    """Returns the options that a part has for a job by name, none of a flat part."""
    by_job = bool(part) and all(key in spec.jobs for key in part)
    return {job.name: part[job.name]} if by_job and job.name in part else {}


def _run(
    spec: TableSpec, job: Job, parts: Sequence[Mapping[str, Any]], seed: int, extra: Overrides, used: str,
    before: Run | None,
) -> Run:  # fmt: skip
    options = options_for(job, spec, *parts)
    job = replace(job, config=str(options.pop("config", job.config)))
    if job.seeded:
        options |= extra
    elif job.command == "count":
        options |= {key: value for key, value in extra.items() if key.startswith("model.")}
    return Run(job, options, seed if job.seeded else None, before, used)


def table_runs(spec: TableSpec, seeds: Sequence[int], extra: Overrides, only: Sequence[str] = ()) -> list[Run]:
    """Lists the runs of a table, each once, earlier runs before those that need them.

    Args:
        spec: The table.
        seeds: Seeds of the trainer's jobs.
        extra: Options of the command line.
        only: Patterns of row names (``*`` and ``?``); all rows when empty.

    Raises:
        UserError: A pattern matches no row.
    """
    check_patterns(spec, only)
    runs: dict[str, Run] = {}
    for seed in seeds:
        for run in _wanted(spec, seed, extra, only):
            for needed in (run.before, run) if run.before is not None else (run,):
                if needed is not None:
                    runs.setdefault(needed.key, needed)
    return list(runs.values())


def _wanted(spec: TableSpec, seed: int, extra: Overrides, only: Sequence[str]) -> Iterator[Run]:
    for row in spec.rows:
        if row.external or not selected(row, only):
            continue
        for column in spec.columns:
            yield make_run(spec, spec.jobs[column.job], row, column, seed, extra)
        if spec.curve is not None:
            yield make_run(spec, spec.jobs[spec.curve.job], row, None, seed, extra)


def selected(row: Row, only: Sequence[str]) -> bool:
    """Tells whether a row is asked for."""
    return not only or any(fnmatch(row.name, p) or fnmatch(f"{row.group}/{row.name}", p) for p in only)


def check_patterns(spec: TableSpec, only: Sequence[str]) -> None:
    """Refuses patterns that match nothing.

    Raises:
        UserError: A pattern matches no row of this library.
    """
    own = [row for row in spec.rows if not row.external]
    for pattern in only:
        if not any(selected(row, [pattern]) for row in own):
            names = ", ".join(row.name for row in own)
            raise UserError(f"--only {pattern} matches no row of {spec.name}; rows: {names}")
