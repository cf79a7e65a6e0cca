"""Local-global adaptation: expansion maps around the joints, attraction maps as kernels, the refined joints.

Numbers in brackets are sections of the method: local map (5), attraction map (6), global map and refinement (7).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from posekit.errors import UserError, in_range
from posekit.nn.precision import full_precision, precise
from posekit_logocap.dynamic import correlate_each
from posekit_logocap.network import STRIDE
from posekit_logocap.sampling import (
    axis_weights,
    check_names,
    gather_cells,
    gather_own_channel,
    patch_cells,
    to_cells,
    upsampled_axis_weights,
)

LEVELS = ("full", "partial", "none")
"""How far poses are adapted: ``none`` keeps the initial joints, ``partial`` takes the mesh point of the largest
attraction, ``full`` is the method."""

LEAST_PRIOR = 1e-4
"""The prior is 0 where it would be less."""


class Refined(NamedTuple):
    """Refined joints of N people."""

    xy: Tensor  # (N, K, 2) input px
    value: Tensor  # (N, K) of each joint, not yet times the centre's score


class Expansion(nn.Module):
    """The geometry of both windows around a joint.

    Args:
        sigmas: (K,) OKS deviations; the mesh's step of joint k is sigma_k / ``unit_sigma`` px.
        radius: The local mesh has 2 radius + 1 points a side.
        window: The global window has ``window`` + 1 pixels a side.
        prior_sigma: Deviation of the Gaussian prior on the global window, px.
        unit_sigma: OKS deviation whose mesh has steps of 1 px; COCO's least one, as in the official code.
        sampling: Rule at the border; see :data:`~posekit_logocap.sampling.SAMPLINGS`.
        mapping: See :data:`~posekit_logocap.sampling.MAPPINGS`.

    Attributes:
        heatmap_stride: Input px per cell of the heatmaps; that of the other maps is always ``STRIDE``.

    Raises:
        UserError: A value out of its range, or an unknown name.
    """

    scales: Tensor
    steps: Tensor
    pixels: Tensor
    bell: Tensor
    counts: Tensor

    def __init__(
        self,
        sigmas: Sequence[float],
        radius: int = 5,
        window: int = 96,
        prior_sigma: float = 16.0,
        unit_sigma: float = 0.025,
        sampling: str = "official",
        mapping: str = "legacy",
    ) -> None:
        super().__init__()
        check_names(sampling, mapping)
        in_range("LogoCap", "radius", radius, "[1, inf)", whole=True)
        if in_range("LogoCap", "window", window, "[2, inf)", whole=True) % 2:
            raise UserError(f"LogoCap: window must be even, not {window}")
        in_range("LogoCap", "prior_sigma", prior_sigma, "(0, inf)")
        in_range("LogoCap", "unit_sigma", unit_sigma, "(0, inf)")
        self.heatmap_stride = STRIDE
        self.radius, self.window, self.sampling, self.mapping = radius, window, sampling, mapping
        scales = torch.tensor(sigmas, dtype=torch.float32) / unit_sigma
        self.local_cells = patch_cells(2 * radius * scales.max().item() / STRIDE)
        pixels = torch.arange(-(window // 2), window // 2 + 1, dtype=torch.float32)
        bell = torch.exp(-(pixels**2) / (2 * prior_sigma**2))
        counts = bell[:, None] * bell >= LEAST_PRIOR
        self.all_count = bool(counts.all())  # as in the official geometry
        for name, value in {
            "scales": scales,
            "steps": torch.arange(-radius, radius + 1, dtype=torch.float32),
            "pixels": pixels,
            "bell": bell,
            "counts": counts.float(),
        }.items():
            self.register_buffer(name, value, persistent=False)

    def mesh(self, poses: Tensor) -> Tensor:
        """Returns the mesh's coordinates along each axis: (…, K, 2, P) px of poses (…, K, 2), x first."""
        return poses[..., None] + self.steps * self.scales[:, None, None]

    def local_weights(self, poses: Tensor, sizes: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Returns starts and weights along y and along x that sample features on the mesh (5).

        Args:
            poses: (N, K, 2) px.
            sizes: (N, 2) H, W of each person's picture, px.

        Returns:
            ((N, K), (N, K, P, m)) for y, the same for x.
        """
        cells = to_cells(self.mesh(precise(poses)), STRIDE, self.mapping)
        extent = map_size(sizes)
        y = axis_weights(cells[:, :, 1], extent[:, :1], self.local_cells, self.sampling)
        x = axis_weights(cells[:, :, 0], extent[:, 1:], self.local_cells, self.sampling)
        return (y.start, y.weight), (x.start, x.weight)

    def local_maps(self, embedding: Tensor, image: Tensor, poses: Tensor, sizes: Tensor) -> Tensor:
        """Samples the features of all joints on their meshes (5).

        Args:
            embedding: (B, C, h, w).
            image: (N,) each person's picture.
            poses: (N, K, 2) px; no gradient flows into positions.
            sizes: (N, 2) H, W of each person's picture, px.

        Returns:
            (N, K C, P, P) in channels-last memory; channel = joint * C + c.
        """
        with full_precision(embedding):
            (start_y, along_y), (start_x, along_x) = self.local_weights(poses.detach(), sizes)
            patch = gather_cells(precise(embedding), image, start_y, start_x, self.local_cells)
            cells, channels = patch.shape[3:]
            along_y, along_x = along_y.to(patch.dtype), along_x.to(patch.dtype)
            rows = along_y @ patch.flatten(3)  # (N, K, P, m C)
            values = along_x[:, :, None] @ rows.unflatten(3, (cells, channels))  # (N, K, P, P, C)
        return values.permute(0, 2, 3, 1, 4).flatten(3).permute(0, 3, 1, 2)

    def global_maps(self, heatmaps: Tensor, image: Tensor, poses: Tensor, sizes: Tensor) -> Tensor:
        """Samples each joint's upsampled heatmap on the pixels around it, times the prior (7.1, 7.2).

        Upsampling and sampling are one matrix per axis, so that no map of the input's size is made.

        Args:
            heatmaps: (B, K or more, h, w) raw.
            image: (N,) each person's picture.
            poses: (N, K, 2) px; no gradient flows into positions.
            sizes: (N, 2) H, W of each person's picture, px.

        Returns:
            (N, K, S, S) with S = window + 1.
        """
        with full_precision(heatmaps):
            points = precise(poses.detach())[..., None] + self.pixels  # (N, K, 2, S)
            stride = self.heatmap_stride
            extent, cells = map_size(sizes, stride), patch_cells((self.window + 1) / stride)
            y, x = (
                upsampled_axis_weights(points[:, :, axis], extent[:, i, None], stride, cells, self.sampling)
                for i, axis in ((0, 1), (1, 0))
            )
            maps = precise(heatmaps[:, : len(self.scales)])
            patch = gather_own_channel(maps, image, y.start, x.start, cells)
            # The prior is a product of its values along the axes, too.
            along_y, along_x = ((axis.weight * self.bell[:, None]).to(patch.dtype) for axis in (y, x))
            values = along_y @ patch @ along_x.transpose(-1, -2)
            return values if self.all_count else values * self.counts

    def adapt(self, attraction: Tensor, global_maps: Tensor) -> Tensor:
        """Convolves each global map with its own attraction map (7.3); both (N, K, …), the result as the global map.

        The kernel is applied at steps of 1 px, although the mesh's steps are scaled: so does the official code.
        """
        kernel = attraction.flip((-2, -1)) / (attraction.shape[-1] * attraction.shape[-2])
        with full_precision(global_maps):
            # A correlation with the flipped kernel is a convolution.
            return correlate_each(global_maps.flatten(0, 1), precise(kernel).flatten(0, 1)).view(global_maps.shape)

    def pick(self, maps: Tensor, poses: Tensor) -> Refined:
        """Reads joints from refined maps (N, K, S, S), a quarter of the way from the largest value to the second."""
        side = maps.shape[-1]
        value, index = two_largest(maps.flatten(2))
        xy = torch.stack([index % side, torch.div(index, side, rounding_mode="floor")], dim=-1).to(value.dtype)
        moved = 0.75 * xy[..., 0, :] + 0.25 * xy[..., 1, :] - self.window // 2
        return Refined(poses + moved, 0.75 * value[..., 0] + 0.25 * value[..., 1])

    def refine(self, attraction: Tensor, heatmaps: Tensor, image: Tensor, poses: Tensor, sizes: Tensor) -> Refined:
        """Refines joints with attraction maps (N, K, P, P) of values in [0, 1] (7); see :meth:`global_maps`."""
        return self.pick(self.adapt(attraction, self.global_maps(heatmaps, image, poses, sizes)), poses)

    def nearest_attraction(self, attraction: Tensor, poses: Tensor) -> Refined:
        """Moves joints to the mesh point of the largest attraction (level ``partial``); maps as for :meth:`refine`."""
        points = self.steps.numel()
        value, index = precise(attraction).flatten(2).max(-1)
        grid = torch.stack([index % points, torch.div(index, points, rounding_mode="floor")], dim=-1)
        return Refined(poses + (grid - self.radius) * self.scales[:, None], value)

    def unrefined(self, heatmaps: Tensor, image: Tensor, poses: Tensor, sizes: Tensor) -> Refined:
        """Keeps joints, with the value of their heatmap (level ``none``); see :meth:`global_maps`."""
        middle = self.window // 2
        return Refined(poses, self.global_maps(heatmaps, image, poses, sizes)[:, :, middle, middle])


def map_size(sizes: Tensor, stride: int = STRIDE) -> Tensor:
    """Returns the cells of a map over pictures of ``sizes`` px (integers)."""
    return torch.div(sizes + (stride - 1), stride, rounding_mode="floor")


def two_largest(values: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the two largest values (…, 2) and their indices along the last axis."""
    first, where = values.max(-1, keepdim=True)
    second, then = values.scatter(-1, where, -torch.inf).max(-1, keepdim=True)
    return torch.cat([first, second], -1), torch.cat([where, then], -1)
