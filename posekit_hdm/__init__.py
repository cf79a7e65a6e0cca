"""Heatmap Distribution Matching for human pose estimation (Qu et al., NeurIPS 2022)."""

from posekit_hdm.losses import HeatmapMatchingLoss
from posekit_hdm.module import HDM

__all__ = ["HDM", "HeatmapMatchingLoss"]
