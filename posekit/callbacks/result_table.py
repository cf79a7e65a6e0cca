"""ResultTable: the metrics of a run as a table at its end."""

from __future__ import annotations

import math

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from rich.console import Console
from rich.table import Table

from posekit.callbacks.progress import end_progress
from posekit.callbacks.run_folder import run_folder
from posekit.errors import counted
from posekit.json_file import write_json


class ResultTable(Callback):
    """Prints the metrics at the end of a run and keeps them as ``results.json`` in the run's folder (NaN as null).

    Args:
        source: Where the numbers of ``paper`` stand.
        paper: The paper's numbers by metric, shown in a column of their own and marked as the paper's.
    """

    def __init__(self, source: str = "", paper: dict[str, float] | None = None) -> None:
        self.source = source
        self.paper = paper or {}
        self._epochs = 0
        self._validated = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to count epochs and validations."""
        self._epochs, self._validated = 0, False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts an epoch."""
        self._epochs += 1

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the last validation, or says why there was none."""
        end_progress(trainer)
        if not self._validated:
            rank_zero_info(f"no validation took place: {_why_none(trainer, self._epochs)}")
        self._show(trainer, "val/")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows a validation that is not part of a fit."""
        self._validated = self._validated or not trainer.sanity_checking
        if trainer.state.fn == "validate":
            self._show(trainer, "val/")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the test."""
        self._show(trainer, "test/")

    def _show(self, trainer: Trainer, prefix: str) -> None:
        folder = run_folder(trainer)
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(prefix)}
        if not values or not trainer.is_global_zero:
            return
        end_progress(trainer)
        table = Table(title=f"{type(trainer.lightning_module).__name__} on {type(trainer.datamodule).__name__}")  # type: ignore[attr-defined]
        table.add_column("metric")
        table.add_column("value", justify="right")
        paper = {name: f"{value:.4f}" for name, value in self.paper.items() if name in values}
        if paper:
            table.add_column("the paper's", justify="right", style="dim")
        for name, value in values.items():
            ours = "-" if math.isnan(value) or value == -1 else f"{value:.4f}"
            table.add_row(name, ours, *([paper.get(name, "")] if paper else []))
        console = Console()
        console.print(table)
        if paper:
            console.print(f"the paper's numbers: {self.source}", soft_wrap=True, markup=False)
        # One without a monitor calls its latest file the best.
        judging = [keeper for keeper in trainer.checkpoint_callbacks if getattr(keeper, "monitor", None)]
        best = getattr(judging[0], "best_model_path", "") if judging else ""
        if best:
            console.print(f"best checkpoint: {best}", soft_wrap=True, markup=False)
        if folder is not None:
            path = folder / "results.json"
            write_json(path, values)
            console.print(f"results: {path}", soft_wrap=True, markup=False)


def _why_none(trainer: Trainer, epochs: int) -> str:
    """Says why a fit of so many epochs has not validated."""
    had = f"the run had {counted(epochs, 'epoch')}"
    if not trainer.limit_val_batches:
        return f"trainer.limit_val_batches is {trainer.limit_val_batches}"
    every, interval = trainer.check_val_every_n_epoch, getattr(trainer, "val_check_interval", None)
    if interval is None:  # one of time
        return f"trainer.val_check_interval is {vars(trainer)['_val_check_time_interval']:g} s and {had}"
    if every is not None and every > 1:
        return f"trainer.check_val_every_n_epoch is {every} and {had}"
    return f"trainer.val_check_interval is {interval} and {had}, {counted(trainer.global_step, 'step')} in all"
