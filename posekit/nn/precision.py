"""Full precision under autocast: as an island, and of a tensor."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(like: Tensor) -> AbstractContextManager[object]:
    """Returns a context without autocast on a tensor's device (the meta device knows none).

    Where there is no autocast it does nothing: exporters of older torch cannot write the context.
    """
    if like.device.type == "meta" or not torch.is_autocast_enabled(like.device.type):
        return nullcontext()
    return torch.autocast(like.device.type, enabled=False)


def precise(x: Tensor) -> Tensor:
    """Returns half-precision values (autocast) as float32, float64 as it is: positions need more than 11 bits."""
    return x if x.dtype == torch.float64 else x.float()
