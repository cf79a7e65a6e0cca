"""Less memory in training: cheap steps in front of an expensive layer are computed again instead of kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

_inside = threading.local()


class _Enough(Exception):
    """All tensors that the backward pass asks for have been computed."""


def recompute(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Calls ``function(*tensors)`` so that only its arguments are kept for the backward pass.

    The backward pass evaluates the function again up to the point where all that its gradient needs is there. A
    function that ends in a convolution or matrix product is evaluated up to, and not including, that product:
    recomputing ``conv(relu(norm(x)))`` costs the norm and the rectifier, and spares both their results. Within a
    function that is recomputed as a whole, further calls do nothing special.

    It does what ``torch.utils.checkpoint`` does without reentrance; that one's first call imports the compiler, which
    takes 70 MB and a second. A compiled graph decides for itself what it keeps, so the function is called as it is.

    Args:
        function: Must draw no random numbers. Parameters that it uses need not be arguments.
        tensors: Its arguments, at least one; they must not be changed in place afterwards.
    """
    plain = not torch.is_grad_enabled() or torch.compiler.is_compiling() or getattr(_inside, "active", False)
    if plain:
        return function(*tensors)
    saved = _Recomputed(function, tensors)
    with _active(), saved_tensors_hooks(saved.pack, saved.unpack):
        return function(*tensors)


class _Recomputed:
    """The tensors that a function's gradient needs, by the order in which autograd asks to save them."""

    def __init__(self, function: Callable[..., Tensor], tensors: tuple[Tensor, ...]) -> None:
        self.function = function
        # Detached: keeping the graph that leads here would make a cycle.
        self.tensors = [t.detach().requires_grad_(t.requires_grad) for t in tensors]
        device = tensors[0].device.type
        self.autocast: dict[str, Any] = {
            "device_type": device,
            "dtype": torch.get_autocast_dtype(device),
            "enabled": torch.is_autocast_enabled(device),
        }
        self.count = 0
        self.values: dict[int, Tensor] = {}

    def pack(self, tensor: Tensor) -> int:
        self.count += 1
        return self.count - 1

    def unpack(self, number: int) -> Tensor:
        if number not in self.values:
            self._again()
        return self.values.pop(number)

    def _again(self) -> None:
        values: dict[int, Tensor] = {}

        def pack(tensor: Tensor) -> None:
            # Detached, and not kept by the new graph: a node that holds its own result would never be freed.
            values[len(values)] = tensor.detach()
            if len(values) == self.count:
                raise _Enough

        try:
            with _active(), torch.enable_grad(), torch.autocast(**self.autocast), saved_tensors_hooks(pack, _never):
                self.function(*self.tensors)
        except _Enough:
            pass
        self.values = values


def _never(_: None) -> Tensor:
    raise RuntimeError("a recomputed function must not ask for gradients itself")


@contextmanager
def _active() -> Iterator[None]:
    """Marks that a recomputed function runs."""
    before = getattr(_inside, "active", False)
    _inside.active = True
    try:
        yield
    finally:
        _inside.active = before
