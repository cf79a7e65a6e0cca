"""Small constants on a tensor's device: made there once and kept, as a copy in every step would wait for it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch._subclasses import FakeTensor


def constants(values: Sequence[float], like: Tensor, dtype: torch.dtype = torch.int64) -> Tensor:
    """Returns a few numbers (N,) on the device of ``like``, kept as :func:`kept` does.

    What is traced fills them in its graph: a list of numbers would be copied to the device in each pass.
    """
    if _is_traced(like):
        return torch.stack([like.new_full((), value, dtype=dtype) for value in values])
    return _unchanged(_numbers(tuple(values), dtype, like.device))


def kept(make: Callable[..., Tensor], like: Tensor, *arguments: Hashable) -> Tensor:
    """Returns what a function makes of plain values, of the device and type of ``like``, made at the first call alone.

    It is made on the CPU, which has float64 whatever the device, and sent without waiting. The result must not be
    changed in place. Of many tables that not asked for longest makes way. What is traced (``torch.compile``, export)
    makes it in its graph, on the device.

    Args:
        make: A module's function, called with the arguments and a device.
        like: Whose device and type.
        arguments: Numbers and None.
    """
    if _is_traced(like):
        return make(*arguments, like.device).to(like.dtype)
    return _unchanged(_table(make, arguments, like.dtype, like.device))


def finest(device: torch.device) -> torch.dtype:
    """Returns float64, or float32 where the device has no other (MPS)."""
    return torch.float32 if device.type == "mps" else torch.float64


@lru_cache(maxsize=1024)
def _numbers(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return _sent(lambda: torch.tensor(values, dtype=torch.float64, device="cpu"), dtype, device)


@lru_cache(maxsize=128)
def _table(
    make: Callable[..., Tensor], arguments: tuple[Hashable, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    return _sent(lambda: make(*arguments, torch.device("cpu")), dtype, device)


def _sent(make: Callable[[], Tensor], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():  # it outlives a validation, and training differentiates with it
        return make().to(dtype, copy=True).to(device, non_blocking=True)


def _unchanged(found: Tensor) -> Tensor:
    assert found._version == 0, "a constant that others use, too, has been changed in place"
    return found


def _is_traced(like: Tensor) -> bool:
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None or isinstance(like, FakeTensor)
