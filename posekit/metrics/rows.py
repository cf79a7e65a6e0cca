"""RowsMetric: what posekit's metrics share, torchmetrics states that are flat rows and survive distributed runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor
from torchmetrics import Metric
from typing_extensions import Self

from posekit.arrays import Bool, Int64


class RowsMetric(Metric):
    """A metric whose states are lists of rows, concatenated at the end.

    The rules that make a distributed run give the numbers of a single one (each was a trap; see the tests):

    - States are lists replaced by longer ones, never changed in place: ``ddp_spawn`` on the CPU shares their memory.
    - A process without any sample contributes rows of shape (0, ...): gloo kills a process that contributes nothing.
      The trailing shape is agreed on first, since such a process cannot know it.
    - Rows carry sample ids, so that the samples which a distributed sampler repeats to fill its last round are dropped.
    - The numbers are computed by the first process of the group alone, and sent to the others.

    Subclasses call :meth:`add_rows` in the constructor, :meth:`append` in ``update``, and implement :meth:`names` and
    :meth:`values`.
    """

    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._row_dtypes: dict[str, torch.dtype] = {}

    def add_rows(self, name: str, dtype: torch.dtype = torch.float64) -> None:
        """Declares a state of rows."""
        self.add_state(name, default=[], dist_reduce_fx="cat")
        self._row_dtypes[name] = dtype

    def append(self, **rows: Tensor) -> None:
        """Adds (N, ...) rows to the named states. They are copied: later changes of the argument do not matter."""
        for name, value in rows.items():
            copy = value.detach().to(device=self.device, dtype=self._row_dtype(name), copy=True)
            setattr(self, name, [*_pieces(getattr(self, name)), copy])

    def rows(self, name: str, *trailing: int) -> Tensor:
        """Returns all rows of a state, on the CPU; (0, ``*trailing``) without any."""
        pieces = _pieces(getattr(self, name))
        if not any(len(p) for p in pieces):  # also where no process had any, so that the trailing shape is unknown
            return torch.zeros(0, *trailing, dtype=self._row_dtypes[name])
        return torch.cat(list(pieces)).cpu().to(self._row_dtypes[name])

    def emptied(self) -> Self:
        """Returns a copy without rows and whatever else the metric knows of the data; the metric keeps them."""
        new = copy(self)
        for name in self._row_dtypes:
            setattr(new, name, [])  # `reset` would empty the list itself, which both have
        new.reset()
        return new

    def names(self) -> list[str]:
        """Returns the names of the numbers, the same on every process."""
        raise NotImplementedError

    def values(self) -> dict[str, float]:
        """Computes the numbers from the rows of all processes."""
        raise NotImplementedError

    def compute(self) -> Any:
        """Returns the numbers by name, as float64 scalars on the metric's device."""
        return self.computed()

    def computed(self) -> dict[str, Tensor]:
        """Computes on the first process and broadcasts, where the states have been synchronised."""
        names = self.names()
        distributed = self._is_synced and torch.distributed.is_available() and torch.distributed.is_initialized()
        result = torch.full((len(names) + 1,), float("nan"), dtype=self._float(), device=self.device)
        failure: Exception | None = None
        if not distributed or torch.distributed.get_rank(self.process_group) == 0:
            try:
                values = self.values()
                result = torch.tensor([0.0, *(values[n] for n in names)], dtype=self._float(), device=self.device)
            except Exception as error:  # the others wait for the broadcast: tell them before raising
                failure = error
        if distributed:
            group = self.process_group
            source = 0 if group is None else torch.distributed.get_global_rank(group, 0)
            torch.distributed.broadcast(result, src=source, group=group)
        if failure is not None:
            raise failure
        if torch.isnan(result[0]):
            raise RuntimeError(f"{type(self).__name__} failed on the first process; its message tells why")
        return dict(zip(names, result[1:].unbind(), strict=True))

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draws the numbers (of one result, or of a list of results over time) with matplotlib.

        Args:
            val: A result of :meth:`compute` or a list of such; None computes.
            ax: The axes to draw on; None makes a figure.

        Returns:
            Figure and axes.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
        """
        return self._plot(val, ax)

    def _float(self) -> torch.dtype:
        return torch.float32 if self.device.type == "mps" else torch.float64

    def _row_dtype(self, name: str) -> torch.dtype:
        dtype = self._row_dtypes[name]
        return self._float() if dtype == torch.float64 else dtype

    def _sync_dist(self, dist_sync_fn: Callable[..., Any] | None = None, process_group: Any = None) -> None:
        from torchmetrics.utilities.distributed import gather_all_tensors

        gather = dist_sync_fn or gather_all_tensors
        shapes = torch.full((len(self._row_dtypes), 4), -1, dtype=torch.int64, device=self.device)
        for i, name in enumerate(self._row_dtypes):
            pieces = _pieces(getattr(self, name))
            if pieces:
                trailing = torch.tensor([pieces[0].ndim - 1, *pieces[0].shape[1:]], dtype=torch.int64)
                shapes[i, : len(trailing)] = trailing.to(shapes.device)
        known = torch.stack(list(gather(shapes, group=process_group or self.process_group))).amax(0).tolist()
        for (name, _), (ndim, *sizes) in zip(self._row_dtypes.items(), known, strict=True):
            if not _pieces(getattr(self, name)):
                empty = torch.zeros(0, *sizes[: max(ndim, 0)], dtype=self._row_dtype(name), device=self.device)
                setattr(self, name, [empty])
        super()._sync_dist(gather, process_group=process_group)


def _pieces(state: list[Tensor] | Tensor) -> Sequence[Tensor]:
    return [state] if isinstance(state, Tensor) else state


def updated_anywhere(*metrics: Metric) -> list[bool]:
    """Tells which metrics any process has added to: all have to take part in computing those.

    A collective call in a distributed run.
    """
    called = torch.tensor([metric.update_called for metric in metrics], dtype=torch.int64)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        called = called.to(metrics[0].device)
        torch.distributed.all_reduce(called, torch.distributed.ReduceOp.MAX)
    return [bool(value) for value in called.tolist()]


def process_rank() -> int:
    """Returns this process's rank, 0 without a process group."""
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if ready else 0


def first_of_each(ids: Tensor) -> Tensor:
    """Returns the row of the first occurrence of each id (N,), ascending; rows with a negative id are all kept.

    >>> first_of_each(torch.tensor([3, 5, 3, -1, -1, 5, 4])).tolist()
    [0, 1, 3, 4, 6]
    """
    order = torch.argsort(ids, stable=True)
    ranked = ids[order]
    keep = torch.ones_like(ranked, dtype=torch.bool)
    keep[1:] = (ranked[1:] != ranked[:-1]) | (ranked[1:] < 0)
    return order[keep].sort().values


def first_dict_of_sample(ids: Int64) -> Bool:
    """Tells which rows (image, sample, dict) come from the first dict that held their sample; all without sample id.

    The rows of one dict stay together: a scene's people share the scene's sample id.
    """
    _, first, inverse = np.unique(ids[:, 1], return_index=True, return_inverse=True)
    keep: Bool = (ids[:, 1] < 0) | (ids[:, 2] == ids[first[inverse], 2])
    return keep
