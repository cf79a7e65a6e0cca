"""Faster inference of the message passing on a CPU: 3x3 convolutions of small windows by Winograd's F(4x4, 3x3).

A window of 11 x 11 is nine tiles of 4 x 4 outputs; a tile costs 36 products per pair of channels instead of 144
(Lavin & Gray, CVPR 2016). The products are one batched matrix product, the transforms are small matrices. Transformed
weights take four times the memory of the weights (112 MB for the full network); they are made when first used, and
again when the weights have changed.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit_logocap.message_passing import AttentiveNorm, MessagePassing, folded_norm

TILE = 4
_IN = TILE + 2
_PEOPLE = 15  # at a time: larger temporaries are slower, for the system hands out fresh memory for them

# The three transforms for the points 0, 1, -1, 2, -2 and infinity.
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


def _both_axes(matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    one = torch.tensor(matrix, dtype=torch.float64)
    return torch.kron(one, one)


_INPUT_2D = _both_axes(_INPUT).float()  # (36, 36)
_KERNEL_2D = _both_axes(_KERNEL)  # (36, 9)
_OUTPUT_2D = _both_axes(_OUTPUT).float()  # (16, 36)


def transform_weight(weight: Tensor, scale: Tensor | None = None) -> Tensor:
    """Transforms 3x3 kernels (O, C, 3, 3), each output times ``scale`` (O,): (36, C, O) float32."""
    kernel = weight.detach().double()
    if scale is not None:
        kernel = kernel * scale.double()[:, None, None, None]
    outputs, inputs = kernel.shape[:2]
    rows = kernel.permute(2, 3, 1, 0).reshape(9, inputs * outputs)
    return (_KERNEL_2D @ rows).view(36, inputs, outputs).float()


def convolve(x: Tensor, weight: Tensor) -> Tensor:
    """Convolves windows (N, P, P, C) with transformed weights (36, C, O), zero-padded: (N, P, P, O)."""
    people, side, _, channels = x.shape
    outputs = weight.shape[2]
    tiles = -(-side // TILE)
    rest = tiles * TILE - side
    padded = F.pad(x, (0, 0, 1, 1 + rest, 1, 1 + rest))
    patches = padded.unfold(1, _IN, TILE).unfold(2, _IN, TILE).permute(4, 5, 0, 1, 2, 3)
    frequencies = _INPUT_2D @ patches.reshape(_IN * _IN, -1)
    product = frequencies.view(_IN * _IN, people * tiles * tiles, channels) @ weight
    values = (_OUTPUT_2D @ product.view(_IN * _IN, -1)).view(TILE, TILE, people, tiles, tiles, outputs)
    joined = values.permute(2, 3, 0, 4, 1, 5).reshape(people, tiles * TILE, tiles * TILE, outputs)
    return joined[:, :side, :side]


class _Layers(NamedTuple):
    weights: tuple[Tensor, Tensor, Tensor]
    shifts: tuple[Tensor, Tensor]  # of the first and third layer's folded norms
    head: Tensor  # (C, K)
    bias: Tensor  # (K,)


class FastMessagePassing:
    """Runs message passing by transformed convolutions where that is possible, else as it is.

    It is possible in evaluation, without gradients, in float32 on a CPU, outside autocast and torch.compile.

    Args:
        layers: The network's own; their weights are used.
    """

    def __init__(self, layers: MessagePassing) -> None:
        self.layers = layers
        self._key: tuple[object, ...] | None = None
        self._made: _Layers | None = None

    def __call__(self, local: Tensor) -> Tensor:
        """Returns raw attraction maps (N, K, P, P) of local maps (N, K C, P, P)."""
        if torch.compiler.is_compiling() or not self._possible(local):
            return cast(Tensor, self.layers(local))
        if not len(local):
            return local.new_zeros(0, cast(nn.Conv2d, self.layers[9]).out_channels, *local.shape[2:])
        made = self._transformed()
        return torch.cat([self._run(part, made) for part in local.split(_PEOPLE)])

    def _run(self, local: Tensor, made: _Layers) -> Tensor:
        x = convolve(local.permute(0, 2, 3, 1), made.weights[0])
        x = convolve((x + made.shifts[0]).relu_(), made.weights[1])
        x = convolve(self._attentive(x), made.weights[2])
        x = (x + made.shifts[1]).relu_() @ made.head + made.bias
        return x.permute(0, 3, 1, 2)

    def forget(self) -> None:
        """Drops the transformed weights."""
        self._key = self._made = None

    def _attentive(self, x: Tensor) -> Tensor:
        """Applies the attentive norm and ReLU to (N, P, P, C)."""
        norm = cast(AttentiveNorm, self.layers[4])
        scale, shift = norm.folded_mixture(x.permute(0, 3, 1, 2))
        return torch.addcmul(shift[:, None, None], x, scale[:, None, None]).relu_()

    def _possible(self, local: Tensor) -> bool:
        fits = local.device.type == "cpu" and local.dtype == torch.float32 and not self.layers.training
        fits = fits and self.layers[0].weight.dtype == torch.float32
        return fits and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")

    def _transformed(self) -> _Layers:
        """Returns the transformed weights, made anew where a weight has moved or changed."""
        tensors = [*self.layers.parameters(), *self.layers.buffers()]
        # Assignments through ``.data`` leave no other trace than the values, of which a few are looked at.
        key = tuple((t.data_ptr(), 0 if t.is_inference() else t._version, _sample(t)) for t in tensors)
        if self._made is None or key != self._key:
            self._made, self._key = self._make(), key
        return self._made

    def _make(self) -> _Layers:
        first, second, third, head = (cast(nn.Conv2d, self.layers[i]) for i in (0, 3, 6, 9))
        one, three = (folded_norm(cast(nn.BatchNorm2d, self.layers[i])) for i in (1, 7))
        with torch.inference_mode(False), torch.no_grad():
            weights = (
                transform_weight(first.weight, one[0].detach()),
                transform_weight(second.weight),
                transform_weight(third.weight, three[0].detach()),
            )
            output = head.weight.detach()[:, :, 0, 0].t().contiguous()
            return _Layers(
                weights, (one[1].detach(), three[1].detach()), output, cast(Tensor, head.bias).detach().clone()
            )


def _sample(values: Tensor) -> float:
    step = values.numel() // 512 + 1
    # In memory's order, whatever it is: flattening would copy channels-last weights.
    return values.detach().as_strided((-(-values.numel() // step),), (step,)).sum().item()
