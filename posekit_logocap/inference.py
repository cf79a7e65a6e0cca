"""From dense maps to people: centres, initial poses, refinement of those that survive, and suppression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from posekit.errors import in_range, one_of
from posekit.nn.precision import precise
from posekit_logocap.decode import Centres, find_centres, initial_poses
from posekit_logocap.network import DenseMaps
from posekit_logocap.nms import pose_nms
from posekit_logocap.refine import LEVELS, Expansion, Refined

MessagePass = Callable[[Tensor], Tensor]
"""Maps local maps (N, K C, P, P) to raw attraction maps (N, K, P, P)."""


class People(NamedTuple):
    """The people of several pictures, one row each, in the order of pictures and of falling centre score."""

    image: Tensor  # (N,) int64, which picture of the batch
    keypoints: Tensor  # (N, K, 3) x, y in input px and score
    scores: Tensor  # (N,)
    initial: Tensor  # (N, K, 3) x, y of the initial pose in input px and the centre's score
    attraction: Tensor  # (N, K, P, P) clamped to [0, 1]; empty (N, 0, 0, 0) at level ``none``

    def take(self, rows: Tensor) -> People:
        """Returns some rows: (M,) indices or (N,) bool."""
        return People(*(field[rows] for field in self))


def no_people(joints: int, device: torch.device) -> People:
    """Returns no rows of people with K joints."""
    empty = torch.zeros(0, joints, 3, device=device)
    image = torch.zeros(0, dtype=torch.int64, device=device)
    return People(image, empty, empty[:, 0, 0], empty, torch.zeros(0, 0, 0, 0, device=device))


@dataclass(frozen=True)
class DecodeOptions:
    """How people are read from maps.

    Attributes:
        top_k: Centres per picture.
        centre_threshold: Least score of a centre, from 0 to 1; with none above it, a picture's best one alone is used.
        level: One of ``posekit_logocap.refine.LEVELS``.
        early_nms: Suppress double poses before refinement, so that only survivors are refined. False is the official
            order: refine all, then suppress.
        nms_joints: Poses with more close joints than this are double; None takes half of the joints (8 of 17).
        max_people: People kept per picture.
    """

    top_k: int = 30
    centre_threshold: float = 0.01
    level: str = "full"
    early_nms: bool = True
    nms_joints: int | None = None
    max_people: int = 30

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            UserError: A value is out of its range.
        """
        one_of("adaptation level", self.level, LEVELS)
        for name, value in (("top_k", self.top_k), ("max_people", self.max_people)):
            in_range("LogoCap", name, value, "[1, inf)", whole=True)
        in_range("LogoCap", "centre_threshold", self.centre_threshold, "[0, 1]")
        in_range("LogoCap", "nms_joints", self.nms_joints, "[0, inf)", whole=True, none=True)


class Candidates(NamedTuple):
    """Initial poses of all pictures; T rows each, of which some count."""

    poses: Tensor  # (B, T, K, 2) input px
    score: Tensor  # (B, T) of the centre
    valid: Tensor  # (B, T) bool


def find_candidates(maps: DenseMaps, sizes: Tensor, expansion: Expansion, options: DecodeOptions) -> Candidates:
    """Finds centres and reads their initial poses.

    Args:
        maps: Of the pictures; beyond a picture's own size its border's values.
        sizes: (B, 2) H, W of each picture, px.
        expansion: Its mapping, and the stride of the heatmaps.
        options: See there.
    """
    centres: Centres = find_centres(maps.heatmaps, sizes, options.top_k, expansion.heatmap_stride)
    poses = initial_poses(centres.xy, maps.offsets, expansion.mapping)
    confident = centres.score >= options.centre_threshold
    first = torch.arange(centres.score.shape[1], device=confident.device) == 0
    return Candidates(poses, centres.score, confident | (first & ~confident.any(1, keepdim=True)))


def decode_people(
    maps: DenseMaps,
    sizes: Tensor,
    expansion: Expansion,
    message_passing: MessagePass,
    options: DecodeOptions,
) -> People:
    """Reads the people of several pictures; refinement runs once over all of them.

    Args:
        maps: Of the pictures; beyond a picture's own size its border's values (see :func:`stack_maps`).
        sizes: (B, 2) H, W of each picture, px.
        expansion: The windows' geometry.
        message_passing: Maps local maps (N, K C, P, P) to attraction maps (N, K, P, P).
        options: How to decode.
    """
    found = find_candidates(maps, sizes, expansion, options)
    alive = found.valid
    if options.early_nms:
        alive = suppress(found.poses, found.score, alive, options)
    image, rank = alive.nonzero(as_tuple=True)
    poses, centre = found.poses[image, rank], found.score[image, rank]
    own = sizes[image]
    refined, attraction = _refine(maps, image, poses, own, expansion, message_passing, options)
    score = refined.value * centre[:, None]
    joints = poses.shape[1]
    start = torch.cat([poses, centre[:, None, None].expand(-1, joints, 1)], dim=-1)
    people = People(image, torch.cat([refined.xy, score[..., None]], -1), score.mean(1), start, attraction)
    return people.take(_final(people, len(sizes), options))


def _refine(
    maps: DenseMaps,
    image: Tensor,
    poses: Tensor,
    sizes: Tensor,
    expansion: Expansion,
    message_passing: MessagePass,
    options: DecodeOptions,
) -> tuple[Refined, Tensor]:
    if options.level == "none":
        none = poses.new_zeros(len(poses), 0, 0, 0)
        return expansion.unrefined(maps.heatmaps, image, poses, sizes), none
    attraction = attraction_maps(maps.embedding, image, poses, sizes, expansion, message_passing).clamp(0, 1)
    if options.level == "partial":
        return expansion.nearest_attraction(attraction, poses), attraction
    return expansion.refine(attraction, maps.heatmaps, image, poses, sizes), attraction


def attraction_maps(
    embedding: Tensor, image: Tensor, poses: Tensor, sizes: Tensor, expansion: Expansion, message_passing: MessagePass
) -> Tensor:
    """Returns the raw attraction maps (N, K, P, P) of people; arguments as :meth:`Expansion.local_maps`."""
    return precise(message_passing(expansion.local_maps(embedding, image, poses, sizes)))


def suppress(poses: Tensor, scores: Tensor, valid: Tensor, options: DecodeOptions) -> Tensor:
    """Returns which of poses (B, T, K, 2) with scores (B, T) stay: (B, T) bool."""
    joints = poses.shape[2] // 2 if options.nms_joints is None else options.nms_joints
    return pose_nms(poses, scores, valid, least_joints=joints)


def _final(people: People, pictures: int, options: DecodeOptions) -> Tensor:
    """Returns the rows that stay: positive score, not suppressed, at most ``max_people`` per picture."""
    counts = people.image.bincount(minlength=pictures)
    width = int(counts.max()) if len(people.image) else 0
    starts = counts.cumsum(0) - counts
    rank = torch.arange(len(people.image), device=counts.device) - starts[people.image]
    joints = people.keypoints.shape[1]
    poses = people.keypoints.new_zeros(pictures, width, joints, 2)
    scores = people.scores.new_zeros(pictures, width)
    poses[people.image, rank] = people.keypoints[..., :2]
    scores[people.image, rank] = people.scores
    kept = suppress(poses, scores, scores > 0, options)
    order = torch.where(kept, scores, -torch.inf).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    kept &= order < options.max_people
    return kept[people.image, rank]


def stack_maps(maps: list[DenseMaps]) -> DenseMaps:
    """Joins maps of pictures of different sizes into one batch, extended by their borders' values."""
    height = max(m.heatmaps.shape[-2] for m in maps)
    width = max(m.heatmaps.shape[-1] for m in maps)

    def extend(x: Tensor) -> Tensor:
        return F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]), mode="replicate")

    return DenseMaps(*(torch.cat([extend(x) for x in group]) for group in zip(*maps, strict=True)))


def maps_by_size(dense: Callable[[Tensor], DenseMaps], pictures: Sequence[Tensor]) -> DenseMaps:
    """Returns the maps of pictures (3, H, W) of different sizes; those of one size share a pass.

    Args:
        dense: Gives the maps of pictures (B, 3, H, W).
        pictures: At least one.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, picture in enumerate(pictures):
        groups.setdefault(tuple(picture.shape), []).append(row)
    stacked = stack_maps([dense(torch.stack([pictures[row] for row in rows])) for rows in groups.values()])
    order = torch.tensor([row for rows in groups.values() for row in rows], device=stacked.heatmaps.device).argsort()
    return DenseMaps(*(x[order] for x in stacked))
