"""Finding and reading table files (``examples/tables/README.md``)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

from posekit.configs import examples_folder, find_config
from posekit.errors import UserError, one_line, unknown_name, yes_or_no
from posekit.tables.spec import COMMANDS, Column, Curve, Job, Overrides, Row, Select, TableSpec
from posekit.yaml_file import read_yaml


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
    content = read_yaml(path, "table", "title, jobs, columns, rows")
    try:
        return _Reader(short, path).table(content, real)
    except UserError:
        raise
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise UserError(f"table {path}: {one_line(error)}") from None


def _file_of(config: str) -> str:
    """Returns the file that a config's name stands for, or the name where there is none."""
    try:
        return str(Path(find_config(config)).resolve())
    except UserError:
        return config


def _configs_in(entry: Any) -> Iterator[str]:
    """Yields the values of all options ``config`` within an entry, those of lists (``tune``) one by one."""
    parts = entry.items() if isinstance(entry, Mapping) else enumerate(entry) if isinstance(entry, list | tuple) else ()
    for key, value in parts:
        if key != "config":
            yield from _configs_in(value)
        else:
            yield from map(str, value if isinstance(value, list) else [value])


class _Reader:
    """Builds a table's parts from YAML and says where something is wrong."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path

    def fail(self, text: str) -> UserError:
        return UserError(f"table {self.path}: {text if len(text) < 500 else text[:500] + ' …'}")

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

    def some(self, where: str, entry: Any, kind: type[Any]) -> Any:
        """Returns a list or mapping that holds something."""
        if not isinstance(entry, kind) or not entry:
            raise self.fail(f"{where} must {'list entries' if kind is list else 'hold keys'}, not {entry!r}")
        return entry

    def text(self, where: str, value: Any) -> str:
        """Returns text; numbers are names as well."""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self.fail(f"{where} must be text, not {value!r}")
        return str(value)

    def number(self, where: str, value: Any, least: float = -math.inf) -> float:
        """Returns a finite number; YAML takes one like 1e-6 for text."""
        if isinstance(value, str):
            with suppress(ValueError):
                value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
            more = "" if least == -math.inf else f" of at least {least:g}"
            raise self.fail(f"{where} must be a number{more}, not {value!r}")
        return value

    def flag(self, where: str, value: Any) -> bool:
        """Returns true or false; null is false."""
        return bool(yes_or_no(f"table {self.path}", where, value, none=True))

    def options(self, where: str, entry: Any, jobs: Mapping[str, Any] = MappingProxyType({})) -> Overrides:
        """Returns options, flat or by job."""
        entry = {} if entry is None else entry
        if not isinstance(entry, Mapping) or not all(isinstance(key, str) for key in entry if key not in jobs):
            raise self.fail(f"{where} must hold options, not {entry!r}")
        if entry and all(key in jobs for key in entry):
            return {job: self.options(f"{where}.{job}", part) for job, part in entry.items()}
        mixed = [key for key in entry if key in jobs]
        if mixed:
            own, others = ", ".join(map(str, mixed)), ", ".join(key for key in entry if key not in jobs)
            raise self.fail(f"{where} mixes jobs ({own}) with options ({others}): give every option a job")
        return dict(entry)

    def seeds(self, where: str, entry: Any) -> list[int]:
        """Returns seeds: different whole numbers from 0 on."""
        seeds = self.some(where, entry, list)
        if any(type(s) is not int or not 0 <= s < 2**32 for s in seeds) or len(set(seeds)) < len(seeds):
            raise self.fail(f"{where} must be different numbers from 0 on, not {seeds!r}")
        return list(seeds)

    def table(self, content: Mapping[str, Any], real: bool) -> TableSpec:
        """Builds the whole."""
        optional = ("note", "real_note", "seeds", "curve", "plot", "select")
        entry = self.take("the table", content, ("title", "source", "jobs", "columns", "rows"), optional)
        jobs = {name: self.job(name, job, real) for name, job in self.some("jobs", entry["jobs"], dict).items()}
        columns = [self.column(c, jobs, real) for c in self.some("columns", entry["columns"], list)]
        rows = [self.row(r, columns, jobs, real) for r in self.some("rows", entry["rows"], list)]
        for row, given in zip(rows, entry["rows"], strict=True):
            if row.config is not None and not row.external:
                self.check_config(row.name, row.config, given, (entry["columns"], entry["jobs"]))
        for what, names in (("row", [(r.group, r.name) for r in rows]), ("column", [c.name for c in columns])):
            if len(set(names)) != len(names):
                raise self.fail(f"two {what}s have the same name")
        for job in jobs.values():
            self.check_after(job, jobs, [job.overrides, entry["rows"], entry["columns"]])
        self.check_checkpoints(jobs, columns, rows)
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
            seeds=self.seeds("seeds", entry.get("seeds", [0])),
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
        shares = job["command"] in ("validate", "test")  # else a row would show another row's checkpoint
        if job.get("after_overrides") is not None:
            shares = self.flag(f"after_overrides of job {name}", job["after_overrides"])
        return Job(
            name=name,
            command=job["command"],
            config=self.text(f"config of job {name}", job["config"]),
            overrides=self.options(f"overrides of job {name}", job.get("overrides")),
            minutes=float(self.number(f"minutes of job {name}", job.get("minutes", 1.0), 0)),
            after=job.get("after"),
            after_overrides=shares,
            data_folder=self.flag(f"data_folder of job {name}", job.get("data_folder")),
        )

    def check_after(self, job: Job, jobs: Mapping[str, Job], options: Sequence[Any]) -> None:
        """Refuses a job after one that leaves no checkpoint or is itself after another, and a test of no checkpoint."""
        where = f"after of job {job.name}"
        if job.after is None:
            if any("{checkpoint}" in str(value) for value in job.overrides.values()):
                raise self.fail(f"job {job.name} takes {{checkpoint}}, but says not of which job (after)")
            return
        if not isinstance(job.after, str) or job.after not in jobs:
            raise self.fail(str(unknown_name(where, str(job.after), jobs)))
        if job.command in ("validate", "test") and not any("{checkpoint}" in str(part) for part in options):
            text = f'job {job.name} is after {job.after}, but lacks ckpt_path: "{{checkpoint}}" in its overrides'
            raise self.fail(text)
        earlier = jobs[job.after]
        if job.command == "count":
            raise self.fail(f"{where}: a count starts from no checkpoint")
        if earlier.command != "fit":
            raise self.fail(f"{where}: {earlier.name} leaves no checkpoint, for it is a {earlier.command}, not a fit")
        if earlier.after is not None:
            chain = f"{earlier.name} is itself after {earlier.after}"
            raise self.fail(f"{where}: {chain}, but only two jobs may follow one another")

    def check_checkpoints(self, jobs: Mapping[str, Job], columns: Sequence[Column], rows: Sequence[Row]) -> None:
        """Refuses a ``{checkpoint}`` of a column or row that reaches no job which is after another."""
        parts: list[tuple[str, Overrides, list[str]]] = [
            (f"column {column.name}", column.overrides, [column.job]) for column in columns
        ]
        for row in rows:
            parts += [(f"row {row.name}", part, list(jobs)) for part in (row.overrides, *row.tune)]
        for where, part, reached in parts:
            flat = not part or not all(key in jobs for key in part)
            by_job = dict.fromkeys(reached, part) if flat else part
            takers = [job for job, options in by_job.items() if "{checkpoint}" in str(options)]
            lost = [job for job in takers if jobs[job].after is None]
            if lost and not (flat and len(lost) < len(takers)):  # a row's is for those of its jobs that come after one
                raise self.fail(f"{where} takes {{checkpoint}}, but job {lost[0]} does not say of which job (after)")

    def column(self, entry: Any, jobs: Mapping[str, Job], real: bool) -> Column:
        optional = ("job", "scale", "digits", "better", "overrides")
        column = self.take("a column", entry, ("name", "metric"), (*optional, "real"))
        column["name"] = name = self.text("name of a column", column["name"])
        other = column.pop("real", None)
        if real and other is not None:
            column |= self.take(f"real of column {name}", other, (), ("metric", *optional))
        column["metric"] = self.text(f"metric of column {name}", column["metric"])
        column["scale"] = self.number(f"scale of column {name}", column.get("scale", 1.0))
        digits = column.get("digits", 1)
        if type(digits) is not int or not 0 <= digits <= 12:
            raise self.fail(f"digits of column {name} must be a whole number from 0 to 12, not {digits!r}")
        column.setdefault("job", next(iter(jobs)))
        if column["job"] not in jobs:
            raise self.fail(str(unknown_name(f"job of column {column['name']}", column["job"], jobs)))
        if column.get("better", "higher") not in ("higher", "lower", None):
            raise self.fail(f"better of column {column['name']} must be higher, lower or null")
        column["overrides"] = self.options(f"overrides of column {name}", column.get("overrides"), jobs)
        return Column(**column)

    def row(self, entry: Any, columns: list[Column], jobs: Mapping[str, Job], real: bool) -> Row:
        optional = ("group", "overrides", "real", "paper", "external", "config", "tune", "seeds")
        row = self.take("a row", entry, ("name",), optional)
        if real and row.get("real") is not None:
            row["overrides"] = row["real"]
        row["name"] = self.text("name of a row", row["name"])
        where = f"paper of row {row['name']}"
        given = self.some(where, row["paper"], dict) if row.get("paper") else {}
        paper = {str(name): None if v is None else self.number(f"{name} in {where}", v) for name, v in given.items()}
        for name in paper:
            if name not in {c.name for c in columns}:
                raise self.fail(
                    str(unknown_name(f"column in paper of row {row['name']}", name, [c.name for c in columns]))
                )
        external = self.flag(f"external of row {row['name']}", row.get("external"))
        for key in ("overrides", "tune", "seeds"):
            if external and row.get(key):
                raise self.fail(f"row {row['name']} is external, so it has no {key}")
        tune = self.tune(f"tune of row {row['name']}", row.get("tune") or {}, jobs)
        seeds = row.get("seeds")
        return Row(
            name=row["name"],
            group=self.text(f"group of row {row['name']}", row.get("group", "")),
            overrides=self.options(f"overrides of row {row['name']}", row.get("overrides"), jobs),
            paper={name: float(value) for name, value in paper.items() if value is not None},
            external=external,
            config=None if row.get("config") is None else self.text(f"config of row {row['name']}", row["config"]),
            tune=({},) if real else tune,  # on real data the config's value, the paper's, stands
            seeds=None if seeds is None else tuple(self.seeds(f"seeds of row {row['name']}", seeds)),
        )

    def check_config(self, name: str, config: str, row: Mapping[str, Any], others: Iterable[Any]) -> None:
        """Refuses a row's ``config`` that is nowhere among what its jobs run: it is no option of theirs.

        Args:
            name: Of the row.
            config: The value.
            row: The row's entry, as read.
            others: The columns' and jobs' entries, as read.
        """
        options = row.get("overrides")
        replaced = isinstance(options, Mapping) and "config" in options  # in every job
        given = [row.get(key) for key in ("overrides", "tune", "real")] + ([] if replaced else list(others))
        ran = list(dict.fromkeys(_configs_in(given)))
        if _file_of(config) not in map(_file_of, ran):
            raise self.fail(
                f"config of row {name} is {config}, but its jobs run {', '.join(ran)}: to run another config, write "
                f"overrides: {{config: {config}}}"
            )

    def tune(self, where: str, entry: Any, jobs: Mapping[str, Job]) -> tuple[Overrides, ...]:
        """Returns every combination of the listed values, flat or by job as they are listed."""
        if not isinstance(entry, Mapping):
            raise self.fail(f"{where} must hold options and their values, not {entry!r}")
        entry = self.options(where, entry, jobs)
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
        select["metric"] = self.text("metric of select", select["metric"])
        return Select(**select)

    def curve(self, entry: Any, jobs: Mapping[str, Job]) -> Curve:
        curve = self.take("curve", entry, ("job", "x", "y"), ())
        if curve["job"] not in jobs:
            raise self.fail(str(unknown_name("job of curve", curve["job"], jobs)))
        return Curve(curve["job"], self.text("x of curve", curve["x"]), self.text("y of curve", curve["y"]))

    def plot(self, entry: Any, columns: list[Column]) -> tuple[str, str]:
        plot = self.take("plot", entry, ("x", "y"), ())
        for axis in ("x", "y"):
            if plot[axis] not in {c.name for c in columns}:
                raise self.fail(str(unknown_name(f"column of plot.{axis}", plot[axis], [c.name for c in columns])))
        return plot["x"], plot["y"]
