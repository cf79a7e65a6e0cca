"""A small heatmap network that learns on two CPU cores; the quickstart's network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from posekit.errors import UserError, each_in_range, in_range
from posekit.nn.blocks import BasicBlock, HeatmapNetwork, conv_bn, crop_to, heatmap_head, residual_stage


class SmallNet(HeatmapNetwork):
    """Residual encoder to stride 32 and a U-Net decoder back to stride 4.

    The stem is two strided 3x3 convolutions, each further stage ``blocks`` basic blocks. The decoder brings the coarser
    map to the finer width (1x1), doubles it (nearest), adds the encoder's map and refines the sum (3x3). About 0.64 M
    parameters by default. On a CPU use ``channels_last``: it is 25 to 60 % faster there. Any image size works; maps
    have ceil(size / stride) cells.

    Args:
        num_joints: Number K of heatmaps; None leaves the head out, and ``forward`` returns the features.
        widths: Channels of the stem's first convolution and of the stages at strides 4, 8, 16, 32.
        blocks: Residual blocks per stage.

    Attributes:
        branch_channels: Channels of the maps that :meth:`branches` returns.

    Raises:
        UserError: ``widths`` are not five positive whole numbers, or ``blocks`` is not one.
    """

    def __init__(
        self, num_joints: int | None = 17, widths: Sequence[int] = (16, 32, 64, 96, 128), blocks: int = 1
    ) -> None:
        widths = tuple(each_in_range("backbone 'small'", "widths", widths, "[1, inf)", whole=True))
        if len(widths) != 5:
            raise UserError(f"backbone 'small': widths must be five numbers, not {list(widths)}")
        in_range("backbone 'small'", "blocks", blocks, "[1, inf)", whole=True)
        super().__init__(feature_channels=widths[1], stride=4)
        self.branch_channels = tuple(widths[1:])
        self.stem = nn.Sequential(
            conv_bn(3, widths[0], 3, stride=2, relu=True), conv_bn(widths[0], widths[1], 3, stride=2, relu=True)
        )
        self.stages = nn.ModuleList(
            residual_stage(BasicBlock, before, after, blocks, stride=1 if i == 0 else 2)
            for i, (before, after) in enumerate(zip(widths[1:2] + widths[1:-1], widths[1:], strict=True))
        )
        # Decoder steps are ordered as they are used: from the coarsest map to the finest.
        pairs = list(zip(widths[:0:-1], widths[-2:0:-1], strict=False))
        self.laterals = nn.ModuleList(conv_bn(coarse, fine) for coarse, fine in pairs)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.refine = nn.ModuleList(conv_bn(fine, fine, 3, relu=True) for _, fine in pairs)
        self._init_weights()
        self.final_layer = heatmap_head(widths[1], num_joints)

    def branches(self, images: Tensor) -> list[Tensor]:
        """Returns the encoder's four maps (B, branch_channels[i], H/(4 2^i), W/(4 2^i)) of images (B, 3, H, W)."""
        x = self.stem(images)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def features(self, images: Tensor) -> Tensor:
        """Returns the decoder's last map (B, widths[1], H/4, W/4) of images (B, 3, H, W)."""
        return self.decode(self.branches(images))

    def decode(self, maps: list[Tensor]) -> Tensor:
        """Returns the decoder's last map of the encoder's four maps, as :meth:`branches` gives them."""
        x = maps[-1]
        for lateral, refine, skip in zip(self.laterals, self.refine, maps[-2::-1], strict=True):
            # The 1x1 convolution commutes with nearest upsampling and costs a quarter in front of it.
            x = refine(crop_to(self.upsample(lateral(x)), skip) + skip)
        return x

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, BasicBlock):
                nn.init.zeros_(cast(Tensor, module.bn2.weight))  # a block starts as its shortcut
