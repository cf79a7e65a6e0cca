"""ProgressLine: a progress bar of one line, and what keeps a bar and other lines of a terminal apart."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import MetricsTextColumn
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from rich import get_console
from rich.file_proxy import FileProxy
from rich.progress import BarColumn, Task
from rich.table import Column
from rich.text import Text


class ProgressLine(RichProgressBar):
    """Lightning's bar in one line: the numbers that do not fit are cut off, and the logger's version is left out."""

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Returns the numbers shown: the run's folder is named at its end."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """Returns the columns before the numbers, none of which is ever folded; the bar grows with the terminal."""
        columns: list[Any] = super().configure_columns(trainer)
        for column in columns:
            column._table_column = Column(no_wrap=True)
            if isinstance(column, BarColumn):
                column.bar_width = max(10, min(40, get_console().width // 6))
        return columns

    def _init_progress(self, trainer: Trainer) -> None:
        super()._init_progress(trainer)
        known = self._metric_component
        if self.progress is not None and known is not None and not isinstance(known, _Numbers):
            self._metric_component = _Numbers(trainer, known._style, known._text_delimiter, known._metrics_format)
            self.progress.columns = (*self.progress.columns[:-1], self._metric_component)


class _Numbers(MetricsTextColumn):
    """Numbers in one line, cut off at the terminal's edge."""

    def render(self, task: Task) -> Text:
        text = super().render(task)
        text.no_wrap, text.overflow = True, "ellipsis"
        return text


def end_progress(trainer: Any) -> None:
    """Leaves a bar as it stands, so that what is printed next begins in a line of its own below it.

    One that goes on being drawn would write over those lines at its end.

    Args:
        trainer: At the end of what the bar is of.
    """
    bar = getattr(trainer, "progress_bar_callback", None)
    if isinstance(bar, RichProgressBar):
        bar._stop_progress()
    elif isinstance(bar, TQDMProgressBar):
        for each in vars(bar).values():
            if isinstance(each, Tqdm):
                each.close()


def log_above_the_bar() -> None:
    """Has Lightning's loggers, which posekit's callbacks use, write above a bar while one is drawn.

    Their handlers hold stderr as it was when Lightning was imported, and would write behind the bar.
    """
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        for handler in logging.getLogger(name).handlers:
            # Of its own kind alone: others, which keep what they write, need their stream.
            if type(handler) is logging.StreamHandler and not isinstance(handler.stream, _AboveTheBar):
                handler.setStream(_AboveTheBar(handler.stream))


class _AboveTheBar:
    """A stream of whole lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Writes lines; in a terminal by what draws the bar, which puts it below them again."""
        if not self._stream.isatty():
            self._stream.write(text)
        elif isinstance(sys.stderr, FileProxy):  # which Rich puts there for as long as it draws
            get_console().print(Text(text), end="", soft_wrap=True)
        else:
            with Tqdm.external_write_mode(self._stream):
                self._stream.write(text)

    def flush(self) -> None:
        """Writes out what is buffered."""
        self._stream.flush()
