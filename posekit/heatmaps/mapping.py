"""Maps between the pixels of a crop and those of its heatmap."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from posekit.errors import UserError, one_of

MAPPINGS = ("udp", "half_pixel", "legacy")
"""How a stride is understood.

``udp``: first and last pixel centres coincide, x_hm = x (W_hm - 1) / (W_in - 1) (Huang et al., CVPR 2020);
flips commute.
``half_pixel``: pixels are areas, x_hm = (x + 0.5) / s - 0.5 with s = W_in / W_hm; flips commute too.
``legacy``: x_hm = x / s as in HRNet's code; a flip is off by (s - 1) / s heatmap px (:func:`flip_offset`).
"""


def flip_offset(input_width: int, heatmap_width: int, mapping: str = "udp") -> float:
    """Returns how far left a joint lies in the mirrored-back map of a mirrored crop, heatmap px.

    Args:
        input_width: Of the crop, px.
        heatmap_width: Of the heatmap, px.
        mapping: One of ``MAPPINGS``.

    Raises:
        UserError: An unknown mapping.
    """
    one_of("mapping", mapping, MAPPINGS)
    return 1 - heatmap_width / input_width if mapping == "legacy" else 0.0


def to_heatmap(points: Tensor, input_size: Sequence[int], heatmap_size: Sequence[int], mapping: str = "udp") -> Tensor:
    """Maps points (…, 2) from crop px to heatmap px.

    Args:
        points: (x, y), crop px.
        input_size: (H, W) of the crop.
        heatmap_size: (H, W) of the heatmap.
        mapping: One of ``MAPPINGS``.

    Raises:
        UserError: An unknown mapping or an empty size.
    """
    scale, shift = _coefficients(input_size, heatmap_size, mapping)
    return torch.stack([points[..., i] * scale[i] + shift[i] for i in range(2)], dim=-1)


def from_heatmap(
    points: Tensor, input_size: Sequence[int], heatmap_size: Sequence[int], mapping: str = "udp"
) -> Tensor:
    """Maps points (…, 2) from heatmap px to crop px: the inverse of `to_heatmap`, with the same arguments."""
    scale, shift = _coefficients(input_size, heatmap_size, mapping)
    return torch.stack([(points[..., i] - shift[i]) / scale[i] for i in range(2)], dim=-1)


def _coefficients(
    input_size: Sequence[int], heatmap_size: Sequence[int], mapping: str
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Scale and shift of x and of y. Plain numbers, so that nothing is copied to the device."""
    one_of("mapping", mapping, MAPPINGS)
    (in_h, in_w), (hm_h, hm_w) = map(tuple, (input_size, heatmap_size))
    if min(in_h, in_w, hm_h, hm_w) < 2:
        raise UserError(f"crop and heatmap must be at least 2x2, not {in_h}x{in_w} and {hm_h}x{hm_w}")
    if mapping == "udp":
        return ((hm_w - 1) / (in_w - 1), (hm_h - 1) / (in_h - 1)), (0.0, 0.0)
    scale = (hm_w / in_w, hm_h / in_h)
    if mapping == "legacy":
        return scale, (0.0, 0.0)
    return scale, (0.5 * scale[0] - 0.5, 0.5 * scale[1] - 0.5)
