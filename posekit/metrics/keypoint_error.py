"""Distance of predicted joints from their labels in the crop's pixels: what a short run shows before AP does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from posekit.metrics.rows import RowsMetric, first_of_each

LIMITS = (1, 2, 4)


class KeypointError(RowsMetric):
    """Mean and median distance, and the share of joints within 1, 2 and 4 px, in crop pixels.

    ``error_seen`` looks at joints labelled as seen, the others at all labelled joints. Samples that a distributed
    sampler repeated are dropped by their id. Without any labelled joint all values are NaN.
    """

    higher_is_better = False

    ids: list[Tensor]  # (N, 1)
    errors: list[Tensor]  # (N, K) px
    visible: list[Tensor]  # (N, K)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_rows("errors", torch.float32)
        self.add_rows("ids", torch.int64)
        self.add_rows("visible", torch.int64)

    def update(self, points: Tensor, target: Tensor, visible: Tensor, sample_id: Tensor) -> None:
        """Adds samples.

        Args:
            points: (B, K, 2) predicted, px of the crop.
            target: (B, K, 2) labelled, px of the crop.
            visible: (B, K) in {0, 1, 2}.
            sample_id: (B,) unique per person.
        """
        errors = torch.linalg.vector_norm(points.float() - target.float(), dim=-1)
        self.append(errors=errors, ids=sample_id[:, None], visible=visible)

    def compute(self) -> dict[str, Tensor]:
        """Returns ``error`` and ``error_seen`` (mean px), ``error_median``, and shares ``within_1``, ``_2``, ``_4``."""
        return self.computed()

    def names(self) -> list[str]:
        """Returns the names of the numbers."""
        return ["error", "error_median", "error_seen", *(f"within_{limit}" for limit in LIMITS)]

    def values(self) -> dict[str, float]:
        """Computes the numbers from the rows of all processes."""
        ids, errors, visible = self.rows("ids", 1)[:, 0], self.rows("errors", 1), self.rows("visible", 1)
        first = first_of_each(ids)
        errors, visible = errors[first].flatten(), visible[first].flatten()
        labelled = errors[visible > 0]
        values = {
            "error": labelled.mean(),
            "error_median": _median(labelled),
            "error_seen": errors[visible == 2].mean(),
        }
        values |= {f"within_{limit}": (labelled <= limit).float().mean() for limit in LIMITS}
        return {name: float(value) for name, value in values.items()}


def _median(values: Tensor) -> Tensor:
    """Returns the median (), of an even number the mean of the two in the middle; NaN of none.

    torch's own takes the lower of the two, and its quantiles take 16 million values at most.
    """
    if not len(values):
        return values.new_tensor(float("nan"))
    ordered = values.sort().values
    return (ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2
