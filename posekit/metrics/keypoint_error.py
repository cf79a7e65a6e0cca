"""Distance of predicted joints from their labels in the crop's pixels: what a short run shows before AP does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class KeypointError(Metric):
    """Mean and median distance, and the share of joints within 1, 2 and 4 px, in crop pixels.

    ``error_seen`` looks at joints labelled as seen, the others at all labelled joints. Samples that a distributed
    sampler repeated are dropped by their id. Without any labelled joint all values are NaN.
    """

    higher_is_better = False
    full_state_update = False

    ids: list[Tensor]
    errors: list[Tensor]
    visible: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("ids", "errors", "visible"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, points: Tensor, target: Tensor, visible: Tensor, sample_id: Tensor) -> None:
        """Adds samples.

        Args:
            points: (B, K, 2) predicted, px of the crop.
            target: (B, K, 2) labelled, px of the crop.
            visible: (B, K) in {0, 1, 2}.
            sample_id: (B,) unique per person.
        """
        self.errors = [*self.errors, torch.linalg.vector_norm(points.float() - target.float(), dim=-1)]
        self.visible = [*self.visible, visible]
        self.ids = [*self.ids, sample_id]

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        if not self.ids:  # a process without samples still takes part in the gathering
            self.ids = [torch.zeros(0, dtype=torch.int64, device=self.device)]
            self.errors = [torch.zeros(0, 1, device=self.device)]
            self.visible = [torch.zeros(0, 1, dtype=torch.int64, device=self.device)]
        super()._sync_dist(*args, **kwargs)

    def compute(self) -> dict[str, Tensor]:
        """Returns ``error`` and ``error_seen`` (mean), ``error_median``, ``within_1``, ``within_2``, ``within_4``."""
        if len(self.ids) == 0:
            errors, visible = torch.zeros(0, device=self.device), torch.zeros(0, device=self.device)
        else:
            ids, all_errors, all_visible = (_cat(state) for state in (self.ids, self.errors, self.visible))
            first = _first_of_each(ids)
            errors, visible = all_errors[first].flatten(), all_visible[first].flatten()
        labelled = errors[visible > 0]
        median = labelled.median() if len(labelled) else torch.tensor(float("nan"), device=self.device)
        values = {"error": labelled.mean(), "error_median": median, "error_seen": errors[visible == 2].mean()}
        for limit in (1, 2, 4):
            values[f"within_{limit}"] = (labelled <= limit).float().mean()
        return values


def _cat(state: list[Tensor] | Tensor) -> Tensor:
    return state if isinstance(state, Tensor) else torch.cat(state)


def _first_of_each(ids: Tensor) -> Tensor:
    """Returns the index of the first occurrence of each id, in ascending order of index."""
    order = torch.argsort(ids, stable=True)
    ranked = ids[order]
    is_first = torch.ones_like(ranked, dtype=torch.bool)
    is_first[1:] = ranked[1:] != ranked[:-1]
    return order[is_first].sort().values
