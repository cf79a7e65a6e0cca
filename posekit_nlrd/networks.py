"""All of NLRD's networks in one module, so that every stage and every checkpoint knows them by the same names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from posekit.errors import each_in_range, in_range, one_of
from posekit_nlrd.geometry import to_local
from posekit_nlrd.image import ImageEncoder
from posekit_nlrd.layers import mlp
from posekit_nlrd.motion import MOTION_LATENT, MotionDecoder, MotionEncoder
from posekit_nlrd.pose import LATENT, PoseCritic, PoseDecoder, PoseEncoder, latent_critic
from posekit_nlrd.relation import WIDTHS, RelationNetwork
from posekit_nlrd.relations import Relation

ADVERSARIES = ("pose", "latent", "both")
CONTRAST_WIDTHS = (512, 256, 128)
METRES_PER_UNIT = 0.11  # of an adult, from the sum of the bones
STAGES = ("pose", "motion", "source", "pose_relation", "motion_relations", "adaptation")
"""Algorithm 1, in order."""


class Networks(nn.Module):
    """E_p, D_p, critics, E_m, D_m, G, a T per relation, and the two contrastive heads.

    Args:
        relations: The relations, by name.
        latent_range: a of all latents' range (-a, a).
        adversary: What the pose auto-encoder's critic judges: ``pose``, ``latent`` or ``both``.
        relation_widths: Hidden layers of the relation networks.
        feed_latent: See :class:`~posekit_nlrd.motion.MotionDecoder`.
        critic_relu: See :class:`~posekit_nlrd.pose.PoseCritic`.
        contrastive_relu: ReLU after the last layer of the contrastive heads.
        image_size: (W, H) of the pictures, px.
        image_options: Further arguments of :class:`~posekit_nlrd.image.ImageEncoder`.

    Attributes:
        unit: Metres per unit.
        stages_done: Which stages these weights went through.

    Raises:
        UserError: An option out of range.
    """

    unit: Tensor
    stages_done: Tensor

    def __init__(
        self,
        relations: dict[str, Relation],
        latent_range: float = 1.0,
        adversary: str = "pose",
        relation_widths: Sequence[int] = WIDTHS,
        feed_latent: bool = True,
        critic_relu: bool = False,
        contrastive_relu: bool = False,
        image_size: tuple[int, int] = (224, 224),
        **image_options: Any,
    ) -> None:
        super().__init__()
        in_range("NLRD", "latent_range", latent_range, "(0, inf)")
        widths = each_in_range("NLRD", "relation_widths", relation_widths, "[1, inf)", whole=True)
        one_of("adversary", adversary, ADVERSARIES)
        self.latent_range = float(latent_range)
        self.kinds = relations
        self.pose_encoder = PoseEncoder(latent_range)
        self.pose_decoder = PoseDecoder()
        self.pose_critic = PoseCritic(critic_relu) if adversary != "latent" else None
        self.latent_critic = latent_critic() if adversary != "pose" else None
        self.motion_encoder = MotionEncoder(latent_range)
        self.motion_decoder = MotionDecoder(latent_range, feed_latent)
        self.image = ImageEncoder(image_size=image_size, latent_range=latent_range, **image_options)
        self.relations = nn.ModuleDict(
            {
                name: RelationNetwork(MOTION_LATENT if kind.is_motion else LATENT, latent_range, widths)
                for name, kind in relations.items()
            }
        )
        sizes = {"lcr": self.image.head.feature_size, "hcr": MOTION_LATENT}
        self.contrast = nn.ModuleDict(
            {name: mlp([size, *CONTRAST_WIDTHS], last_relu=contrastive_relu) for name, size in sizes.items()}
        )

        # Metres per unit, to tell sizes from pictures that show none; the source stage measures it on its labels.
        self.register_buffer("unit", torch.tensor(METRES_PER_UNIT))
        self.register_buffer("stages_done", torch.zeros(len(STAGES), dtype=torch.bool))

    def done(self) -> set[str]:
        """Returns the names of the stages that these weights went through."""
        return {name for name, done in zip(STAGES, self.stages_done.tolist(), strict=True) if done}

    def critics(self) -> list[nn.Module]:
        """Returns the critics that there are."""
        return [critic for critic in (self.pose_critic, self.latent_critic) if critic is not None]

    def encode_pose(self, pose: Tensor) -> Tensor:
        """Maps canonical poses (..., 17, 3) to latents (..., 32)."""
        latent: Tensor = self.pose_encoder(to_local(pose))
        return latent

    def encode_motion(self, motion: Tensor) -> Tensor:
        """Maps canonical motions (B, T, 17, 3) to latents (B, 128)."""
        latent: Tensor = self.motion_encoder(self.encode_pose(motion))
        return latent

    def decode_motion(self, latent: Tensor) -> Tensor:
        """Maps motion latents (B, 128) to canonical motions (B, 30, 17, 3)."""
        return self.pose_decoder.pose(self.motion_decoder(latent))

    def relate(self, relation: str, latent: Tensor) -> Tensor:
        """Maps latents (..., 32), of motions (..., 128), to those of their transforms, by the relation's T."""
        # Of one rank, since a compiler makes a program for each.
        mapped: Tensor = self.relations[relation](latent.flatten(0, -2))
        return mapped.unflatten(0, latent.shape[:-1])

    def encode_video(self, video: Tensor, frozen_before: str | None = None) -> Tensor:
        """Maps clips (B, T, 3, H, W) to pose latents (B, T, 32), frame by frame."""
        latents, _ = self.image.features(video.flatten(0, 1), frozen_before)
        return latents.unflatten(0, video.shape[:2])

    def freeze_all_but(self, trained: Sequence[nn.Module]) -> None:
        """Lets gradients flow into these modules' parameters alone, and puts everything into evaluation mode.

        LSTMs stay in training mode: cuDNN refuses a backward pass through one in evaluation mode. They have no
        dropout, so the mode changes no result.
        """
        self.requires_grad_(False)
        self.eval()
        for module in trained:
            module.requires_grad_(True)
        self.motion_encoder.lstm.train()
        self.motion_decoder.lstm.train()

    def prior(self, uniform: Tensor) -> Tensor:
        """Turns numbers in [0, 1) into latents of the prior U(-a, a)."""
        return self.latent_range * (2 * uniform - 1)
