"""Networks that turn images into heatmaps, public weights for them, and counts of what they cost.

Networks import torch and posekit only; nothing here knows Lightning.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from posekit.errors import UserError, nearest, one_of
from posekit.nn.blocks import HeatmapNetwork
from posekit.nn.counting import count_macs, count_operations, count_parameters
from posekit.nn.hrnet import HRNet
from posekit.nn.resnet import DEPTHS, ResNet
from posekit.nn.small import SmallNet
from posekit.nn.vit import ViT
from posekit.nn.weights import LoadReport, checksum, load_weights, read_state_dict

__all__ = [
    "BACKBONES",
    "HRNet",
    "HeatmapNetwork",
    "LoadReport",
    "ResNet",
    "SmallNet",
    "ViT",
    "backbone_options",
    "build_backbone",
    "checksum",
    "count_macs",
    "count_operations",
    "count_parameters",
    "load_weights",
    "read_state_dict",
]

BACKBONES: dict[str, Callable[..., HeatmapNetwork]] = {
    "hrnet_w32": partial(HRNet, width=32),
    "hrnet_w48": partial(HRNet, width=48),
    **{f"resnet{depth}": partial(ResNet, depth=depth) for depth in DEPTHS},
    "small": SmallNet,
    "vit_small": partial(ViT, width=384),
    "vit_base": partial(ViT, width=768),
}
"""Heatmap networks by name; each takes ``num_joints`` and its own options."""


def backbone_options(name: str) -> list[str]:
    """Returns the names of a backbone's options.

    Raises:
        UserError: There is no such backbone.
    """
    one_of("backbone", name, BACKBONES)
    factory = BACKBONES[name]
    # What the name itself says (the width of hrnet_w32) is no option.
    fixed = factory.keywords if isinstance(factory, partial) else {}
    return [option for option in inspect.signature(factory).parameters if option not in {"num_joints", *fixed}]


def build_backbone(name: str, num_joints: int | None, **options: Any) -> HeatmapNetwork:
    """Builds a heatmap network by name, with fresh weights.

    Args:
        name: One of :data:`BACKBONES`.
        num_joints: Number of heatmaps; None builds it without the last layer.
        options: The network's own options.

    Raises:
        UserError: Unknown name, unknown option, or a value that the network refuses.
    """
    valid = backbone_options(name)
    unknown = [option for option in options if option not in valid]
    if unknown:
        listed = ", ".join(valid)
        raise UserError(
            f"backbone {name!r} has no option {unknown[0]!r}; its options: {listed}.{nearest(unknown[0], valid)}"
        )
    try:
        return BACKBONES[name](num_joints=num_joints, **options)
    except TypeError as error:
        raise UserError(f"backbone {name!r}: {error}") from None
