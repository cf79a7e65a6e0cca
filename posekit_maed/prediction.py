"""From the network's answer on crops to people in the original frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from posekit.body import BodyOutput
from posekit.data.batch import Pose3DPrediction
from posekit.data.clip_windows import Window
from posekit.data.clips import ClipDataset, Track
from posekit.data.images import require_picture
from posekit.data.video_boxes import smooth_boxes
from posekit.errors import UserError
from posekit.geometry import (
    matrix_to_axis_angle,
    project_weak_perspective,
    uncrop_points,
    weak_perspective_to_translation,
)
from posekit.geometry.projection import CROP, FOCAL
from posekit.skeletons import SPIN49
from posekit_maed.clips import half_crops_to_pixels, half_side
from posekit_maed.network import BodyParameters

ROOT = SPIN49.index("op_mid_hip")
SMOOTH = 15  # frames over which boxes are averaged, as VideoClips does


def windows_of(
    frames: Sequence[NDArray[np.uint8]], boxes: ArrayLike | None, size: tuple[int, int], length: int, box_scale: float
) -> DataLoader[dict[str, Any]]:
    """Cuts one person out of consecutive frames, in windows as ``posekit predict`` makes them.

    Args:
        frames: Of one size, each (H, W, 3) uint8 RGB.
        boxes: (T, 4) xywh px; None takes whole frames, not enlarged.
        size: (W, H) of the crops, px.
        length: Frames of a window at most.
        box_scale: Enlargement of boxes.

    Raises:
        UserError: There are no frames, or they or the boxes are of another kind.
    """
    count = len(frames)
    if not count:
        raise UserError("frames must be pictures (H, W, 3), and there is none")
    for frame in frames:
        require_picture(frame)
    if len({frame.shape for frame in frames}) > 1:
        sizes = ", ".join(sorted({f"{frame.shape[1]}x{frame.shape[0]}" for frame in frames}))
        raise UserError(f"frames must be of one size, as those of a video are, not {sizes}")
    rows = np.full((count, 4), np.nan) if boxes is None else np.asarray(boxes, dtype=np.float64)
    if rows.shape != (count, 4):
        raise UserError(f"boxes must be ({count}, 4), one xywh for each frame, not of shape {rows.shape}")
    if boxes is not None and not (np.isfinite(rows).all() and (rows[:, 2:] > 0).all()):
        raise UserError("boxes must be finite, with a width and a height above 0")
    place = np.arange(count)
    track = Track(
        name="frames", read=lambda row: frames[row], image_rows=place, frames=place, image_ids=place, sample_ids=place,
        boxes=smooth_boxes(place, rows, SMOOTH), box_scores=np.ones(count), joints=np.zeros((count, len(SPIN49), 3)),
        keys=np.ones(count, dtype=bool),
    )  # fmt: skip
    window = Window.chunk(min(length, count))
    return DataLoader(ClipDataset([track], SPIN49, size, window, box_scale, clip_box="window"))


def joined(rows: Sequence[Pose3DPrediction]) -> Pose3DPrediction:
    """Joins windows' rows, on the CPU."""
    found = {name: torch.cat([cast(dict[str, Tensor], part)[name].cpu() for part in rows]) for name in rows[0]}
    return cast(Pose3DPrediction, found)


def prediction_rows(
    batch: dict[str, Any], parameters: BodyParameters, output: BodyOutput, joints: Tensor
) -> Pose3DPrediction:
    """Returns one row for each frame that the batch's windows answer for.

    Args:
        batch: Clips (B, T, ...).
        parameters: The network's answer.
        output: Bodies of the B T frames.
        joints: (B T, 49, 3) their joints.
    """
    size = batch["image"].shape[-2:]
    lead = batch["image"].shape[:2]
    wanted = (batch["valid"] & batch["keys"] if "keys" in batch else batch["valid"]).flatten()
    camera, affine = parameters.camera.flatten(0, 1)[wanted], batch["affine"].flatten(0, 1)[wanted]
    body, joints = output.vertices[wanted], joints[wanted]
    score = batch["box_score"][:, None].expand(lead).flatten()[wanted]
    points = uncrop_points(half_crops_to_pixels(project_weak_perspective(joints, camera), size), affine)
    person = batch.get("track_id", batch["sample_id"])
    return {
        "joints3d": joints - joints[:, ROOT : ROOT + 1],
        "scores": score,
        "frame": batch["frame"].flatten()[wanted],
        "image_id": batch["image_id"].flatten()[wanted],
        "sample_id": person[:, None].expand(lead).flatten()[wanted],
        "keypoints": torch.cat([points, score[:, None, None].expand(-1, points.shape[1], 1)], -1),
        "boxes": batch["box"].flatten(0, 1)[wanted],
        "body_pose": matrix_to_axis_angle(parameters.rotations.flatten(0, 1)[wanted]),
        "body_shape": parameters.shape.flatten(0, 1)[wanted],
        "body_camera": camera,
        "vertices": body + weak_perspective_to_translation(camera)[:, None],
        "focal": original_focal(affine, size),
        "center": uncrop_points(half_crops_to_pixels(torch.zeros_like(points[:, :1]), size), affine)[:, 0],
    }


def key_points(points: Tensor, affine: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Returns key frames' joints (B, K, 3), x and y in original px and a score of 1, for pictures.

    Args:
        points: (B, K, 2) half crops from the centre.
        affine: (B, 2, 3) original px to crop px.
        size: (H, W) of the crops.
    """
    pixels = uncrop_points(half_crops_to_pixels(points, size), affine)
    return torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1)


def original_focal(affine: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Returns the focal length (N,) in px of the original frames that crops (N, 2, 3) of a size (H, W) stand for."""
    a, b, c, d = (affine[:, i, j].float() for i in range(2) for j in range(2))
    scale = (a * d - b * c).abs().sqrt()
    return FOCAL / (CROP / 2) * half_side(size) / scale
