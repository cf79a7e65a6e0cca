"""NLRD's losses (section 5 of the reconstruction; equation numbers are the paper's). Means over every element."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from posekit_nlrd.geometry import NUM_JOINTS
from posekit_nlrd.pose import GROUPS

TEMPERATURE = 0.07


def weighted_l1(pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean absolute difference of poses (..., J, 3), joints weighted by (..., J)."""
    difference = (pred.float() - target.float()).abs()
    if weight is None:
        return difference.mean()
    share = weight[..., None].to(difference)
    return (difference * share).sum() / (3 * share.sum()).clamp(min=1e-6)


def logit_weights(like: Tensor) -> Tensor:
    """Returns the weight of each of the critic's 23 logits: joints, groups and the whole count a third each."""
    counts = (NUM_JOINTS, len(GROUPS), 1)
    return torch.cat([like.new_full((n,), 1 / (3 * n)) for n in counts])


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """L1 of logits (B, L) to +1 for real and to -1 for decoded ones, halved, logits weighted."""
    weight = _weights(real)
    return 0.5 * (weight * ((real - 1).abs().mean(0) + (fake + 1).abs().mean(0))).sum()


def generator_loss(fake: Tensor) -> Tensor:
    """L1 of the critic's logits (B, L) of decoded poses to +1, logits weighted."""
    return (_weights(fake) * (fake - 1).abs().mean(0)).sum()


def critic_accuracy(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the shares of logits on the right side of 0: of reals and of fakes."""
    return (real >= 0).float().mean(), (fake < 0).float().mean()


def relation_energy(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of what T says of the anchor and the latent of its transform (Eq. 2 and 3)."""
    return (predicted.float() - target.float()).abs().mean()


def info_nce(
    anchors: Tensor, positives: Tensor, temperature: float = TEMPERATURE, first_anchor_only: bool = False
) -> Tensor:
    """Contrasts each clip's augmented copy with the other clips of the batch (Eq. 1, with the logarithm).

    ``-log(e^{q.k/t} / (e^{q.k/t} + sum_{j != i} e^{q.q_j/t}))`` of vectors scaled to length 1.

    Args:
        anchors: (B, D) q.
        positives: (B, D) k.
        temperature: t.
        first_anchor_only: Item 0 is the only anchor, as in the release; otherwise every item is, averaged.
    """
    q, k = F.normalize(anchors.float(), dim=-1), F.normalize(positives.float(), dim=-1)
    positive = (q * k).sum(-1) / temperature
    # Written as products, which autocast leaves in float32.
    others = (q[:, None] * q[None]).sum(-1) / temperature
    # A clip is no negative of itself: its own positive takes the place on the diagonal.
    own = torch.eye(len(q), dtype=torch.bool, device=q.device)
    logits = torch.where(own, positive[:, None], others)
    losses = torch.logsumexp(logits, dim=-1) - positive
    return losses[0] if first_anchor_only else losses.mean()


def velocity_l2(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of frame-to-frame steps of motions (B, T, 17, 3)."""
    return F.mse_loss(pred[:, 1:] - pred[:, :-1], target[:, 1:] - target[:, :-1])


def _weights(logits: Tensor) -> Tensor:
    # A critic of latents has one logit.
    return logit_weights(logits) if logits.shape[-1] > 1 else logits.new_ones(1)
