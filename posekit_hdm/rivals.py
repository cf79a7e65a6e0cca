"""The losses that heatmap distribution matching is compared with; all called as ``loss(heatmaps, points, weight)``."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from posekit.heatmaps import corner_targets, decode_expectation, dot_heatmaps, gaussian_heatmaps
from posekit.nn.precision import precise
from posekit_hdm.base import HeatmapLoss, SupplyLoss


class GaussianMSE(HeatmapLoss):
    """Squared error to a Gaussian map of peak 1 centred at the unrounded dot (Tompson et al., 2014; Xiao et al., 2018).

    Args:
        sigma: Standard deviation, heatmap px. 2 is usual on 64x48 maps; small maps want about 1.
        reduction: See `HeatmapLoss`; the value of a joint is the mean over its pixels.
        check_finite: See `HeatmapLoss`.

    Raises:
        UserError: An option out of range.
    """

    name: ClassVar[str] = "gaussian_mse"
    is_distribution: ClassVar[bool] = False

    def __init__(
        self, sigma: float = 2.0, reduction: str = "sum_joints_mean_batch", check_finite: bool | None = None
    ) -> None:
        super().__init__(reduction, check_finite)
        self.sigma = self.positive("sigma", sigma)

    def per_joint(self, heatmaps: Tensor, points: Tensor, valid: Tensor) -> Tensor:
        """Returns each joint's mean squared error (B, K)."""
        target = gaussian_heatmaps(points, valid, (heatmaps.shape[-2], heatmaps.shape[-1]), self.sigma)
        return (_masked(heatmaps, valid) - target).square().mean((-2, -1))


class DotMSE(HeatmapLoss):
    """Squared error to a map that is 1 at the dot's rounded pixel and 0 elsewhere (the paper's binary dot map)."""

    name: ClassVar[str] = "dot_mse"
    is_distribution: ClassVar[bool] = False

    def per_joint(self, heatmaps: Tensor, points: Tensor, valid: Tensor) -> Tensor:
        """Returns each joint's mean squared error (B, K)."""
        target = dot_heatmaps(points, valid, (heatmaps.shape[-2], heatmaps.shape[-1]))
        return (_masked(heatmaps, valid) - target).square().mean((-2, -1))


class _SoftmaxLoss(HeatmapLoss):
    """Base of the losses on softmax maps.

    Args:
        scale: Factor on the maps before the softmax.
        reduction: See `HeatmapLoss`.
        check_finite: See `HeatmapLoss`.

    Raises:
        UserError: An option out of range.
    """

    def __init__(
        self, scale: float = 10.0, reduction: str = "sum_joints_mean_batch", check_finite: bool | None = None
    ) -> None:
        super().__init__(reduction, check_finite)
        self.scale = self.positive("scale", scale)

    def normalize(self, heatmaps: Tensor) -> Tensor:
        """Returns softmax(scale * h) (B, K, H, W)."""
        maps = precise(heatmaps)
        return torch.softmax(self.scale * maps.flatten(2), dim=-1).view_as(maps)


class CornerCrossEntropy(_SoftmaxLoss):
    """Cross-entropy of softmax(scale * h) to the four bilinear corners: HDM's target without transport."""

    name: ClassVar[str] = "corner_ce"

    def per_joint(self, heatmaps: Tensor, points: Tensor, valid: Tensor) -> Tensor:
        """Returns each joint's cross-entropy (B, K), nats."""
        index, weight = corner_targets(points, (heatmaps.shape[-2], heatmaps.shape[-1]))
        log_mass = torch.log_softmax(self.scale * _masked(heatmaps, valid).flatten(2), dim=-1)
        return -(log_mass.gather(-1, index) * weight).sum(-1)


class ExpectedDistance(SupplyLoss):
    """Mean distance sum_n S_n |x_n - y|: transport to one demander off the grid, heatmap px.

    It pulls as HDM does, but its minimum is all mass in the nearest pixel.

    Args:
        suppliers: As in `HeatmapMatchingLoss`.
        softmax_scale: Factor on the maps under ``softmax``.
        reduction: See `HeatmapLoss`.
        check_finite: See `HeatmapLoss`.

    Raises:
        UserError: An option out of range.
    """

    name: ClassVar[str] = "expected_distance"

    def __init__(
        self,
        suppliers: str = "softmax",
        softmax_scale: float = 10.0,
        reduction: str = "sum_joints_mean_batch",
        check_finite: bool | None = None,
    ) -> None:
        super().__init__(suppliers, softmax_scale, reduction, check_finite)

    def per_joint(self, heatmaps: Tensor, points: Tensor, valid: Tensor) -> Tensor:
        """Returns each joint's expected distance (B, K), heatmap px."""
        height, width = heatmaps.shape[-2:]
        x = torch.arange(width, dtype=heatmaps.dtype, device=heatmaps.device)
        y = torch.arange(height, dtype=heatmaps.dtype, device=heatmaps.device)
        dx, dy = x - points[..., :1], y - points[..., 1:]
        distance = torch.hypot(dx[..., None, :], dy[..., :, None])
        return (self.normalize(_masked(heatmaps, valid)) * distance).sum((-2, -1))


class SoftArgmaxL1(_SoftmaxLoss):
    """L1 distance of the map's mean to the dot (integral regression, Sun et al., ECCV 2018), heatmap px."""

    name: ClassVar[str] = "soft_argmax"

    def per_joint(self, heatmaps: Tensor, points: Tensor, valid: Tensor) -> Tensor:
        """Returns each joint's |dx| + |dy| (B, K), heatmap px."""
        mean, _ = decode_expectation(self.normalize(_masked(heatmaps, valid)))
        return (mean - points).abs().sum(-1)


class JSGaussian(_SoftmaxLoss):
    """DSNT (Nibali et al., 2018): distance of the map's mean to the dot, and Jensen-Shannon divergence to a Gaussian.

    The distance is in units of half the map (coordinates from -1 to 1), as in the paper; sigma_t = 1 px and a weight
    of 1 are its values. The paper's softmax has scale 1; 10 suits heads initialised near zero and is the other rivals'
    value.

    Args:
        sigma: Standard deviation of the Gaussian, heatmap px.
        js_weight: Weight of the divergence.
        scale: Factor on the maps before the softmax.
        reduction: See `HeatmapLoss`.
        check_finite: See `HeatmapLoss`.

    Raises:
        UserError: An option out of range.
    """

    name: ClassVar[str] = "dsnt"

    def __init__(
        self,
        sigma: float = 1.0,
        js_weight: float = 1.0,
        scale: float = 10.0,
        reduction: str = "sum_joints_mean_batch",
        check_finite: bool | None = None,
    ) -> None:
        super().__init__(scale, reduction, check_finite)
        self.sigma, self.js_weight = self.positive("sigma", sigma), self.positive("js_weight", js_weight)

    def per_joint(self, heatmaps: Tensor, points: Tensor, valid: Tensor) -> Tensor:
        """Returns each joint's distance plus weighted divergence (B, K)."""
        height, width = heatmaps.shape[-2:]
        mass = self.normalize(_masked(heatmaps, valid))
        mean, _ = decode_expectation(mass)
        dx, dy = ((mean - points) * 2).unbind(-1)
        # The small constant keeps the distance differentiable at zero.
        distance = ((dx / width).square() + (dy / height).square() + 1e-12).sqrt()
        target = gaussian_heatmaps(points, valid, (height, width), self.sigma)
        target = target / target.sum((-2, -1), keepdim=True).clamp(min=1e-12)
        middle = 0.5 * (mass + target)
        divergence = 0.5 * (_kl(mass, middle) + _kl(target, middle))
        return distance + self.js_weight * divergence


def _kl(p: Tensor, q: Tensor) -> Tensor:
    floor = 1e-24
    return (p * (p.clamp(min=floor).log() - q.clamp(min=floor).log())).sum((-2, -1))


def _masked(heatmaps: Tensor, valid: Tensor) -> Tensor:
    """Blanks the maps of joints that do not count, so that nothing in them reaches a value or a gradient."""
    return heatmaps.masked_fill(~valid[..., None, None], 0.0)
