"""The batch contract: every field that travels from a data module to a method.

Conventions, everywhere in posekit:
    pixels    centres are integers, points are (x, y), the last column of a width-W image is x = W - 1.
    images    (C, H, W) RGB float32, normalised by ImageNet's mean and standard deviation (``posekit.data.transforms``).
    boxes     (x, y, w, h) in pixels of the original image.
    visible   0 not labelled (its coordinates mean nothing), 1 labelled but hidden, 2 labelled and seen.
    3D        metres, camera frame: x right, y down, z forward.
    ids       int64; ``sample_id`` is unique in a split, so that a distributed sampler's duplicates can be dropped.

A field's leading axis B is the batch; a single sample of a data set has the same fields without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from typing_extensions import NotRequired, TypedDict

PICTURE_FIELDS = ("image", "keypoints", "visible", "affine", "box", "image_id")
"""What every crop, and every frame of a clip, has."""
LABEL_FIELDS = ("joints3d", "body_pose", "body_shape", "body_translation", "camera")
"""What some data sets label besides."""
WEIGHT_FIELDS = ("joints3d_weight", "body_weight")
"""Weights of such labels."""
CROP_FIELDS = (*PICTURE_FIELDS, *LABEL_FIELDS, *WEIGHT_FIELDS)
"""Fields of a ``CropBatch`` that a ``ClipBatch`` has for each frame; the others it has once for each clip."""


class CropBatch(TypedDict):
    """Person crops for top-down estimation.

    A crop without labels (prediction, detector boxes) has ``visible`` all 0.
    """

    image: Tensor  # (B, 3, H, W) float32, normalised RGB
    keypoints: Tensor  # (B, K, 2) float32, px of the crop
    visible: Tensor  # (B, K) int64 in {0, 1, 2}; 0 as well where augmentation moved the joint out of the crop
    affine: Tensor  # (B, 2, 3) float32, original image px -> crop px
    box: Tensor  # (B, 4) float32, xywh in the original image, as annotated or detected
    box_score: Tensor  # (B,) float32, detector's score in [0, 1]; 1 for annotated boxes
    image_id: Tensor  # (B,) int64
    sample_id: Tensor  # (B,) int64, annotation id or row number in the detections file
    joints3d: NotRequired[Tensor]  # (B, K, 3) float32, metres, camera frame (SyntheticPeople, 3D sets)
    joints3d_weight: NotRequired[Tensor]  # (B, K) float32, 0 where not labelled in 3D
    body_pose: NotRequired[
        Tensor
    ]  # (B, 24, 3) float32, axis-angle in radians, SMPL order; row 0 = root in the camera's frame
    body_shape: NotRequired[Tensor]  # (B, 10) float32, SMPL-format shape coefficients
    body_weight: NotRequired[Tensor]  # (B,) float32, 1 where body_pose and body_shape are labels
    body_translation: NotRequired[Tensor]  # (B, 3) float32, metres, of the body's origin in the camera's frame
    camera: NotRequired[Tensor]  # (B, 3, 3) float32, pinhole intrinsics of the crop's pixels


class SceneBatch(TypedDict):
    """Whole images with all their people. Person lists have different lengths, so they stay lists."""

    image: Tensor  # (B, 3, H, W) float32, normalised RGB
    keypoints: list[Tensor]  # B of (N, K, 2) float32, px of the network input
    visible: list[Tensor]  # B of (N, K) int64 in {0, 1, 2}
    boxes: list[Tensor]  # B of (N, 4) float32, xywh px of the network input
    area: list[Tensor]  # B of (N,) float32, px^2 of the network input
    mask: Tensor  # (B, H, W) bool, True where the loss counts (False in crowds, people without keypoints, padding)
    affine: Tensor  # (B, 2, 3) float32, original image px -> input px
    image_id: Tensor  # (B,) int64
    sample_id: Tensor  # (B,) int64


class ClipBatch(TypedDict):
    """Clips: T crops of one person at evenly spaced frames of a video. A picture is a clip with T = 1.

    Padding frames (``valid`` False) are copies of real frames, labels included, with ``visible`` and all weights 0: of
    the nearest one, or, in windows of pools, of those that a reflection at the end gives. Labels that a data set lacks
    may be left out; in a batch mixed of several sets they are zeros of weight 0.
    """

    image: Tensor  # (B, T, 3, H, W) float32, normalised RGB
    keypoints: Tensor  # (B, T, K, 2) float32, px of each frame's crop
    visible: Tensor  # (B, T, K) int64 in {0, 1, 2}
    affine: Tensor  # (B, T, 2, 3) float32, original frame px -> crop px; equal for all T where one box serves the clip
    box: Tensor  # (B, T, 4) float32, xywh in the original frame
    box_score: Tensor  # (B,) float32
    frame: Tensor  # (B, T) int64, number of the frame within its video; padding repeats
    valid: Tensor  # (B, T) bool, False on padding
    key: Tensor  # (B,) int64, place of the key frame on the T axis (T // 2 in a whole window)
    image_id: Tensor  # (B, T) int64
    sample_id: Tensor  # (B,) int64, unique in a split
    answers: NotRequired[Tensor]  # (B, T) bool, frames that this window answers for in evaluation and prediction
    row_ids: NotRequired[Tensor]  # (B, T) int64, annotation or row id of each frame
    track_id: NotRequired[Tensor]  # (B,) int64, the person's number in the video, -1 where nobody is followed
    margin: NotRequired[Tensor]  # (B, 2) int64, frames from the key to the farthest real neighbour before and after it
    joints3d: NotRequired[Tensor]  # (B, T, K, 3) float32, metres, camera frame
    joints3d_weight: NotRequired[Tensor]  # (B, T, K) float32, 0 where not labelled in 3D
    body_pose: NotRequired[Tensor]  # (B, T, 24, 3) float32, axis-angle, SMPL order; row 0 = root in the camera's frame
    body_shape: NotRequired[Tensor]  # (B, T, 10) float32, SMPL-format shape coefficients
    body_weight: NotRequired[Tensor]  # (B, T) float32, 1 where body_pose and body_shape are labels
    body_translation: NotRequired[Tensor]  # (B, T, 3) float32, metres, of the body's origin in the camera's frame
    camera: NotRequired[Tensor]  # (B, T, 3, 3) float32, pinhole intrinsics of each crop's pixels


class HybridBatch(TypedDict):
    """What a mixture of data sets yields for one optimiser step; the sizes of its parts differ."""

    clips: NotRequired[ClipBatch]
    images: NotRequired[ClipBatch]  # T = 1


class MotionBatch(TypedDict):
    """Windows of motion capture: no pictures."""

    joints3d: Tensor  # (B, T, K, 3) float32, metres, world frame with z up, right-handed, absolute azimuth arbitrary
    weight: Tensor  # (B, T, K) float32, 0 where the recording lacks the joint
    sample_id: Tensor  # (B,) int64


class ImageTarget(TypedDict):
    """One image's complete ground truth for OKS AP, in original pixels (``KeypointAP``'s target)."""

    image_id: int
    keypoints: Tensor  # (M, K, 3) float64: x, y, visibility
    area: Tensor  # (M,) float64, px^2
    boxes: Tensor  # (M, 4) float64, xywh
    iscrowd: Tensor  # (M,) bool
    num_keypoints: NotRequired[Tensor]  # (M,) int64


class KeypointPrediction(TypedDict):
    """People found in one batch, in original pixels; what ``predict_step`` of a 2D method returns.

    Rows may belong to different images: ``image_id`` tells.
    """

    keypoints: Tensor  # (N, K, 3) float32: x, y in original px, score of the joint
    scores: Tensor  # (N,) float32, score of the person
    boxes: Tensor  # (N, 4) float32, xywh in original px
    image_id: Tensor  # (N,) int64
    sample_id: Tensor  # (N,) int64


class Pose3DPrediction(TypedDict):
    """People in 3D, one row per person and frame; what ``predict_step`` of a 3D method returns."""

    joints3d: Tensor  # (N, K, 3) float32, metres, camera frame, relative to the root joint
    scores: Tensor  # (N,) float32
    frame: Tensor  # (N,) int64
    image_id: Tensor  # (N,) int64
    sample_id: Tensor  # (N,) int64, the person (of a video: the track)
    keypoints: NotRequired[Tensor]  # (N, K, 3) float32: x, y in original px, score
    boxes: NotRequired[Tensor]  # (N, 4) float32, xywh in original px
    body_pose: NotRequired[Tensor]  # (N, 24, 3) float32, axis-angle, camera frame
    body_shape: NotRequired[Tensor]  # (N, 10) float32
    body_camera: NotRequired[Tensor]  # (N, 3) float32, weak perspective of the crop: scale, tx, ty
    vertices: NotRequired[Tensor]  # (N, V, 3) float32, metres, camera frame with full translation, for drawing
    focal: NotRequired[Tensor]  # (N,) float32, px: with `center` as principal point vertices project on the image
    center: NotRequired[Tensor]  # (N, 2) float32, px, principal point; absent: the centre of the image


def answered_rows(clips: Mapping[str, Any]) -> Tensor:
    """Returns which frames (B, T) of a ``ClipBatch`` evaluation and prediction take: real ones, of a video each once.

    Without ``answers`` all real frames.
    """
    valid: Tensor = clips["valid"]
    return valid & clips["answers"] if "answers" in clips else valid


def row_people(clips: Mapping[str, Any]) -> Tensor:
    """Returns whose the frames (B, T) of a ``ClipBatch`` are: the track's number, or the clip's id without tracks.

    Where tracks follow nobody, each row is a person of its own.
    """
    samples: Tensor = clips["sample_id"][:, None].expand_as(clips["valid"])
    if "track_id" not in clips:
        return samples
    track = clips["track_id"][:, None]
    return torch.where(track < 0, clips.get("row_ids", samples), track)
