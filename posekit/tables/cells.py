"""The cells of a table as runs: what each one runs, and the key that its result is kept under."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from posekit.configs import find_config, read_config
from posekit.errors import UserError
from posekit.tables.spec import Column, Job, Overrides, Row, TableSpec

_LINKED = ("image_size", "skeleton", "num_support", "view")
"""Values of the data that a model may take over; named here, since torch is slow to import."""


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

    @cached_property
    def key(self) -> str:
        """File name of the result: changes with the options, the config's values in use, and the run before."""
        values = {} if self.job.command == "bench" else _kept_values(_config_values(self.job.config), self.overrides)
        if self.job.command == "count":
            values = _network_values(values)
        content = [self.job.command, self.job.config, values, self.overrides, self.before.key if self.before else None]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]
        return f"{self.job.name}-{digest}" + ("" if self.seed is None else f"-s{self.seed}")


@lru_cache
def _config_path(config: str) -> Path:
    return Path(find_config(config))


def _config_values(config: str) -> dict[str, Any]:
    """Reads a config, anew where it was edited while a table runs; comments do not count."""
    path = _config_path(config)
    if not path.is_file():
        return {}
    state = path.stat()
    return _read_config(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)
def _read_config(path: Path, time: int, size: int) -> dict[str, Any]:
    """Reads a config as it stands at that time and size; nothing changes the content."""
    return read_config(path)


def value_of(run: Run, key: str, default: Any = None) -> Any:
    """Returns an option's value in a run: its own, else the config's, e.g. of ``trainer.max_epochs``."""
    if key in run.overrides:
        return run.overrides[key]
    part: Any = _config_values(run.job.config)
    for name in key.split("."):
        if isinstance(part, Mapping) and "class_path" in part:
            part = part.get("init_args")
        if not isinstance(part, Mapping) or name not in part:
            return default
        part = part[name]
    return part


def _kept_values(values: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    """Leaves out a config's values that options replace: a result does not hang on them.

    Options of several keys (``model.loss_options: {sigma: 1}``) join what the config has there, so that stays.
    """
    kept = copy.deepcopy(dict(values))
    for name, value in overrides.items():
        *parents, last = name.split(".")
        part: Any = kept
        for parent in parents:
            part = part.get(parent) if isinstance(part, dict) else None
            if isinstance(part, dict) and "class_path" in part:
                part = part.get("init_args")
        if isinstance(part, dict) and not isinstance(value, Mapping) and not isinstance(part.get(last), Mapping):
            part.pop(last, None)
    return kept


def _network_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a network's size follows from: the model's values, and those that it may take from the data's."""
    data = values.get("data")
    arguments = (data.get("init_args") if isinstance(data, Mapping) else None) or {}
    return {"model": values.get("model"), "data": {key: arguments[key] for key in _LINKED if key in arguments}}


def options_for(job: Job, spec: TableSpec, *parts: Mapping[str, Any]) -> Overrides:
    """Merges a job's options with those of a row and a column.

    A part is flat (for every job), or has one entry per job, with the options of that job.
    """
    merged = dict(job.overrides)
    for part in parts:
        by_job = bool(part) and all(key in spec.jobs for key in part)
        merged.update((part.get(job.name) or {}) if by_job else part)
    return merged


def make_run(
    spec: TableSpec, job: Job, row: Row, column: Column | None, seed: int, extra: Overrides,
    tuned: Overrides | None = None, note: str = "",
) -> Run:  # fmt: skip
    """Builds the run of a cell.

    Args:
        spec: The table.
        job: The cell's job.
        row: The cell's row.
        column: The cell's column; None for the run behind a curve.
        seed: Ignored by jobs that have none.
        extra: Options of the command line, for the trainer's jobs; none takes the place of a ``{checkpoint}``.
        tuned: The row's tuned options, one of its ``tune``.
        note: For messages, after the row's name.
    """
    parts = [row.overrides, column.overrides if column else {}, tuned or {}]
    same = [other for other in spec.rows if other.name == row.name]
    name = f"{row.group}: {row.name}" if row.group and len(same) > 1 else row.name
    name += f" ({note})" if note else ""
    before = None
    if job.after is not None:
        earlier = spec.jobs[job.after]
        # Flat options of a column are of what it measures, not of how that was trained.
        whole = (job.after_overrides, False, job.after_overrides)
        shared = [part if flat else _only(part, spec, earlier) for part, flat in zip(parts, whole, strict=True)]
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
    if job.after is None:  # a row's {checkpoint} is for the job after this one
        options = {key: value for key, value in options.items() if "{checkpoint}" not in str(value)}
    job = replace(job, config=str(options.pop("config", job.config)))
    if job.seeded:  # weights of the user's are for the first run, not in place of what the run before has learned
        options |= {key: value for key, value in extra.items() if "{checkpoint}" not in str(options.get(key))}
    elif job.command == "count":
        options |= {key: value for key, value in extra.items() if key.startswith("model.")}
    return Run(job, options, seed if job.seeded else None, before, used)


def selected(row: Row, only: Sequence[str]) -> bool:
    """Tells whether a row is asked for."""
    return not only or any(fnmatch(row.name, p) or fnmatch(f"{row.group}/{row.name}", p) for p in only)


def matching(spec: TableSpec, patterns: Sequence[str]) -> list[str]:
    """Returns the patterns that match a row of this library."""
    return [p for p in patterns if any(selected(row, [p]) for row in spec.rows if not row.external)]


def check_patterns(spec: TableSpec, only: Sequence[str]) -> None:
    """Refuses patterns that match nothing.

    Raises:
        UserError: A pattern matches no row of this library.
    """
    matched = matching(spec, only)
    for pattern in only:
        if pattern not in matched:
            names = ", ".join(dict.fromkeys(row.name for row in spec.rows if not row.external))
            raise UserError(f"--only {pattern} matches no row of {spec.name}; rows: {names}")
