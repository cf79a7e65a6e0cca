"""Stage A2: the motion auto-encoder (section 5.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit_nlrd.augment import Draws, ViewAugmentation
from posekit_nlrd.geometry import fit_canonical
from posekit_nlrd.losses import velocity_l2
from posekit_nlrd.motion import LENGTH
from posekit_nlrd.stages.base import OPTIMIZERS, Logs, Stage, StageOptions, Tools
from posekit_nlrd.stages.options import Count, Degrees, NotNegative, Share


@dataclass(frozen=True)
class MotionOptions(StageOptions):
    """Options of the motion stage.

    Attributes:
        velocity_weight: Weight of the squared error of frame-to-frame steps (0 in the release).
        latent_weight: Weight of the squared error of the pose latents (0 in the release); it speeds short runs up.
        tilt: Largest in-plane rotation of augmentation, degrees (20 in the release).
        tilt_probability: Of any in-plane rotation (1 in the release).
        flip: Probability of the mirror image (0 in the release).
        reverse: Probability of playing backwards.
    """

    steps: Count | None = 100_000
    optimizer: Annotated[str, OPTIMIZERS] = "rmsprop"
    velocity_weight: NotNegative = 0.0
    latent_weight: NotNegative = 0.0
    tilt: Degrees = 60.0
    tilt_probability: Share = 0.5
    flip: Share = 0.5
    reverse: Share = 0.5


class MotionStage(Stage):
    """Trains E_m and D_m through the frozen pose auto-encoder."""

    name = "motion"
    needs = ("pose",)
    stream = "motion"
    options_class = MotionOptions
    options: MotionOptions

    def trained(self) -> list[nn.Module]:
        """Returns E_m and D_m."""
        return [self.networks.motion_encoder, self.networks.motion_decoder]

    def frames(self, stream: str) -> int:
        """Returns the length of a motion."""
        return LENGTH

    def step(self, batch: Mapping[str, Mapping[str, Tensor]], tools: Tools) -> Logs:
        """Reconstructs a batch of motions."""
        options, networks = self.options, self.networks
        view = ViewAugmentation(options.tilt, options.tilt_probability, options.flip, options.reverse)
        motion = fit_canonical(view(random_clips(batch["motion"]["joints3d"], tools.draws), tools.draws))
        with torch.no_grad():
            latents = networks.encode_pose(motion)
        decoded = networks.motion_decoder(networks.motion_encoder(latents))
        pose = networks.pose_decoder.pose(decoded)
        reconstruction = F.mse_loss(pose, motion)
        loss = reconstruction
        if options.velocity_weight:
            loss = loss + options.velocity_weight * velocity_l2(pose, motion)
        if options.latent_weight:
            loss = loss + options.latent_weight * F.mse_loss(decoded, latents)
        self.descend(loss, tools)
        return {"loss": loss.detach(), "reconstruction": reconstruction.detach()}


def random_clips(windows: Tensor, draws: Draws) -> Tensor:
    """Cuts 30 frames at a random place out of windows (B, T, ...), the same place for the whole batch."""
    start = draws.number(windows.shape[1] - LENGTH + 1)
    return windows[:, start : start + LENGTH]
