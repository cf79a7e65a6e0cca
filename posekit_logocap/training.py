"""A training step: targets, initial poses, one pass of the message passing over all pictures, four losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from posekit.errors import in_range, one_of
from posekit.nn.constants import constants
from posekit_logocap import losses
from posekit_logocap.decode import find_centres, initial_poses
from posekit_logocap.inference import MessagePass, attraction_maps
from posekit_logocap.losses import LossTerms
from posekit_logocap.network import STRIDE, DenseMaps
from posekit_logocap.refine import Expansion
from posekit_logocap.targets import OVERLAPS, DenseTargets, Persons, centres_of, dense_targets, output_points


@dataclass(frozen=True)
class TrainOptions:
    """What a step trains.

    Attributes:
        top_k: Initial poses per picture.
        oks_threshold: Least OKS that a pose's mesh must reach with its person for the pose to be trained.
        offset_factor: Factor of the offset loss.
        attraction_factor: Factor of the attraction loss.
        refined_factor: Factor of the refined maps' loss.
        least_area: People of less area, px^2 of the original picture, have neither centre nor offsets.
        overlap: One of ``posekit_logocap.targets.OVERLAPS``.
    """

    top_k: int = 30
    oks_threshold: float = 0.5
    offset_factor: float = 0.01
    attraction_factor: float = 0.01
    refined_factor: float = 1.0
    least_area: float = 32.0**2
    overlap: str = "official"

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            UserError: A value is out of its range.
        """
        one_of("overlap", self.overlap, OVERLAPS)
        in_range("LogoCap", "top_k", self.top_k, "[1, inf)", whole=True)
        in_range("LogoCap", "oks_threshold", self.oks_threshold, "(0, 1]")
        for name in ("offset_factor", "attraction_factor", "refined_factor", "least_area"):
            in_range("LogoCap", name, getattr(self, name), "[0, inf)")


class Trained(NamedTuple):
    """What a step computed on the way."""

    terms: LossTerms
    kept: tuple[Tensor, Tensor]  # picture and rank of the N trained poses
    attraction: Tensor  # (N, K, P, P) raw
    target: Tensor  # (N, K, P, P)
    refined: Tensor  # (N, K, S, S)
    refined_target: Tensor  # (N, K, S, S)
    oks: Tensor  # (N,)


def make_targets(
    persons: Persons, affine: Tensor, size: tuple[int, int], mapping: str, options: TrainOptions
) -> DenseTargets:
    """Makes the dense targets of a batch.

    Args:
        persons: Input px.
        affine: (B, 2, 3) original px to input px; its determinant tells mirrored pictures and the scale.
        size: (h, w) of the maps.
        mapping: See :data:`~posekit_logocap.sampling.MAPPINGS`.
        options: See there.
    """
    affine = affine.float()
    determinant = affine[:, 0, 0] * affine[:, 1, 1] - affine[:, 0, 1] * affine[:, 1, 0]
    centre, present = centres_of(persons.keypoints, persons.visible)
    large = persons.area >= options.least_area * determinant.abs()[:, None] * (1 - 1e-6)
    joints, centre = (output_points(p, determinant < 0, mapping) for p in (persons.keypoints, centre))
    return dense_targets(joints, persons.visible, centre, present & large, persons.area, size, options.overlap)


def train_losses(
    maps: DenseMaps,
    targets: DenseTargets,
    mask: Tensor,
    persons: Persons,
    expansion: Expansion,
    message_passing: MessagePass,
    sigmas: Tensor,
    options: TrainOptions,
) -> Trained:
    """Computes the losses of a batch.

    Positions carry no gradient: refined maps train heatmaps and attraction maps, attraction maps the features.

    Args:
        maps: Of the network.
        targets: Of the dense heads.
        mask: (B, 1, h, w), 0 where the heatmap loss does not count.
        persons: Input px, of the whole batch.
        expansion: The windows' geometry.
        message_passing: See :func:`~posekit_logocap.inference.decode_people`.
        sigmas: (K,) OKS deviations.
        options: See there.
    """
    batch, _, height, width = maps.heatmaps.shape
    sizes = constants((height * STRIDE, width * STRIDE), maps.heatmaps).expand(batch, 2)
    centres = find_centres(maps.heatmaps.detach(), sizes, options.top_k)
    start = initial_poses(centres.xy, maps.offsets.detach(), expansion.mapping)
    assignment = losses.assign(expansion.mesh(start), persons, sigmas)
    chosen, counted = losses.select(assignment, options.oks_threshold)
    image, rank = chosen.nonzero(as_tuple=True)
    kept = (image, rank)
    poses, counts = start[kept], counted[kept]
    target = losses.attraction_target(assignment, kept)
    weight = losses.joint_weight(target, counts)
    own = sizes[image]
    attraction = attraction_maps(maps.embedding, image, poses, own, expansion, message_passing)
    refined = expansion.adapt(attraction, expansion.global_maps(maps.heatmaps, image, poses, own))
    points = persons.keypoints[image, assignment.person[kept]]
    goal = losses.refined_target(points, poses, expansion.pixels)
    terms = LossTerms(
        losses.heatmap_loss(maps.heatmaps, targets, mask),
        options.offset_factor * losses.offset_loss(maps.offsets, targets),
        options.attraction_factor * losses.attraction_loss(attraction, target, weight, counts),
        options.refined_factor * losses.refined_loss(refined, goal, weight),
    )
    return Trained(terms, kept, attraction, target, refined, goal, assignment.oks[kept])


def output_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Shrinks a mask (B, H, W) of the input to the maps' grid: (B, 1, h, w) float, 1 where most of a cell counts."""
    shares = F.adaptive_avg_pool2d(mask[:, None].float(), size)
    return (shares > 0.5).float()
