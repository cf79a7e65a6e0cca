"""What all heatmap losses share: checks, masking, reduction, and maps as distributions."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from posekit.errors import UserError, in_range, one_of, yes_or_no
from posekit.nn.constants import constants
from posekit.nn.precision import full_precision, precise

SUPPLIERS = ("softmax", "softplus", "relu")
REDUCTIONS = ("sum_joints_mean_batch", "mean_valid", "sum", "none")
EMPTY_SUPPLY = 1e-6
"""Total of a rectified map up to which it counts as empty."""

_MIN_TOTAL = 1e-3  # totals below this no longer enlarge the gradient, which grows as 1 / total
_SOFTPLUS_FLOOR = -10.0  # softplus(h) = exp(h) to 5e-5 below this, where only ratios matter


class Supply(NamedTuple):
    """A map as a distribution, with what the chain rule needs."""

    mass: Tensor  # (…, N), sum 1
    slope: Tensor  # (…, N), d(unnormalised mass)/dh
    total: Tensor  # (…, 1), what the unnormalised mass was divided by


def make_supply(heatmaps: Tensor, suppliers: str, softmax_scale: float) -> Supply:
    """Turns raw maps (…, N) into distributions.

    ``relu`` is the paper's S = relu(h) / sum relu(h), which is undefined where no pixel is positive. Such a map
    supplies relu(h - min h) instead, and a constant one supplies evenly, so that a gradient is left (our rule).
    ``softplus`` maps far below zero are lifted to where their sum is safe; the distribution stays the same, as
    softplus is exponential there.

    Args:
        heatmaps: (…, N) raw maps.
        suppliers: One of ``SUPPLIERS``.
        softmax_scale: Factor on the maps under ``softmax``.
    """
    if suppliers == "softmax":
        mass = torch.softmax(softmax_scale * heatmaps, dim=-1)
        return Supply(mass, softmax_scale * mass, torch.ones_like(mass[..., :1]))
    if suppliers == "softplus":
        lift = (_SOFTPLUS_FLOOR - heatmaps.detach().amax(-1, keepdim=True)).clamp(min=0)
        lifted = heatmaps + lift
        mass = functional.softplus(lifted)
        total = mass.sum(-1, keepdim=True)
        return Supply(mass / total, torch.sigmoid(lifted), total)
    empty = empty_supply(heatmaps)[..., None]
    # Only empty maps move down to their minimum: one rectifier serves both cases.
    masked = torch.isneginf(heatmaps.detach())  # pixels of no mass, which are no map's minimum
    minimum = heatmaps.detach().masked_fill(masked, float("inf")).amin(-1, keepdim=True)
    shifted = heatmaps - torch.where(empty & minimum.isfinite(), minimum, torch.zeros_like(minimum))
    flat = empty & (shifted.detach().amax(-1, keepdim=True) <= EMPTY_SUPPLY)
    shifted = shifted + flat.to(shifted.dtype)
    mass = torch.relu(shifted)
    total = mass.sum(-1, keepdim=True)
    return Supply(mass / total, (shifted > 0).to(mass.dtype), total)


def supply_gradient(supply: Supply, potential: Tensor) -> Tensor:
    """Applies the chain rule dL/dh = slope * (a - <a, S>) / total to potentials a = dL/dS (…, N)."""
    centred = potential - (potential * supply.mass).sum(-1, keepdim=True)
    # Once more: where nearly all mass sits in one pixel, the first mean is off by more than the gradient's size.
    centred -= (centred * supply.mass).sum(-1, keepdim=True)
    return supply.slope * centred.div_(supply.total.clamp(min=_MIN_TOTAL))


def empty_supply(heatmaps: Tensor) -> Tensor:
    """Tells which maps (…, N) have (next to) no positive pixel; (…) bool."""
    return torch.relu(heatmaps.detach()).sum(-1) <= EMPTY_SUPPLY


def check_shapes(heatmaps: Tensor, points: Tensor, weight: Tensor) -> None:
    """Checks the arguments of a heatmap loss.

    Raises:
        UserError: A wrong rank, sizes that do not agree, or a map smaller than 2x2.
    """
    if heatmaps.ndim != 4:
        raise UserError(f"heatmaps must have shape (B, K, H, W), not {tuple(heatmaps.shape)}")
    batch, joints, height, width = heatmaps.shape
    if height < 2 or width < 2:
        raise UserError(f"heatmaps must be at least 2x2 pixels, not {height}x{width}: a dot lies between four of them")
    if not heatmaps.is_floating_point():
        raise UserError(f"heatmaps must be floating point, not {heatmaps.dtype}")
    if tuple(points.shape) != (batch, joints, 2):
        raise UserError(f"points must have shape {(batch, joints, 2)} to match the heatmaps, not {tuple(points.shape)}")
    if tuple(weight.shape) != (batch, joints):
        raise UserError(f"weight must have shape {(batch, joints)} to match the heatmaps, not {tuple(weight.shape)}")


class HeatmapLoss(nn.Module):
    """Base of the losses ``loss(heatmaps, points, weight)``.

    Joints count where weight is above 0 and the dot is finite and lies in [-0.5, W - 0.5) x [-0.5, H - 0.5); dots in
    the half-pixel rim move to the map's edge. Other joints give exactly zero loss and gradient, even with NaN maps
    or dots.
    Everything is computed in float32 (float64 for float64 maps), also under autocast.

    Args:
        reduction: ``sum_joints_mean_batch``: (1/B) sum_b sum_k weight * loss; ``mean_valid``: weighted mean over the
            joints that count; ``sum``; or ``none``: (B, K).
        check_finite: Raise a UserError for non-finite maps of joints that count. None does so on a CPU outside
            ``torch.compile``: elsewhere the check waits for the device, and a NaN map of a joint that counts gives a
            NaN loss. True also refuses non-finite dots where weight is above 0, which otherwise do not count.

    Raises:
        UserError: An unknown reduction, or ``check_finite`` is neither true, false nor None.
    """

    name: ClassVar[str] = ""
    is_distribution: ClassVar[bool] = True

    def __init__(self, reduction: str = "sum_joints_mean_batch", check_finite: bool | None = None) -> None:
        super().__init__()
        self.reduction = one_of("reduction", reduction, REDUCTIONS)
        self.check_finite = yes_or_no(f"loss {self.name!r}", "check_finite", check_finite, none=True)

    def positive(self, name: str, value: float) -> float:
        """Returns an option's value as a float; raises UserError unless it is a finite number above 0."""
        return float(in_range(f"loss {self.name!r}", name, value, "(0, inf)"))

    def forward(self, heatmaps: Tensor, points: Tensor, weight: Tensor) -> Tensor:
        """Computes the loss.

        Args:
            heatmaps: (B, K, H, W) raw maps of the network.
            points: (B, K, 2) dots (x, y), heatmap px.
            weight: (B, K) weights, 0 for joints that do not count; bool or number.

        Returns:
            A scalar, or (B, K) with ``reduction="none"``.

        Raises:
            UserError: Shapes that do not agree, or values that are not finite (see ``check_finite``).
        """
        check_shapes(heatmaps, points, weight)
        if self.check_finite and not bool(torch.isfinite(points[weight > 0]).all()):
            raise UserError("points hold NaN or infinity where weight is above 0")
        with full_precision(heatmaps):
            maps = precise(heatmaps)
            dots = points.to(maps)
            height, width = maps.shape[-2:]
            limit = constants((width, height), dots, dots.dtype)
            factor = weight.to(maps)
            valid = self.counting(dots, factor, (height, width))
            self._check_maps(maps, valid)
            factor = torch.where(valid, factor, torch.zeros_like(factor))
            dots = torch.where(valid[..., None], dots, torch.zeros_like(dots))
            dots = torch.minimum(dots.clamp(min=0), limit - 1)
            values = self.per_joint(maps, dots, valid)
            values = torch.where(valid, values, torch.zeros_like(values)) * factor
            return self._reduce(values, factor)

    def counting(self, points: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
        """Tells which joints (B, K) count, for dots (B, K, 2) in px of maps of ``size`` (H, W) and weights (B, K)."""
        limit = constants((size[1], size[0]), points, points.dtype)
        # Comparisons with NaN are false, so a NaN weight or dot masks its joint.
        return (weight > 0) & ((points >= -0.5) & (points < limit - 0.5)).all(-1)

    def mean_over_joints(self, loss: Tensor, count: Tensor, batch_size: int) -> Tensor:
        """Returns the mean per joint of a reduced loss of ``count`` joints of weight 1; 0 without any."""
        if self.reduction == "mean_valid":
            return loss
        return loss * (batch_size if self.reduction == "sum_joints_mean_batch" else 1) / count.clamp(min=1)

    def per_joint(self, heatmaps: Tensor, points: Tensor, valid: Tensor) -> Tensor:
        """Returns the loss of each joint (B, K) for maps (B, K, H, W) and dots (B, K, 2) inside the map."""
        raise NotImplementedError

    def normalize(self, heatmaps: Tensor) -> Tensor:
        """Returns the maps (B, K, H, W) in the form that the loss compares: distributions where it compares those."""
        return heatmaps

    def _reduce(self, values: Tensor, factor: Tensor) -> Tensor:
        if self.reduction == "none":
            return values
        if self.reduction == "sum":
            return values.sum()
        if self.reduction == "mean_valid":
            total = factor.sum()
            return values.sum() / torch.where(total > 0, total, torch.ones_like(total))
        return values.sum() / max(values.shape[0], 1)

    def _check_maps(self, maps: Tensor, valid: Tensor) -> None:
        wanted = self.check_finite
        if wanted is None:
            wanted = maps.device.type == "cpu" and not torch.compiler.is_compiling()
        if not wanted:
            return
        least, largest = maps.detach().flatten(2).aminmax(dim=-1)  # NaN wins both
        fine = torch.isfinite(largest)
        if not self.is_distribution:  # a distribution has no mass where a map is minus infinity: a mask
            fine &= torch.isfinite(least)
        bad = valid & ~fine
        if bool(bad.any()):
            raise UserError(
                f"heatmaps hold NaN or infinity for {int(bad.sum())} of {int(valid.sum())} joints that count: the "
                "network has diverged (a lower learning rate, gradient clipping), or its input is not finite"
            )


class SupplyLoss(HeatmapLoss):
    """Base of the losses whose maps supply mass by a rule of choice.

    Args:
        suppliers: One of ``SUPPLIERS``.
        softmax_scale: Factor on the maps under ``softmax``.
        reduction: See `HeatmapLoss`.
        check_finite: See `HeatmapLoss`.

    Raises:
        UserError: An option out of range.
    """

    def __init__(self, suppliers: str, softmax_scale: float, reduction: str, check_finite: bool | None) -> None:
        super().__init__(reduction, check_finite)
        self.suppliers = one_of("suppliers", suppliers, SUPPLIERS)
        self.softmax_scale = self.positive("softmax_scale", softmax_scale)

    def normalize(self, heatmaps: Tensor) -> Tensor:
        """Returns the supplies S (B, K, H, W), each sum 1."""
        maps = precise(heatmaps)
        return make_supply(maps.flatten(2), self.suppliers, self.softmax_scale).mass.view_as(maps)
