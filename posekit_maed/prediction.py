"""From the network's answer on crops to people in the original frames."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from posekit.body import BodyOutput
from posekit.data.batch import Pose3DPrediction, answered_rows, row_people
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
    wanted = answered_rows(batch).flatten()
    camera, affine = parameters.camera.flatten(0, 1)[wanted], batch["affine"].flatten(0, 1)[wanted]
    body, joints = output.vertices[wanted], joints[wanted]
    score = batch["box_score"][:, None].expand(lead).flatten()[wanted]
    points = uncrop_points(half_crops_to_pixels(project_weak_perspective(joints, camera), size), affine)
    return {
        "joints3d": joints - joints[:, ROOT : ROOT + 1],
        "scores": score,
        "frame": batch["frame"].flatten()[wanted],
        "image_id": batch["image_id"].flatten()[wanted],
        "sample_id": row_people(batch).flatten()[wanted],
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
