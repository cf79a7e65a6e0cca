"""G for the small backbone: a latent from the joints that its heatmaps show, so that 2D weights are a start for 3D.

Not part of the paper, whose head (:class:`posekit_nlrd.image.LatentHead`) learns little in minutes on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from posekit.nn import SmallNet
from posekit.nn.joint_tokens import joint_places
from posekit.nn.precision import precise
from posekit.skeletons import COCO17
from posekit_nlrd.layers import Bounded, linear
from posekit_nlrd.pose import LATENT

JOINTS = len(COCO17)

Found = tuple[Tensor, Tensor, Tensor]


class HeatmapTrunk(SmallNet):
    """The whole small network: its encoder's stages by torchvision's names, its decoder and its heatmaps.

    Args:
        options: Options of :class:`~posekit.nn.SmallNet`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(num_joints=JOINTS, **options)

    @property
    def layer1(self) -> nn.Module:
        """The encoder's stage at stride 4."""
        return self.stages[0]

    @property
    def layer2(self) -> nn.Module:
        """The encoder's stage at stride 8: ResNet's Res-3."""
        return self.stages[1]

    @property
    def layer3(self) -> nn.Module:
        """The encoder's stage at stride 16."""
        return self.stages[2]

    def before(self, images: Tensor, layer: str) -> list[Tensor]:
        """Returns the maps up to what enters a stage ``layer1`` to ``layer3``, the stem's first."""
        maps = [self.stem(images)]
        for stage in self.stages[: int(layer[-1]) - 1]:
            maps.append(stage(maps[-1]))
        return maps

    def after(self, maps: list[Tensor], layer: str) -> Found:
        """Runs a stage and all behind it on what :meth:`before` gave.

        Returns:
            The coarsest map (B, C, H/32, W/32), the decoder's (B, D, H/4, W/4), and heatmaps (B, 17, H/4, W/4).
        """
        maps = list(maps)
        for stage in self.stages[int(layer[-1]) - 1 :]:
            maps.append(stage(maps[-1]))
        features = self.decode(maps[1:])
        return maps[-1], features, self.final_layer(features)

    def forward(self, images: Tensor) -> Found:  # type: ignore[override]
        """Returns what :meth:`after` says, of images (B, 3, H, W)."""
        return self.after(self.before(images, "layer1"), "layer1")


class JointHead(nn.Module):
    """Fully connected layers from joints to the latent.

    Their input: where each joint is seen (the mean of its softmaxed map, in half crops from the centre), how surely
    (its highest value), the decoder's feature there, and all cells of the coarsest map.

    Args:
        trunk: Whose results it takes.
        image_size: (W, H) of the pictures, px.
        widths: Fully connected layers; the first one's output serves the contrastive loss.
        latent_range: a of the latent's range (-a, a).
    """

    def __init__(
        self, trunk: HeatmapTrunk, image_size: tuple[int, int], widths: Sequence[int], latent_range: float = 1.0
    ) -> None:
        super().__init__()
        cells = -(-image_size[0] // 32) * -(-image_size[1] // 32)
        fine, coarse = trunk.feature_channels, trunk.branch_channels[-1]
        self.norm, self.coarse_norm = nn.LayerNorm(fine), nn.LayerNorm(coarse)
        sizes = [JOINTS * (3 + fine) + cells * coarse, *widths]
        self.layers = nn.ModuleList(linear(a, b) for a, b in pairwise(sizes))
        self.out = linear(sizes[-1], LATENT)
        self.bound = Bounded(latent_range)
        self.feature_size = int(widths[0])

    def forward(self, found: Found) -> tuple[Tensor, Tensor]:
        """Maps the trunk's results to latents (B, 32) and the first layer's output (B, feature_size)."""
        coarse, features, maps = found
        place, seen = joint_places(maps, features)
        cells = self.coarse_norm(coarse.flatten(2).transpose(1, 2))
        x = torch.cat([precise(part.flatten(1)) for part in (place, self.norm(seen), cells)], 1)
        outputs = []
        for layer in self.layers:
            x = layer(x).relu()
            outputs.append(x)
        return self.bound(self.out(x)), outputs[0]
