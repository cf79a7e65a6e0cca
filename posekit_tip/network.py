"""TIP's network: a single-frame backbone with a rough head, and the temporal part behind it.

frames -> backbone -> features F, rough maps R        once per frame
R, F of both ends  -> synthesizer -> interim poses I
per part group: differences of F, R and I of its joints -> encoder -> distiller -> Z
F of the key frame, all Z -> fusion -> final head -> heatmaps
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from posekit.nn import HeatmapNetwork
from posekit_tip.distiller import GroupMotion, ResidualBlock, init_weights
from posekit_tip.sharing import Windows, key_windows
from posekit_tip.synthesizer import BETA, Interim, Located, PoseSynthesizer, locate

TEMPORAL = ("tip", "single", "interpolation", "difference")


class Frames(NamedTuple):
    """Encoded frames in one row."""

    features: Tensor  # (N, C, h, w)
    rough: Tensor  # (N, J, h, w) heatmaps of the single-frame head


class TemporalOutput(NamedTuple):
    """What the temporal part says of M key frames."""

    heatmaps: Tensor  # (M, J, h, w)
    distilled: list[Tensor]  # per group (M, D, h, w)
    interim: Interim | None
    key: Frames


class TemporalPart(nn.Module):
    """Everything behind the backbone.

    With C = D = 48, three interim poses, five groups of three joints and 17 maps it has 756,016 parameters.

    Args:
        channels: Channels C of the features.
        groups: Joint indices of each part group.
        num_maps: Maps that the final head gives.
        mode: ``tip``; ``interpolation``: interim poses at even steps, nothing learned; ``difference``: groups see
            feature differences alone.
        num_interim: Interim poses K.
        num_support: Neighbours S a side.
        width: Channels D of a group's feature; None takes C.
        sigma: Of the drawn interim poses, heatmap px.
        beta: Factor of the maps in the soft argmax of the two ends.
        residual_offset: Let interim poses leave the line.

    Attributes:
        order: (J,) the joints of all groups, group by group.
    """

    order: Tensor

    def __init__(
        self,
        channels: int,
        groups: Sequence[Sequence[int]],
        num_maps: int,
        mode: str = "tip",
        num_interim: int = 3,
        num_support: int = 1,
        width: int | None = None,
        sigma: float = 3.0,
        beta: float = BETA,
        residual_offset: bool = False,
    ) -> None:
        super().__init__()
        width = channels if width is None else width
        self.groups = tuple(tuple(group) for group in groups)
        order = [joint for group in self.groups for joint in group]
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.num_support = num_support
        self.beta = beta
        sees_poses = mode != "difference"
        self.synthesizer = (
            PoseSynthesizer(channels, num_interim, sigma, mode == "tip", residual_offset) if sees_poses else None
        )
        sizes = [len(group) for group in self.groups]
        self.motion = GroupMotion(sizes, 2 * num_support * channels, num_interim + 2 if sees_poses else 0, width)
        self.fusion = ResidualBlock(channels + len(sizes) * width, channels)
        self.head = nn.Conv2d(channels, num_maps, 3, padding=1)
        init_weights(self)
        for head in self.motion.task_heads:  # zero: motion adds nothing at the start, and L_com is ln 2
            nn.init.zeros_(cast(Tensor, head.weight))

    def forward(
        self, frames: Frames, windows: Windows, slots: Tensor | None = None, located: Located | None = None
    ) -> TemporalOutput:
        """Estimates the key frames of windows.

        Args:
            frames: N frames in a row.
            windows: M windows over them.
            slots: (J,) the final head's map of each joint; None where they agree.
            located: The frames' joints, where the caller has found them already.
        """
        key = Frames(*(take_maps(value, windows.key) for value in frames))
        interim = self._interim(frames, windows, located)
        own = self._own_maps(frames, windows, interim)
        distilled: list[Tensor] = self.motion(self._differences(frames, windows, key.features), own)
        fused = self.fusion(torch.cat([key.features, *distilled], dim=1))
        heatmaps = self.head(fused)
        if slots is not None:
            heatmaps = heatmaps.index_select(1, slots)
        return TemporalOutput(heatmaps, distilled, interim, key)

    @torch.no_grad()
    def start_from(self, rough_head: nn.Conv2d) -> None:
        """Makes the final maps those of the rough head, until something is learned.

        The fusion's shortcut passes the key frame's features (not negative, behind the backbone's last ReLU), its
        convolutions start at 0, and the final head is the rough one in the middle of its kernels.

        Args:
            rough_head: The 1x1 convolution of the single-frame network.
        """
        shortcut = cast(nn.Conv2d, self.fusion.skip)
        channels = shortcut.weight.shape[0]
        nn.init.zeros_(shortcut.weight)
        shortcut.weight[:, :channels, 0, 0] = torch.eye(channels)
        nn.init.zeros_(self.fusion.bn2.weight)
        nn.init.zeros_(self.head.weight)
        self.head.weight[:, :, 1, 1] = rough_head.weight[:, :, 0, 0]
        cast(Tensor, self.head.bias).copy_(cast(Tensor, rough_head.bias))

    def _differences(self, frames: Frames, windows: Windows, key: Tensor) -> Tensor:
        """Returns F_c - F_p and F_n - F_c of every support, (M, 2 S C, h, w)."""
        parts = []
        for step in range(self.num_support):
            parts.append(key - take_maps(frames.features, windows.before[:, step]))
            parts.append(take_maps(frames.features, windows.after[:, step]) - key)
        return torch.cat(parts, dim=1)

    def _interim(self, frames: Frames, windows: Windows, located: Located | None) -> Interim | None:
        if self.synthesizer is None:
            return None
        located = locate(frames.features, frames.rough, self.beta) if located is None else located
        size = frames.rough.shape[-2:]
        return cast(Interim, self.synthesizer(located.take(windows.start), located.take(windows.end), size))

    def _own_maps(self, frames: Frames, windows: Windows, interim: Interim | None) -> list[Tensor | None]:
        """Returns each group's rough maps at both ends and interim maps, (M, |g| (K + 2), h, w)."""
        if interim is None:
            return [None] * len(self.groups)
        ends = [frames.rough.index_select(0, place)[:, :, None] for place in (windows.start, windows.end)]
        drawn = (interim.heatmaps * interim.confidence[..., None, None, None]).to(ends[0].dtype)
        maps = (
            torch.cat([*ends, drawn], dim=2).index_select(1, self.order).flatten(1, 2)
        )  # (M, J (K + 2), h, w), group by group
        sizes = [len(group) * (drawn.shape[2] + 2) for group in self.groups]
        return list(maps.contiguous(memory_format=torch.channels_last).split(sizes, dim=1))


def take_maps(maps: Tensor, index: Tensor) -> Tensor:
    """Returns the rows of an index (M,) of maps (N, C, h, w), channels last in memory, which indexing would undo."""
    return maps.permute(0, 2, 3, 1).index_select(0, index).permute(0, 3, 1, 2)


class TIPNetwork(nn.Module):
    """Backbone and temporal part.

    Args:
        backbone: A heatmap network with its head, which is the rough head; any with ``features`` and ``final_layer``.
        temporal: The part behind it; None makes it the single-frame network.
        slots: The head's map of each joint; None for one map per joint in order.
        frozen: Keep the backbone as it is: no gradient, batch norms in evaluation mode.
    """

    slots: Tensor | None

    def __init__(
        self,
        backbone: HeatmapNetwork,
        temporal: TemporalPart | None = None,
        slots: Sequence[int] | None = None,
        frozen: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.temporal = temporal
        self.frozen = frozen and temporal is not None
        self.register_buffer("slots", None if slots is None else torch.tensor(slots), persistent=False)
        if self.frozen:
            self.backbone.requires_grad_(False)
            self.backbone.eval()

    def train(self, mode: bool = True) -> TIPNetwork:
        """Switches the mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def encode(self, images: Tensor) -> Frames:
        """Encodes frames (N, 3, H, W)."""
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = self.backbone.features(images)
            rough = self.backbone.final_layer(features)
            if self.slots is not None:
                rough = rough.index_select(1, self.slots)
        return Frames(features, rough)

    def estimate(self, frames: Frames, windows: Windows) -> TemporalOutput:
        """Runs the temporal part."""
        assert self.temporal is not None
        return cast(TemporalOutput, self.temporal(frames, windows, self.slots))

    def forward(self, images: Tensor) -> Tensor:
        """Returns heatmaps (B, J, h, w) of the middle frame.

        Args:
            images: (B, T, 3, H, W) clips of evenly spaced frames, or (B, 3, H, W) pictures: clips of one frame.
        """
        clips = images if images.ndim == 5 else images[:, None]
        batch, length = clips.shape[:2]
        middle = length // 2
        if self.temporal is None:
            return self.encode(clips[:, middle]).rough
        number = torch.arange(length, device=images.device).expand(batch, length)
        key = torch.full((batch,), middle, device=images.device)
        windows = key_windows(number, torch.ones_like(number, dtype=torch.bool), key, self.temporal.num_support)
        return self.estimate(self.encode(clips.flatten(0, 1)), windows).heatmaps
