"""Stage A4: relation networks of single poses (section 5.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit.errors import UserError
from posekit_nlrd.augment import Draws, ViewAugmentation
from posekit_nlrd.geometry import fit_canonical
from posekit_nlrd.relations import latent_distance
from posekit_nlrd.stages.base import OPTIMIZERS, Logs, Stage, StageOptions, Tools
from posekit_nlrd.stages.options import Count, Degrees, Positive, Share

LOSS_SPACES = ("latent", "decoded", "both")


@dataclass(frozen=True)
class RelationOptions(StageOptions):
    """Options of the relation stages.

    Attributes:
        loss_space: Where T's result is compared: ``latent`` (the papers), ``decoded`` (the release, for poses) or
            ``both``.
        poses: Poses per step, drawn from the batch's windows (pose relations).
        mixed: Share of them decoded from mixtures of two poses' latents (0 in the release): pictures give latents
            between those of recorded poses, where T would have to guess.
        tilt: Largest in-plane rotation of augmentation, degrees.
        tilt_probability: Of any in-plane rotation.
        flip: Probability of the mirror image.
        reverse: Probability of playing windows backwards (motion relations).
    """

    steps: Count | None = 100_000
    lr: Positive = 1e-3
    optimizer: Annotated[str, OPTIMIZERS] = "rmsprop"
    loss_space: Annotated[str, LOSS_SPACES] = "latent"
    poses: Count = 256
    mixed: Share = 0.0
    tilt: Degrees = 60.0
    tilt_probability: Share = 0.5
    flip: Share = 0.5
    reverse: Share = 0.5


class RelationStage(Stage):
    """What both relation stages share: one T, one optimiser and one loss per relation."""

    options_class = RelationOptions
    options: RelationOptions
    separate_optimizers = True
    motion: ClassVar[bool]
    """Whether it teaches relations of motions, or those of single poses."""

    @property
    def names(self) -> list[str]:
        """Names of the relations that this stage teaches."""
        return [name for name, kind in self.networks.kinds.items() if kind.is_motion is self.motion]

    def check(self) -> None:
        """Refuses a stage with nothing to learn.

        Raises:
            UserError: No relation of this kind is in the model's ``relations``.
        """
        if not self.names:
            raise UserError(
                f"stage {self.name} has nothing to learn: relations lists none of its kind; leave it out of stages"
            )

    def trained(self) -> list[nn.Module]:
        """Returns the relation networks."""
        return [self.networks.relations[name] for name in self.names]

    def loss(self, predicted: Tensor, wanted: Tensor, target: Tensor) -> Tensor:
        """Compares T's latents with those of the transform, and their decoded poses with it, as ``loss_space`` says."""
        space = self.options.loss_space
        loss = predicted.new_zeros(())
        if space != "decoded":
            loss = loss + F.mse_loss(predicted, wanted)
        if space != "latent":
            loss = loss + F.mse_loss(self.decode(predicted), target)
        return loss

    def decode(self, latent: Tensor) -> Tensor:
        """Decodes latents of this stage's kind."""
        raise NotImplementedError

    def teach(self, turn: int, anchor: Tensor, positive: Tensor, target: Tensor, tools: Tools) -> Logs:
        """Steps one relation network on latents of anchors and of their transforms."""
        name = self.names[turn]
        loss = self.loss(self.networks.relate(name, anchor), positive, target)
        self.descend(loss, tools, turn)
        return {name: loss.detach(), f"{name}_distance": latent_distance(anchor, positive)}


class PoseRelationStage(RelationStage):
    """Trains a T per relation of poses, in E_p's latent space."""

    name = "pose_relation"
    needs = ("pose",)
    stream = "motion"
    motion = False

    def decode(self, latent: Tensor) -> Tensor:
        """Decodes pose latents."""
        return self.networks.pose_decoder.pose(latent)

    def step(self, batch: Mapping[str, Mapping[str, Tensor]], tools: Tools) -> Logs:
        """Takes one step of each relation network on the same poses."""
        view = ViewAugmentation(self.options.tilt, self.options.tilt_probability, self.options.flip)
        pose = fit_canonical(view.poses(batch["motion"]["joints3d"], self.options.poses, tools.draws))
        with torch.no_grad():
            anchor, pose = self._mix(self.networks.encode_pose(pose), pose, tools.draws)
        logs: Logs = {}
        for turn, name in enumerate(self.names):
            target = self.networks.kinds[name].pose(pose)
            with torch.no_grad():
                positive = self.networks.encode_pose(target)
            logs |= self.teach(turn, anchor, positive, target, tools)
        return {"loss": torch.stack([logs[name] for name in self.names]).mean(), **logs}

    def _mix(self, latent: Tensor, pose: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Replaces a share of latents (N, 32) by mixtures of two, and poses (N, 17, 3) by what these decode to."""
        if not self.options.mixed:
            return latent, pose
        share = draws.uniform(len(latent), 1)
        mixture = torch.lerp(latent, latent.roll(1, 0), share)  # the poses are in random order
        chosen = draws.chance(self.options.mixed, len(latent))
        decoded = self.networks.pose_decoder.pose(mixture)
        return torch.where(chosen[:, None], mixture, latent), torch.where(chosen[:, None, None], decoded, pose)
