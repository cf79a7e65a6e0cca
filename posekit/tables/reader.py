"""Finding and reading table files (``examples/tables/README.md``)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from posekit.cli.configs import examples_folder
from posekit.errors import UserError, unknown_name
from posekit.tables.spec import COMMANDS, Column, Curve, Job, Overrides, Row, Select, TableSpec


def tables_folder() -> Path | None:
    """Returns the folder of shipped tables, or None."""
    examples = examples_folder()
    return examples / "tables" if examples is not None and (examples / "tables").is_dir() else None


def shipped_tables() -> dict[str, Path]:
    """Returns the shipped tables by name, e.g. ``hdm/table1``."""
    folder = tables_folder()
    if folder is None:
        return {}
    return {p.relative_to(folder).with_suffix("").as_posix(): p for p in sorted(folder.rglob("*.yaml"))}


def find_table(name: str) -> tuple[str, Path]:
    """Resolves a table's name: a shipped one, or a file.

    Raises:
        UserError: There is neither; the message has the nearest names.
    """
    shipped = shipped_tables()
    short = name.removeprefix("./").removeprefix("examples/tables/").removesuffix(".yaml")
    if short in shipped:
        return short, shipped[short]
    if Path(name).is_file():
        return Path(name).stem, Path(name)
    raise unknown_name("table", name, shipped)


def load_table(name: str, real: bool = False) -> TableSpec:
    """Reads and checks a table file.

    Args:
        name: Shipped table or file.
        real: Take each job's form on real data (its ``real`` entry).

    Raises:
        UserError: The file is no YAML, or an entry is missing, unknown or of the wrong kind.
    """
    short, path = find_table(name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"table {path} is not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(content, dict):
        raise UserError(f"table {path} holds no keys (title, jobs, columns, rows)")
    try:
        return _Reader(short, path).table(content, real)
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"table {path}: {error}") from None


class _Reader:
    """Builds a table's parts from YAML and says where something is wrong."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path

    def fail(self, text: str) -> UserError:
        return UserError(f"table {self.path}: {text}")

    def take(self, where: str, entry: Any, required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Any]:
        """Checks an entry's keys."""
        if not isinstance(entry, Mapping):
            raise self.fail(f"{where} must hold keys, not {entry!r}")
        for key in required:
            if key not in entry:
                raise self.fail(f"{where} lacks {key!r}")
        for key in entry:
            if key not in (*required, *optional):
                raise self.fail(str(unknown_name(f"key of {where}", str(key), (*required, *optional))))
        return dict(entry)

    def table(self, content: Mapping[str, Any], real: bool) -> TableSpec:
        """Builds the whole."""
        optional = ("note", "real_note", "seeds", "curve", "plot", "select")
        entry = self.take("the table", content, ("title", "source", "jobs", "columns", "rows"), optional)
        jobs = {name: self.job(name, job, real) for name, job in dict(entry["jobs"]).items()}
        columns = [self.column(c, jobs) for c in entry["columns"]]
        rows = [self.row(r, columns, jobs, real) for r in entry["rows"]]
        for what, names in (("row", [(r.group, r.name) for r in rows]), ("column", [c.name for c in columns])):
            if len(set(names)) != len(names):
                raise self.fail(f"two {what}s have the same name")
        for job in jobs.values():
            if job.after is not None and job.after not in jobs:
                raise self.fail(str(unknown_name(f"after of job {job.name}", job.after, jobs)))
        if not entry.get("select") and any(len(row.tune) > 1 for row in rows):
            raise self.fail("a row is tuned, so the table needs select (metric, better)")
        return TableSpec(
            name=self.name,
            title=str(entry["title"]),
            source=str(entry["source"]),
            note=" ".join(str(entry.get("real_note" if real else "note", "")).split()),
            jobs=jobs,
            columns=columns,
            rows=rows,
            seeds=[int(s) for s in entry.get("seeds", [0])],
            real=real,
            curve=self.curve(entry["curve"], jobs) if entry.get("curve") else None,
            plot=self.plot(entry["plot"], columns) if entry.get("plot") else None,
            select=self.select(entry["select"], jobs) if entry.get("select") else None,
        )

    def job(self, name: str, entry: Any, real: bool) -> Job:
        optional = ("overrides", "minutes", "after", "after_overrides")
        job = self.take(f"job {name}", entry, ("command", "config"), (*optional, "real"))
        if real and job.get("real") is not None:
            job |= self.take(f"real of job {name}", job["real"], (), (*optional, "config", "data_folder"))
        if job["command"] not in COMMANDS:
            raise self.fail(str(unknown_name(f"command of job {name}", str(job["command"]), COMMANDS)))
        return Job(
            name=name,
            command=job["command"],
            config=str(job["config"]),
            overrides=dict(job.get("overrides") or {}),
            minutes=float(job.get("minutes", 1.0)),
            after=job.get("after"),
            after_overrides=bool(job.get("after_overrides", False)),
            data_folder=bool(job.get("data_folder", False)),
        )

    def column(self, entry: Any, jobs: Mapping[str, Job]) -> Column:
        optional = ("job", "scale", "digits", "better", "overrides")
        column = self.take("a column", entry, ("name", "metric"), optional)
        column["name"] = str(column["name"])
        column.setdefault("job", next(iter(jobs)))
        if column["job"] not in jobs:
            raise self.fail(str(unknown_name(f"job of column {column['name']}", column["job"], jobs)))
        if column.get("better", "higher") not in ("higher", "lower", None):
            raise self.fail(f"better of column {column['name']} must be higher, lower or null")
        column["overrides"] = dict(column.get("overrides") or {})
        return Column(**column)

    def row(self, entry: Any, columns: list[Column], jobs: Mapping[str, Job], real: bool) -> Row:
        optional = ("group", "overrides", "real", "paper", "external", "config", "tune", "seeds")
        row = self.take("a row", entry, ("name",), optional)
        if real and row.get("real") is not None:
            row["overrides"] = row["real"]
        paper = {str(name): value for name, value in dict(row.get("paper") or {}).items()}
        for name in paper:
            if name not in {c.name for c in columns}:
                raise self.fail(
                    str(unknown_name(f"column in paper of row {row['name']}", name, [c.name for c in columns]))
                )
        for key in ("overrides", "tune", "seeds"):
            if row.get("external") and row.get(key):
                raise self.fail(f"row {row['name']} is external, so it has no {key}")
        tune = self.tune(f"tune of row {row['name']}", row.get("tune") or {}, jobs)
        return Row(
            name=str(row["name"]),
            group=str(row.get("group", "")),
            overrides=dict(row.get("overrides") or {}),
            paper={name: float(value) for name, value in paper.items() if value is not None},
            external=bool(row.get("external", False)),
            config=row.get("config"),
            tune=({},) if real else tune,  # on real data the config's value, the paper's, stands
            seeds=tuple(int(s) for s in row["seeds"]) if row.get("seeds") is not None else None,
        )

    def tune(self, where: str, entry: Any, jobs: Mapping[str, Job]) -> tuple[Overrides, ...]:
        """Returns every combination of the listed values, flat or by job as they are listed."""
        if not isinstance(entry, Mapping):
            raise self.fail(f"{where} must hold options and their values, not {entry!r}")
        by_job = bool(entry) and all(key in jobs for key in entry)
        listed = [(job, dict(part)) for job, part in entry.items()] if by_job else [(None, dict(entry))]
        names = [(job, option) for job, part in listed for option in part]
        for _, part in listed:
            for option, values in part.items():
                if not isinstance(values, list) or len(values) < 2:
                    raise self.fail(f"{where}: {option} must list two values or more, not {values!r}")
        combinations = []
        for values in product(*(values for _, part in listed for values in part.values())):
            options: Overrides = {}
            for (job, option), value in zip(names, values, strict=True):
                (options if job is None else options.setdefault(job, {}))[option] = value
            combinations.append(options)
        return tuple(combinations)

    def select(self, entry: Any, jobs: Mapping[str, Job]) -> Select:
        select = self.take("select", entry, ("metric",), ("better", "job"))
        select.setdefault("job", next(iter(jobs)))
        if select["job"] not in jobs:
            raise self.fail(str(unknown_name("job of select", select["job"], jobs)))
        if select.get("better", "higher") not in ("higher", "lower"):
            raise self.fail("better of select must be higher or lower")
        return Select(**select)

    def curve(self, entry: Any, jobs: Mapping[str, Job]) -> Curve:
        curve = self.take("curve", entry, ("job", "x", "y"), ())
        if curve["job"] not in jobs:
            raise self.fail(str(unknown_name("job of curve", curve["job"], jobs)))
        return Curve(**curve)

    def plot(self, entry: Any, columns: list[Column]) -> tuple[str, str]:
        plot = self.take("plot", entry, ("x", "y"), ())
        for axis in ("x", "y"):
            if plot[axis] not in {c.name for c in columns}:
                raise self.fail(str(unknown_name(f"column of plot.{axis}", plot[axis], [c.name for c in columns])))
        return plot["x"], plot["y"]
