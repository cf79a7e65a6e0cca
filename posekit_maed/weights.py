"""Weights of others: the published model's names, the ViT hybrid's, the small network's, the first stage's."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from posekit.errors import UserError
from posekit.nn import LoadReport
from posekit_maed.encoders import SpatialTemporalEncoder
from posekit_maed.network import MAEDNetwork
from posekit_maed.small import SmallTokens

State = dict[str, Tensor]

_BODY = "decoder.smpl."
_VIT = "patch_embed.backbone."
_SMALL = "laterals.0.0.weight"
_HEADS = ("head.", "head_dist.")


def convert_official(state: State) -> State:
    """Renames the tensors of a published file to the network's names.

    The published model's names are the network's; its nine body arrays are left out, since the body comes from its own
    file. A ViT hybrid of timm (R50+ViT-B/16, ImageNet-21k) becomes the encoder, without its classifier; of its 12
    blocks a network takes the first ones.

    Args:
        state: Names and tensors of a file, wrappers' prefixes taken off. Other names pass unchanged.
    """
    state = {name: value for name, value in state.items() if not name.startswith(_BODY)}
    if any(name.startswith(_VIT) for name in state):
        return {f"encoder.{name}": value for name, value in state.items() if not name.startswith(_HEADS)}
    return state


def fit_to_network(state: State, network: MAEDNetwork, decoder: bool = True) -> State:
    """Converts the tensors of any known file for a network.

    Position embeddings of another grid are resized, temporal ones of more frames cut.

    Args:
        state: Names and tensors of a file.
        network: Where they are to go.
        decoder: Keep the decoder's.
    """
    state = convert_official(state)
    embed = getattr(network.encoder, "patch_embed", None)
    if isinstance(embed, SmallTokens) and not any(".patch_embed." in name for name in state):
        stem = next((name.removesuffix(_SMALL) for name in state if name.endswith(_SMALL)), None)
        if stem is not None:
            state = {f"encoder.{_VIT}{name[len(stem) :]}": v for name, v in state.items() if name.startswith(stem)}
    if not decoder:
        state = {name: value for name, value in state.items() if not _names(name, "decoder.")}
    if isinstance(network.encoder, SpatialTemporalEncoder):
        state = {name: _resized(name, value, network.encoder) for name, value in state.items()}
    return state


def _names(name: str, part: str) -> bool:
    return name.startswith(part) or f".{part}" in name


def _resized(name: str, value: Tensor, encoder: SpatialTemporalEncoder) -> Tensor:
    if name.endswith("temp_embed") and value.ndim == 4 and value.shape[1] > encoder.max_frames:
        return value[:, : encoder.max_frames]
    if not name.endswith("pos_embed") or value.shape[1] == encoder.pos_embed.shape[1] or value.ndim != 3:
        return value
    side = round((value.shape[1] - 1) ** 0.5)
    columns, rows = (-(-length // 16) for length in encoder.image_size)
    if side * side != value.shape[1] - 1 or rows * columns != encoder.pos_embed.shape[1] - 1:
        return value
    cells = value[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    cells = F.interpolate(cells, (rows, columns), mode="bicubic", align_corners=False, antialias=True)
    return nn.functional.pad(cells.flatten(2).transpose(1, 2), (0, 0, 1, 0)).index_copy(
        1, value.new_zeros(1).long(), value[:, :1]
    )


def require_encoder(report: LoadReport, source: str) -> None:
    """Checks that a file gave the encoder anything: one that fits the decoder alone is not what anybody means.

    (The published configs start a transformer from a ResNet's checkpoint, which silently loads nothing.)

    Raises:
        UserError: No tensor of the encoder was loaded.
    """
    if not any(_names(name, "encoder.") for name in report.matched):
        raise UserError(
            f"init_from {source}: nothing transfers to the encoder ({len(report.matched)} tensors of the decoder "
            "fit); the first stage must have the same encoder and backbone"
        )
