"""Stage A3: the image network on labelled source pictures (section 5.3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from posekit_nlrd.augment import Draws, jitter
from posekit_nlrd.geometry import FLIP, bone_lengths, canonical_lengths, fit_canonical
from posekit_nlrd.losses import weighted_l1
from posekit_nlrd.ranks import float_buffers, share
from posekit_nlrd.relations import flip_pose, turn_image, turn_pose
from posekit_nlrd.stages.base import Logs, Stage, StageOptions, Tools
from posekit_nlrd.stages.options import Degrees, NotNegative, Positive, Share

_SCALE_MEMORY = 0.99


@dataclass(frozen=True)
class SourceOptions(StageOptions):
    """Options of the source stage.

    Attributes:
        jitter: Probability of a colour shift.
        mirror: Probability of the mirror image, of picture and pose.
        tilt: Largest in-plane rotation of picture and pose, degrees; see :func:`tilt_angle`.
        tilt_probability: Of any rotation; one angle turns the chosen pictures of a batch.
        latent_weight: Weight of the distance of G's latent to E_p's of the label (0 in the release): a straight path
            past the decoder, which short runs profit from.
    """

    epochs: Positive | None = 10
    lr: Positive = 1e-5
    jitter: Share = 0.3
    mirror: Share = 0.4
    tilt: Degrees = 10.0
    tilt_probability: Share = 0.2
    latent_weight: NotNegative = 0.0


class SourceStage(Stage):
    """Trains G so that the frozen D_p decodes its latent to the labelled pose."""

    name = "source"
    needs = ("pose",)
    stream = "source"
    options_class = SourceOptions
    options: SourceOptions

    def trained(self) -> list[nn.Module]:
        """Returns G."""
        return [self.networks.image]

    def enter(self) -> None:
        """Trains G with its batch statistics."""
        super().enter()
        self.networks.image.train()

    def step(self, batch: Mapping[str, Mapping[str, Tensor]], tools: Tools) -> Logs:
        """Takes a step on labelled pictures."""
        labels, networks = batch["source"], self.networks
        with torch.no_grad():
            networks.unit.copy_(running_scale(networks.unit, labels["pose"], labels["weight"], tools.step))
        logs = supervised_step(self, labels, tools, self.options)
        share([*float_buffers(networks.image), networks.unit])
        return logs


def supervised_step(
    stage: Stage,
    batch: Mapping[str, Tensor],
    tools: Tools,
    options: SourceOptions,
    turns: tuple[int, ...] = (),
    frozen_before: str | None = None,
    weight: float = 1.0,
) -> Logs:
    """Descends the distance of decoded and labelled poses; the adaptation's labelled term is the same.

    Args:
        stage: Whose networks and optimisers.
        batch: ``image`` (B, 3, H, W), ``pose`` (B, 17, 3) in frame V and metres, ``weight`` (B, 17).
        tools: What the trainer lends.
        options: Augmentation.
        turns: Optimisers to step; all when empty.
        frozen_before: See :meth:`~posekit_nlrd.image.ImageEncoder.features`.
        weight: Of the loss.
    """
    networks = stage.networks
    images, pose, shares = augment_labelled(batch["image"], batch["pose"], batch["weight"], options, tools.draws)
    target = fit_canonical(pose)
    latent, _ = networks.image.features(images, frozen_before)
    reconstruction = weighted_l1(networks.pose_decoder.pose(latent), target, shares)
    loss = reconstruction
    if options.latent_weight:
        with torch.no_grad():
            wanted = networks.encode_pose(target)
        known = (shares > 0).all(-1, keepdim=True).to(latent)  # the latent of half a pose is no target
        loss = loss + options.latent_weight * ((latent - wanted).abs() * known).mean()
    stage.descend(weight * loss, tools, *turns)
    return {"loss": loss.detach(), "reconstruction": reconstruction.detach()}


def augment_labelled(
    images: Tensor, pose: Tensor, weight: Tensor, options: SourceOptions, draws: Draws
) -> tuple[Tensor, Tensor, Tensor]:
    """Shifts colours, mirrors and turns labelled pictures, and their poses along.

    Args:
        images: (B, 3, H, W) normalised.
        pose: (B, 17, 3) frame V.
        weight: (B, 17).
        options: How strongly.
        draws: The step's random numbers.
    """
    count = len(images)
    if options.jitter:
        images = jitter(images, draws, options.jitter)
    if options.tilt and options.tilt_probability:
        degrees = tilt_angle(options.tilt, draws)
        rows = draws.rows(options.tilt_probability, count)
        images = _changed(images, rows, lambda chosen: turn_image(chosen, degrees))
        pose = _changed(pose, rows, lambda chosen: turn_pose(chosen, degrees))
    if options.mirror:
        rows = draws.rows(options.mirror, count)
        images = _changed(images, rows, lambda chosen: chosen.flip(-1))
        pose, weight = _changed(pose, rows, flip_pose), _changed(weight, rows, flip_weights)
    return images, pose, weight


def tilt_angle(limit: float, draws: Draws) -> float:
    """Draws one of few angles, since each has a grid that is kept.

    Whole degrees in [-limit, limit), as the release has them. A limit that is not whole, or below 2, would so favour
    one side: its angles are evenly spaced from end to end.

    Args:
        limit: Largest angle, degrees, above 0.
        draws: The step's random numbers.
    """
    if limit >= 2 and float(limit).is_integer():
        return float(draws.number(2 * int(limit)) - limit)
    steps = math.ceil(limit)
    return limit * (draws.number(2 * steps + 1) - steps) / steps


def _changed(values: Tensor, rows: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Returns the values (B, ...) with some rows changed; the others are not computed."""
    return values.index_copy(0, rows, change(values[rows])) if len(rows) else values


def flip_weights(weight: Tensor) -> Tensor:
    """Swaps left and right of weights (..., 17)."""
    return torch.stack([weight[..., j] for j in FLIP], dim=-1)


def unit_length(pose: Tensor, weight: Tensor) -> Tensor:
    """Returns the mean length of a unit in these bodies: metres per unit of canonical bones, labelled bones only.

    Args:
        pose: (B, 17, 3) metres.
        weight: (B, 17).
    """
    known = (weight > 0).to(pose)
    return (bone_lengths(pose) * known).sum() / (canonical_lengths(pose) * known).sum().clamp(min=1e-6)


def running_scale(scale: Tensor, pose: Tensor, weight: Tensor, step: int) -> Tensor:
    """Updates a running mean of :func:`unit_length`: the plain mean at first, an exponential one after 100 steps.

    A batch without any label leaves it as it is.
    """
    memory = min(step / (step + 1), _SCALE_MEMORY)
    moved = memory * scale + (1 - memory) * unit_length(pose.float(), weight)
    return torch.where((weight > 0).any(), moved, scale)
