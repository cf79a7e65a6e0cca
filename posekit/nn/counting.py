"""Counts of parameters and of multiply-adds.

The literature's "GFLOPs" of pose networks are multiply-adds, often divided by 2^30: HRNet-W48's 32.9 at 384 x 288 are
35,306,606,592 multiply-adds of convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from posekit.nn.modes import evaluating

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
# torch's counter knows the fused attention of GPUs only.
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)
}
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def count_parameters(model: nn.Module, trainable_only: bool = False) -> int:
    """Counts the parameters (shared ones once; buffers such as running means are none)."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable_only)


def count_macs(model: nn.Module, input_shape: Sequence[int], *, conv_only: bool = False) -> int:
    """Counts the multiply-adds of all convolution and linear layers in one evaluation pass.

    Biases, norms, activations and functional calls (attention products, bilinear sampling) do not count; a layer that
    is called n times counts n times. The pass runs without arithmetic, on the meta device, where the model allows it,
    else once on zeros on the model's own device.

    Args:
        model: Any module; its state is left as it was.
        input_shape: Shape of its argument with the batch, e.g. (1, 3, 256, 192).
        conv_only: Leave linear layers out.

    Returns:
        Multiply-adds of the whole batch.
    """
    with evaluating(model), torch.no_grad():
        try:
            return _count(model, lambda: _run_on_meta(model, input_shape), conv_only)
        except (RuntimeError, NotImplementedError):
            # The model reads values (item, nonzero) or holds tensors that are neither parameters nor buffers.
            return _count(model, lambda: _run_on_zeros(model, input_shape), conv_only)


def count_operations(model: nn.Module, input_shape: Sequence[int]) -> int:
    """Counts the multiply-adds of all matrix products and convolutions in one evaluation pass, attention included.

    Half of what torch's own counter gives; without arithmetic, on the meta device, where the model allows it.

    Args:
        model: Any module; its state is left as it was.
        input_shape: Shape of its argument with the batch.
    """
    with evaluating(model), torch.no_grad():
        try:
            with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
                _run_on_meta(model, input_shape)
        except (RuntimeError, NotImplementedError):
            with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
                _run_on_zeros(model, input_shape)
    return int(counter.get_total_flops()) // 2


def _count(model: nn.Module, run: Callable[[], Any], conv_only: bool) -> int:
    total = 0

    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        nonlocal total
        total += _layer_macs(module, args[0], output)

    counted = (*_CONVS, *_TRANSPOSED) if conv_only else (*_CONVS, *_TRANSPOSED, nn.Linear)
    handles = [module.register_forward_hook(hook) for module in model.modules() if isinstance(module, counted)]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return total


def _layer_macs(module: nn.Module, x: Tensor, y: Tensor) -> int:
    weight = module.weight
    assert isinstance(weight, Tensor)
    if isinstance(module, _TRANSPOSED):
        return x.numel() * weight[0].numel()  # every input value is spread over one kernel
    return y.numel() * weight[0].numel()  # every output value is one kernel's sum


def _run_on_meta(model: nn.Module, shape: Sequence[int]) -> None:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    stand_ins = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    functional_call(model, stand_ins, (torch.empty(tuple(shape), device="meta"),))


def _run_on_zeros(model: nn.Module, shape: Sequence[int]) -> None:
    parameter = next(model.parameters(), torch.empty(0))
    model(torch.zeros(tuple(shape), device=parameter.device, dtype=parameter.dtype))
