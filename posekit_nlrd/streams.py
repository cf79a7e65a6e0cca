"""From the batches of any data module to what NLRD's stages take: 17 joints in frame V, metres, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from posekit.data.batch import answered_rows, row_people
from posekit.errors import UserError
from posekit_nlrd.geometry import camera_to_view
from posekit_nlrd.joints import to_limb17

Batch = dict[str, Tensor]


def motion_batch(batch: Mapping[str, Any], skeleton: str, name: str = "data.motion") -> Batch:
    """Returns ``joints3d`` (B, T, 17, 3) in metres, the root at 0, and ``sample_id`` of a ``MotionBatch``.

    The world of motion capture has z up, as frame V has; the heading is arbitrary, and drawn anew in training.

    Raises:
        UserError: It is no such batch, or it lacks joints, or holds NaN.
    """
    joints = batch.get("joints3d")
    if not isinstance(joints, Tensor) or joints.ndim != 4 or "image" in batch:
        raise UserError(f"{name} gives no windows of motion: set its view to motion, or take CMUMoCap or AMASS")
    pose, weight = to_limb17(joints, skeleton, batch.get("weight"))
    ids = batch["sample_id"]
    _refuse(~torch.isfinite(pose).flatten(1).all(1), ids, name, "holds joints that are NaN or infinite")
    _refuse(~(weight > 0).flatten(1).all(1), ids, name, "lacks joints, and the auto-encoders need all 17")
    return {"joints3d": pose, "sample_id": ids}


def labelled_batch(
    batch: Mapping[str, Any], skeleton: str, name: str = "data.source", every_frame: bool = False
) -> Batch:
    """Returns ``image`` (N, 3, H, W), ``pose`` (N, 17, 3) in frame V and metres, ``weight`` and ``sample_id``.

    Crops, clips and mixtures of both. Of clips the frames that they answer for, which may be none.

    Args:
        batch: ``CropBatch``, ``ClipBatch`` or ``HybridBatch``.
        skeleton: Its joint set.
        name: Whose it is, for messages.
        every_frame: Keep all frames of clips, padding with weight 0: batches to learn from are of one size, never 0.

    Raises:
        UserError: There are no pictures with 3D joints, or the joints are NaN.
    """
    if "clips" in batch or "images" in batch:
        given = [batch[key] for key in ("clips", "images") if key in batch]
        parts = [labelled_batch(part, skeleton, name, every_frame) for part in given]
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    image, joints = batch.get("image"), batch.get("joints3d")
    if not isinstance(image, Tensor) or not isinstance(joints, Tensor):
        raise UserError(f"{name} gives no pictures with 3D joints, which the source stage and the evaluation need")
    share = batch.get("joints3d_weight")
    share = joints.new_ones(joints.shape[:-1]) if share is None else share
    ids = batch["sample_id"]
    if image.ndim == 5:
        share = share * batch["valid"][..., None]
        ids = batch.get("row_ids", ids[:, None] * image.shape[1] + torch.arange(image.shape[1], device=ids.device))
        taken = answered_rows(batch)
        image, joints, share, ids = (x.flatten(0, 1) if every_frame else x[taken] for x in (image, joints, share, ids))
    finite = torch.isfinite(joints).all(-1)
    _refuse((~finite & (share > 0)).any(1), ids, name, "holds labelled joints that are NaN or infinite")
    joints = torch.where(finite[..., None], joints, 0.0)
    pose, weight = to_limb17(joints, skeleton, share)
    return {"image": image, "pose": camera_to_view(pose), "weight": weight, "sample_id": ids}


def target_batch(batch: Mapping[str, Any], name: str = "data.target") -> Batch:
    """Returns ``image`` (B, T, 3, H, W) and ``sample_id`` of a ``ClipBatch``; labels are not looked at.

    Raises:
        UserError: These are no clips, or one holds padding.
    """
    image = batch.get("image")
    if not isinstance(image, Tensor) or image.ndim != 5:
        raise UserError(f"{name} gives no clips, which the adaptation needs: set its view to clips")
    if isinstance(valid := batch.get("valid"), Tensor):
        _refuse(~valid.all(1), batch["sample_id"], name, f"has fewer than {image.shape[1]} frames and is filled up")
    return {"image": image, "sample_id": batch["sample_id"]}


def prediction_rows(batch: Mapping[str, Any]) -> Batch:
    """Returns the pictures of a ``CropBatch``, or of the frames that a ``ClipBatch`` answers for, and whose they are.

    Returns:
        ``image`` (N, 3, H, W), ``boxes`` (N, 4), and ``scores``, ``frame``, ``image_id`` and ``sample_id`` (N,), of
        clips the person's number.
    """
    rows = {
        "image": batch["image"],
        "scores": batch["box_score"],
        "frame": batch.get("frame", batch["image_id"]),
        "image_id": batch["image_id"],
        "sample_id": batch["sample_id"],
        "boxes": batch["box"],
    }
    if rows["image"].ndim == 4:
        return rows
    rows["scores"] = rows["scores"][:, None].expand_as(batch["valid"])
    rows["sample_id"] = row_people(batch)
    taken = answered_rows(batch)
    return {name: value[taken] for name, value in rows.items()}


def _refuse(faulty: Tensor, ids: Tensor, name: str, reason: str) -> None:
    if bool(faulty.any()):
        first = int(ids[int(faulty.nonzero()[0])])
        raise UserError(f"{name}: sample {first} {reason} ({int(faulty.sum())} of {len(faulty)} in its batch)")
