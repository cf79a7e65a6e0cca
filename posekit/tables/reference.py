"""The paper's row for a config, shown beside what a validation measures."""

from __future__ import annotations

from posekit.errors import UserError
from posekit.tables.reader import load_table, shipped_tables


def paper_numbers(config: str) -> tuple[str, dict[str, float]] | None:
    """Finds the paper's numbers for runs of a shipped config.

    Args:
        config: Name of the config without folder and suffix, e.g. ``coco_w32_512``.

    Returns:
        Where the numbers stand, and the numbers by metric (``val/AP``) in the metric's own unit; None where no table
        has a row for the config.
    """
    for name in shipped_tables():
        try:
            spec = load_table(name, real=True)
        except UserError:
            continue  # a broken table is no reason to hide a result
        for row in spec.rows:
            if row.config is not None and row.config.rpartition("/")[2] == config and row.paper:
                scales = {c.name: (c.metric, c.scale) for c in spec.columns}
                numbers = {scales[c][0]: value / scales[c][1] for c, value in row.paper.items()}
                return f"{spec.source} ({row.name})", numbers
    return None
