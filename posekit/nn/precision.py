"""Islands of full precision under autocast."""

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
