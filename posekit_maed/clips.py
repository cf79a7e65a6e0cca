"""Batches as clips: what data modules give, in the form that the network and the losses take."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from posekit.data.batch_parts import one_frame_clips
from posekit.data.clips import ClipBox
from posekit.data.datamodule import PoseDataModule
from posekit.data.mixture import Mixture
from posekit.errors import UserError
from posekit.skeletons import SPIN49
from posekit_maed.losses import Targets

PARTS = ("clips", "images")
"""Parts of a hybrid batch."""


def as_clips(batch: Any) -> dict[str, dict[str, Any]]:
    """Returns the parts of a batch, each a batch of clips with masks and weights filled in.

    Args:
        batch: A ``ClipBatch``, a ``CropBatch`` (clips of one frame), or a ``HybridBatch`` of such.

    Raises:
        UserError: The batch is of another kind, or its labels are of another joint set.
    """
    if isinstance(batch, dict) and "image" not in batch and any(name in batch for name in PARTS):
        return {name: _clip_batch(batch[name]) for name in PARTS if name in batch}
    return {"clips": _clip_batch(batch)}


def _clip_batch(batch: Any) -> dict[str, Any]:
    if not isinstance(batch, dict) or "image" not in batch or not isinstance(batch.get("keypoints"), Tensor):
        raise UserError("MAED needs clips or crops of single people: set data.view to clips or crops")
    if batch["image"].ndim == 4:
        batch = one_frame_clips(batch, batch["image_id"]) | {"padded": False}
    joints = batch["keypoints"].shape[-2]
    if joints != len(SPIN49):
        raise UserError(
            f"MAED needs labels of SPIN49's 49 joints, and the batch has {joints}: set data.skeleton to SPIN49"
        )
    return {**batch, **_weights(batch)}


def _weights(batch: dict[str, Any]) -> dict[str, Any]:
    """Returns the weights that a data set left out, all of them 0 on padding."""
    valid = batch["valid"]
    # Asking would wait for a GPU; there a mask that hides nothing costs next to nothing.
    padded = batch["padded"] if "padded" in batch else valid.device.type != "cpu" or not bool(valid.all())
    found: dict[str, Any] = {"padded": padded and valid.shape[1] > 1}
    real = valid.float()
    if "joints3d" in batch:
        weight = batch.get("joints3d_weight")
        ones = torch.ones_like(batch["joints3d"][..., 0])
        found["joints3d_weight"] = (ones if weight is None else weight) * real[..., None]
    if "body_pose" in batch:
        weight = batch.get("body_weight")
        found["body_weight"] = real if weight is None else weight * real
    return found


def targets_of(batch: dict[str, Any]) -> Targets:
    """Returns the labels of a batch of clips; what a data set lacks has weight 0.

    Raises:
        UserError: Shape labels of another number of coefficients than MAED's 10.
    """
    image = batch["image"]
    lead, device = image.shape[:2], image.device

    def filled(name: str, *shape: int) -> Tensor:
        value = batch.get(name)
        return torch.zeros(*lead, *shape, device=device) if value is None else value.to(torch.float32)

    shape = filled("body_shape", 10)
    if shape.shape[-1] != 10:
        raise UserError(f"body_shape labels have {shape.shape[-1]} coefficients, MAED's are 10 (num_betas)")
    return Targets(
        points=pixels_to_half_crops(batch["keypoints"], image.shape[-2:]),
        confidence=(batch["visible"] > 0).float(),
        joints3d=filled("joints3d", len(SPIN49), 3),
        joints3d_weight=filled("joints3d_weight", len(SPIN49)),
        pose=filled("body_pose", 24, 3),
        shape=shape,
        body_weight=filled("body_weight"),
        valid=batch["valid"].float(),
    )


def pixels_to_half_crops(points: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Turns crop px (..., 2) into half crops from the centre: -1 and 1 at the first and last pixel of the longer side.

    Args:
        points: (..., 2) px.
        size: (H, W) of the crop.
    """
    x, y = points.float().unbind(-1)
    height, width = size
    # By axis: a tensor made of numbers would be copied to the GPU, and waited for, in every step.
    return torch.stack([x - (width - 1) / 2, y - (height - 1) / 2], -1) / half_side(size)


def half_crops_to_pixels(points: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Undoes :func:`pixels_to_half_crops`."""
    x, y = (points.float() * half_side(size)).unbind(-1)
    height, width = size
    return torch.stack([x + (width - 1) / 2, y + (height - 1) / 2], -1)


def half_side(size: torch.Size | tuple[int, int]) -> float:
    """Returns half the longer side of a crop (H, W), px."""
    return (max(size) - 1) / 2


class CropRule(NamedTuple):
    """How people are cut out of frames; None where the data do not say, or say different things."""

    clip_box: ClipBox | None
    box_scale: float | None


def crop_rule(datamodule: PoseDataModule) -> CropRule:
    """Returns how the data that a run learns from are cut, by what clips say if there are any.

    Args:
        datamodule: The run's.
    """
    used = [datamodule]
    if isinstance(datamodule, Mixture):
        used = [part.data for part in datamodule.parts.values() if part.ratio > 0]
    clips = [data for data in used if getattr(data, "view", None) == "clips"]
    boxes = {getattr(data, "clip_box", None) for data in clips}
    scales = {getattr(data, "box_scale", None) for data in clips or used}
    return CropRule(boxes.pop() if len(boxes) == 1 else None, scales.pop() if len(scales) == 1 else None)


def check_length(datamodule: PoseDataModule, limit: int | None, keep_every: int) -> None:
    """Refuses data with clips of more frames than a network tells apart, before anything is built.

    Args:
        datamodule: The run's.
        limit: Most frames of a pass; None for any.
        keep_every: Each so-manieth frame passes.

    Raises:
        UserError: There are such clips.
    """
    if limit is None:
        return
    used = [part.data for part in datamodule.parts.values()] if isinstance(datamodule, Mixture) else [datamodule]
    for data in used:
        frames = getattr(data, "frames", None)
        if getattr(data, "view", None) == "clips" and isinstance(frames, int) and -(-frames // keep_every) > limit:
            raise UserError(
                f"clips of {frames} frames of {type(data).__name__} are longer than max_frames={limit}: set "
                "data.frames or model.max_frames"
            )
