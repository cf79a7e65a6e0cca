"""The network of MAED: encoder, decoder, and what their output says about a body.

Wan et al., "Encoder-decoder with Multi-level Attention for 3D Human Shape and Pose Estimation", ICCV 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from posekit.body import MeanParameters
from posekit.errors import UserError, one_of
from posekit.geometry import rot6d_to_matrix
from posekit.nn.precision import full_precision, precise
from posekit_maed.decoders import DECODERS, Regression
from posekit_maed.encoders import build_encoder


class BodyParameters(NamedTuple):
    """What the network says of each frame."""

    rotations: Tensor  # (B, T, 24, 3, 3) float32, relative to the parent; row 0 in the camera's frame
    shape: Tensor  # (B, T, 10) float32
    camera: Tensor  # (B, T, 3) float32, weak perspective of the crop: scale, tx, ty
    pose6d: Tensor  # (B, T, 24, 6)
    features: Tensor  # (B, T, C) of the encoder


class MAEDNetwork(nn.Module):
    """Encoder (spatial-temporal, or a plain CNN) and decoder (kinematic, or iterative) of the published model.

    Args:
        encoder: ``ste`` or ``cnn`` (torchvision's ResNet-50, frame by frame).
        decoder: ``ktd`` or ``iterative``.
        image_size: (W, H) of the crops, px.
        st_mode: Arrangement of attention: ``parallel``, ``series``, ``coupling``, ``vanilla`` or ``temporal``.
        num_blocks: Transformer blocks.
        num_heads: Heads.
        embed_dim: Channels of tokens and of the encoder's feature.
        max_frames: Longest clip.
        backbone: ``hybrid`` (the paper's) or ``small`` (runs on a CPU; ours).
        backbone_options: Arguments of the backbone.
        hidden_dim: Channels of the decoder's two layers.
        dropout: Of the decoder.
        start: Where the iterative decoder starts, and what an untrained kinematic one answers.

    Raises:
        UserError: An unknown name, or a size that does not fit.
    """

    def __init__(
        self,
        encoder: str = "ste",
        decoder: str = "ktd",
        image_size: Sequence[int] = (224, 224),
        st_mode: str = "parallel",
        num_blocks: int = 6,
        num_heads: int = 12,
        embed_dim: int = 768,
        max_frames: int = 16,
        backbone: str = "hybrid",
        backbone_options: dict[str, Any] | None = None,
        hidden_dim: int = 1024,
        dropout: float = 0.5,
        start: MeanParameters | None = None,
    ) -> None:
        super().__init__()
        one_of("decoder", decoder, DECODERS)
        self.encoder = build_encoder(
            encoder,
            image_size,
            st_mode=st_mode,
            num_blocks=num_blocks,
            num_heads=num_heads,
            width=embed_dim,
            max_frames=max_frames,
            backbone=backbone,
            backbone_options=backbone_options,
        )
        self.decoder = DECODERS[decoder](self.encoder.out_width, hidden_dim, dropout, start=start)

    def forward(self, images: Tensor, valid: Tensor | None = None) -> BodyParameters:
        """Estimates bodies.

        Args:
            images: (B, T, 3, H, W) normalised RGB; a picture is a clip of one frame.
            valid: (B, T) bool, False on padding, which does not change the other frames' results; None: all count.

        Raises:
            UserError: Another rank or size of images, or clips that are too long.
        """
        if images.ndim != 5 or images.shape[2] != 3:
            raise UserError(f"MAED takes clips (B, T, 3, H, W), not {tuple(images.shape)}")
        features: Tensor = self.encoder(images, valid)
        regression: Regression = self.decoder(features)
        lead = images.shape[:2]
        with full_precision(images):
            pose6d = precise(regression.pose6d)
            rotations = rot6d_to_matrix(pose6d, columns="interleaved")
        parts = (rotations, precise(regression.shape), precise(regression.camera), pose6d, features)
        return BodyParameters(*(part.unflatten(0, lead) for part in parts))
