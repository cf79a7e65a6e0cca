"""What a table file says: rows, columns, jobs, and the paper's numbers (``examples/tables/README.md``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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
        after_overrides: Whether the earlier job takes flat overrides of the row too (a column's are this job's alone);
            else one run of it serves all cells that have none by its name.
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
        config: Shipped config of which the paper's numbers are shown beside a validation's, or a test's.
        tune: Options to choose among, each flat or by job; the best by :attr:`TableSpec.select` is kept.
        seeds: The only seeds of this row; None where it takes all.
    """

    name: str
    group: str = ""
    overrides: Overrides = field(default_factory=dict)
    paper: dict[str, float] = field(default_factory=dict)
    external: bool = False
    config: str | None = None
    tune: tuple[Overrides, ...] = ({},)
    seeds: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Select:
    """What the best of a row's tuned options is chosen by.

    Attributes:
        job: Name of the job.
        metric: Name among the job's results.
        better: ``higher`` or ``lower``.
    """

    job: str
    metric: str
    better: str = "higher"


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
        select: How tuned rows choose; None where no row is tuned.
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
    select: Select | None = None
