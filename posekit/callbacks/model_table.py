"""ModelTable: what a model is made of, before training starts."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import ModelSummary
from rich.console import Console
from rich.table import Table

_SHOWN = {"Name": "name", "Type": "type", "Params": "parameters", "Mode": "mode"}


class ModelTable(ModelSummary):
    """Prints the parts of a model and their parameters.

    Lightning's own table counts operations only of modules with an ``example_input_array``, and says 0 for all others;
    ``posekit bench --config`` counts them.

    Args:
        max_depth: How deep parts of parts are listed; -1 lists all, 0 nothing.
    """

    def __init__(self, max_depth: int = 1) -> None:
        super().__init__(max_depth)

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]],
        total_parameters: int,
        trainable_parameters: int,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Prints the table; parts without parameters, sizes and operations are left out."""
        columns = {name: values for name, values in summary_data if name in _SHOWN}
        table = Table()
        for name in columns:
            table.add_column(_SHOWN[name], justify="right" if name == "Params" else "left", no_wrap=name == "Name")
        for row, count in zip(zip(*columns.values(), strict=True), columns["Params"], strict=True):
            if count.strip() != "0":  # metrics and losses
                table.add_row(*row)
        table.caption = f"{total_parameters:,} parameters, {trainable_parameters:,} of them trained"
        Console().print(table)
