"""What a table file says: rows, columns, jobs, and the paper's numbers (``examples/tables/README.md``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from posekit.cli.configs import examples_folder
from posekit.errors import UserError, unknown_name

COMMANDS = ("fit", "validate", "test", "count", "bench")
Overrides = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A kind of run.

    Attributes:
        name: Its name in the file.
        command: ``fit``, ``validate`` or ``test`` (the trainer's), ``count`` (parameters and multiply-adds, no run) or
            ``bench`` (a named benchmark).
        config: Shipped config or file; of ``bench`` the benchmark's name.
        overrides: Command line options, e.g. ``{model.loss: hdm}``; of ``bench`` the benchmark's arguments.
        minutes: Estimated minutes of one run on two CPU cores.
        after: Job whose checkpoint this one starts from: ``{checkpoint}`` in the overrides becomes its path.
        after_overrides: Whether the earlier job takes the row's and column's overrides too, or is one for all cells.
        data_folder: ``data.root`` is the folder of several data sets, which the config names as ``data/…``.
    """

    name: str
    command: str
    config: str
    overrides: Overrides
    minutes: float
    after: str | None = None
    after_overrides: bool = False
    data_folder: bool = False

    @property
    def seeded(self) -> bool:
        """Whether runs of several seeds differ."""
        return self.command in ("fit", "validate", "test")


@dataclass(frozen=True)
class Column:
    """A column: a metric of a job, or a setting of one.

    Attributes:
        name: Heading.
        job: Name of the job.
        metric: Name among the job's results, e.g. ``val/AP``.
        scale: Factor from the job's unit to the column's.
        digits: Decimals shown.
        better: ``higher``, ``lower``, or None where no order is meant.
        overrides: Options of the cells of this column, flat or by job.
    """

    name: str
    job: str
    metric: str
    scale: float = 1.0
    digits: int = 1
    better: str | None = "higher"
    overrides: Overrides = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A row: a setting, or another system of which only the paper's number is shown.

    Attributes:
        name: Heading.
        group: Block of rows that it belongs to.
        overrides: Options of its cells, flat or by job; the option ``config`` takes another config for them.
        paper: The paper's numbers by column name.
        external: A system outside this library.
        config: Shipped config of which the paper's numbers are shown beside a validation's.
    """

    name: str
    group: str = ""
    overrides: Overrides = field(default_factory=dict)
    paper: dict[str, float] = field(default_factory=dict)
    external: bool = False
    config: str | None = None


@dataclass(frozen=True)
class Curve:
    """A figure of one quantity against another over the epochs of each row's run.

    Attributes:
        job: Name of the job.
        x: Metric on the horizontal axis.
        y: Metric on the vertical axis.
    """

    job: str
    x: str
    y: str


@dataclass(frozen=True)
class TableSpec:
    """A table as its file describes it; see the attributes of its parts.

    Attributes:
        name: e.g. ``hdm/table1``.
        title: Heading.
        source: Where the paper's numbers stand.
        note: What a reader must know before comparing.
        jobs: By name.
        columns: In order.
        rows: In order.
        seeds: Seeds run by default.
        real: Whether this is the form on real data.
        curve: Drawn and judged beside the table, or None.
        plot: Columns on the horizontal and vertical axis of the plot; None plots columns over rows.
    """

    name: str
    title: str
    source: str
    note: str
    jobs: dict[str, Job]
    columns: list[Column]
    rows: list[Row]
    seeds: list[int]
    real: bool = False
    curve: Curve | None = None
    plot: tuple[str, str] | None = None


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
        optional = ("note", "real_note", "seeds", "curve", "plot")
        entry = self.take("the table", content, ("title", "source", "jobs", "columns", "rows"), optional)
        jobs = {name: self.job(name, job, real) for name, job in dict(entry["jobs"]).items()}
        columns = [self.column(c, jobs) for c in entry["columns"]]
        rows = [self.row(r, columns, real) for r in entry["rows"]]
        for what, names in (("row", [(r.group, r.name) for r in rows]), ("column", [c.name for c in columns])):
            if len(set(names)) != len(names):
                raise self.fail(f"two {what}s have the same name")
        for job in jobs.values():
            if job.after is not None and job.after not in jobs:
                raise self.fail(str(unknown_name(f"after of job {job.name}", job.after, jobs)))
        seeds = entry.get("seeds", [0])
        return TableSpec(
            name=self.name,
            title=str(entry["title"]),
            source=str(entry["source"]),
            note=" ".join(str(entry.get("real_note" if real else "note", "")).split()),
            jobs=jobs,
            columns=columns,
            rows=rows,
            seeds=[int(s) for s in seeds],
            real=real,
            curve=self.curve(entry["curve"], jobs) if entry.get("curve") else None,
            plot=self.plot(entry["plot"], columns) if entry.get("plot") else None,
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

    def row(self, entry: Any, columns: list[Column], real: bool) -> Row:
        row = self.take("a row", entry, ("name",), ("group", "overrides", "real", "paper", "external", "config"))
        if real and row.get("real") is not None:
            row["overrides"] = row["real"]
        paper = {str(name): value for name, value in dict(row.get("paper") or {}).items()}
        for name in paper:
            if name not in {c.name for c in columns}:
                raise self.fail(
                    str(unknown_name(f"column in paper of row {row['name']}", name, [c.name for c in columns]))
                )
        if row.get("external") and row.get("overrides"):
            raise self.fail(f"row {row['name']} is external, so it has no overrides")
        return Row(
            name=str(row["name"]),
            group=str(row.get("group", "")),
            overrides=dict(row.get("overrides") or {}),
            paper={name: float(value) for name, value in paper.items() if value is not None},
            external=bool(row.get("external", False)),
            config=row.get("config"),
        )

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
