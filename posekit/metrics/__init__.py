"""Metrics: pure functions and torchmetrics classes over them, one file per family."""

from posekit.metrics.acceleration import AccelerationError
from posekit.metrics.coco_files import evaluate_coco_keypoints
from posekit.metrics.crowdpose import evaluate_crowdpose
from posekit.metrics.keypoint_ap import KeypointAP
from posekit.metrics.keypoint_error import KeypointError
from posekit.metrics.mpjpe import (
    MPJPE,
    NMPJPE,
    PAMPJPE,
    PVE,
    acceleration,
    acceleration_error,
    joint_errors,
    mpjpe,
    n_mpjpe,
    pa_mpjpe,
    pve,
)
from posekit.metrics.oks_ap import keypoint_ap, oks, oks_nms
from posekit.metrics.pck import PCK, PCK3D, PCKh, head_sizes, pck, pck3d, pckh
from posekit.metrics.posetrack_ap import PoseTrackAP, evaluate_posetrack

__all__ = [
    "MPJPE",
    "NMPJPE",
    "PAMPJPE",
    "PCK",
    "PCK3D",
    "PVE",
    "AccelerationError",
    "KeypointAP",
    "KeypointError",
    "PCKh",
    "PoseTrackAP",
    "acceleration",
    "acceleration_error",
    "evaluate_coco_keypoints",
    "evaluate_crowdpose",
    "evaluate_posetrack",
    "head_sizes",
    "joint_errors",
    "keypoint_ap",
    "mpjpe",
    "n_mpjpe",
    "oks",
    "oks_nms",
    "pa_mpjpe",
    "pck",
    "pck3d",
    "pckh",
    "pve",
]
