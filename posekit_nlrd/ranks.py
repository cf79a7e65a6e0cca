"""What the processes of one run have to agree on, and what nobody else averages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


def mean_over_ranks(values: Tensor) -> Tensor:
    """Returns the mean of a tensor over all processes, the same bits on each; the tensor itself where there is one."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


@torch.no_grad()
def share(tensors: Sequence[Tensor]) -> None:
    """Replaces float tensors by their means over all processes, in one exchange."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    mean = mean_over_ranks(torch.cat([x.detach().flatten().float() for x in tensors]))
    for x, part in zip(tensors, mean.split([x.numel() for x in tensors]), strict=True):
        x.copy_(part.reshape(x.shape))


def float_buffers(module: nn.Module) -> list[Tensor]:
    """Returns the float buffers of a module that its state holds: the running statistics of its norms."""
    state = module.state_dict(keep_vars=True)
    return [x for x in state.values() if not isinstance(x, nn.Parameter) and x.is_floating_point()]
