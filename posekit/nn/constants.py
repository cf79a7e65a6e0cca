"""Small constants on a tensor's device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def constants(values: Sequence[int], like: Tensor) -> Tensor:
    """Returns a few integers (N,) on the device of ``like``, filled there: ``torch.tensor`` would copy and wait."""
    return torch.stack([like.new_full((), value, dtype=torch.int64) for value in values])
