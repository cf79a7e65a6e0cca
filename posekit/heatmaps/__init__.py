"""Heatmaps: coordinate maps, targets, decoders, and one codec class per representation.

Sizes are (H, W), points are (x, y) with pixel centres at integers. Everything is batched torch code that neither loops
over joints nor waits for the device.
"""

from posekit.heatmaps.codecs import DistributionCodec, GaussianCodec, HeatmapTarget, flip_heatmaps, shift_heatmaps
from posekit.heatmaps.decoders import (
    DECODERS,
    decode_argmax,
    decode_argmax_shift,
    decode_dark,
    decode_expectation,
    decode_heatmaps,
    decode_parabola,
    decode_window,
    mean_position,
)
from posekit.heatmaps.mapping import MAPPINGS, flip_offset, from_heatmap, to_heatmap
from posekit.heatmaps.targets import bilinear_cells, corner_targets, dot_heatmaps, gaussian_heatmaps

__all__ = [
    "DECODERS",
    "MAPPINGS",
    "DistributionCodec",
    "GaussianCodec",
    "HeatmapTarget",
    "bilinear_cells",
    "corner_targets",
    "decode_argmax",
    "decode_argmax_shift",
    "decode_dark",
    "decode_expectation",
    "decode_heatmaps",
    "decode_parabola",
    "decode_window",
    "dot_heatmaps",
    "flip_heatmaps",
    "flip_offset",
    "from_heatmap",
    "gaussian_heatmaps",
    "mean_position",
    "shift_heatmaps",
    "to_heatmap",
]
