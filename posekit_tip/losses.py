"""The terms of the objective, by the reconstruction in this package's README.

L = L_loc + gamma_info (gamma_com L_com + gamma_var L_var + gamma_red L_red) + gamma_s L_s. The supplement names the
terms and their weights; their formulas are ours. All are finite and 0 where no joint is labelled, and what lies under
unlabelled joints changes neither a value nor a gradient. Correlations are those of one process's batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from posekit.errors import one_of
from posekit.nn.precision import full_precision

REDUCTIONS = ("pixel_sum", "mean")
EPSILON = 1e-4
POOL = 4  # cells of a map that a correlation's sample is the mean of, along each axis


def localisation_loss(maps: Tensor, target: Tensor, weight: Tensor, reduction: str = "pixel_sum") -> Tensor:
    """Squared error of heatmaps, averaged over the labelled joints (L_loc, and the same for rough maps).

    Args:
        maps: (B, J, h, w).
        target: (B, J, h, w).
        weight: (B, J) 1 for labelled joints, else 0.
        reduction: ``pixel_sum`` adds the pixels up, so that an empty map costs pi sigma^2 per joint and the weights of
            the other terms mean something; ``mean`` averages them, as DCPose and FAMI-Pose do.

    Raises:
        UserError: An unknown reduction.
    """
    one_of("loc_reduction", reduction, REDUCTIONS)
    with full_precision(maps):
        square = (maps.float() - target).square()
        per_joint = square.sum((-2, -1)) if reduction == "pixel_sum" else square.mean((-2, -1))
        return labelled_mean(per_joint, weight)


def labelled_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Averages values (B, J) over joints of weight 1; 0 with a live graph where there is none."""
    kept = torch.where(weight > 0, values, torch.zeros_like(values))
    return kept.sum() / weight.sum().clamp(min=1)


def complementary_loss(
    rough: Tensor,
    additions: Sequence[Tensor],
    order: Tensor,
    target: Tensor,
    weight: Tensor,
    temperature: float = 0.05,
) -> Tensor:
    """Asks that distilled motion Z tells of the joints what the key frame F does not: maximises I(y; Z | F) (L_com).

    Both entropies of I(y; Z | F) = H(y | F) - H(y | Z, F) are bounded by cross-entropies of spatial softmaxes: of the
    rough maps R / T for q(y | F), of (R + a(Z)) / T for q(y | Z, F). With KL the divergence from the normalised target,
    the loss is the mean over labelled joints of softplus(KL_ZF - KL_F): ln 2 while Z adds nothing, 0 in the end, with
    little pull on joints that the key frame explains. The target's own entropy cancels. R is detached.

    Args:
        rough: (B, J, h, w) maps of the key frame.
        additions: a(Z) per group, (B, |g|, h, w).
        order: (J,) the joints of all groups, group by group.
        target: (B, J, h, w) heatmaps; normalised here.
        weight: (B, J) 1 for labelled joints.
        temperature: T (FAMI-Pose's value).
    """
    with full_precision(rough):
        base = rough.detach().float().index_select(1, order).flatten(2) / temperature
        both = base + torch.cat(list(additions), dim=1).float().flatten(2) / temperature
        truth = target.index_select(1, order).flatten(2)
        truth = truth / truth.sum(-1, keepdim=True).clamp(min=1e-12)
        gain = (truth * (functional.log_softmax(base, dim=-1) - functional.log_softmax(both, dim=-1))).sum(-1)
        return labelled_mean(functional.softplus(gain), weight.index_select(1, order))


def redundancy_loss(distilled: Sequence[Tensor], features: Tensor) -> Tensor:
    """Mean squared correlation of each group's distilled motion with the key frame's features (L_red), in [0, 1].

    For jointly Gaussian, whitened channels with cross-correlations A the mutual information is
    -1/2 log det(I - A'A), about half of A's squared norm. Features are detached. Needs two samples, else 0.

    Args:
        distilled: (B, D, h, w) per group.
        features: (B, C, h, w) of the key frame.
    """
    with full_precision(features):
        groups = torch.cat([standardised(z) for z in distilled], dim=1)  # (N, G D)
        return _correlation(groups, standardised(features.detach())).square().mean()


def variety_loss(distilled: Sequence[Tensor]) -> Tensor:
    """Mean squared correlation between the distilled features of different groups (L_var), in [0, 1].

    Gradients go to both groups of a pair. With one group, or fewer than two samples, 0.

    Args:
        distilled: (B, D, h, w) per group.
    """
    count = len(distilled)
    with full_precision(distilled[0]):
        groups = torch.cat([standardised(z) for z in distilled], dim=1)
        square = _correlation(groups, groups).square()
        pairs = square.unflatten(1, (count, -1)).unflatten(0, (count, -1)).mean((1, 3))  # (G, G)
        return pairs.triu(1).sum() / max(count * (count - 1) / 2, 1)


def synthesis_loss(interim: Tensor, target: Tensor, weight: Tensor, whole: Tensor) -> Tensor:
    """Squared error of the synthesized pose of the key time (L_s), pixel sum, mean over joints.

    The middle of an odd number of interim poses belongs to the key frame if its neighbours are equally far.

    Args:
        interim: (B, J, K, h, w) drawn poses, not scaled by confidence.
        target: (B, J, h, w) heatmaps of the key frame.
        weight: (B, J) 1 for labelled joints.
        whole: (B,) whether the window has a neighbour on both sides, at the same distance.
    """
    middle = interim[:, :, interim.shape[2] // 2]
    per_joint = (middle.float() - target).square().sum((-2, -1))
    return labelled_mean(per_joint, weight * whole[:, None].to(weight.dtype))


def standardised(maps: Tensor) -> Tensor:
    """Pools maps (B, D, h, w) and returns their cells as samples (N, D) with mean 0 and deviation 1 per channel.

    A channel that does not vary becomes 0. Fewer than two samples give zeros with a live graph.
    """
    cells = functional.avg_pool2d(maps.float(), min(POOL, *maps.shape[-2:]))
    rows = cells.permute(0, 2, 3, 1).flatten(0, 2)
    centred = rows - rows.mean(0)
    variance = centred.square().mean(0)
    return centred / torch.sqrt(variance + EPSILON)


def _correlation(left: Tensor, right: Tensor) -> Tensor:
    return left.T @ right / left.shape[0]
