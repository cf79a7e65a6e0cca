"""Metrics: pure functions and torchmetrics classes over them, one file per family."""

from posekit.metrics.coco_files import evaluate_coco_keypoints
from posekit.metrics.keypoint_ap import KeypointAP
from posekit.metrics.keypoint_error import KeypointError
from posekit.metrics.oks_ap import keypoint_ap, oks, oks_nms

__all__ = ["KeypointAP", "KeypointError", "evaluate_coco_keypoints", "keypoint_ap", "oks", "oks_nms"]
