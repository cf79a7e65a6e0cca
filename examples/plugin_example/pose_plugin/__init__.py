"""A method and a data set of one's own, found by posekit through this package's metadata."""

from pose_plugin.data import LabelledFolder
from pose_plugin.method import Centroid

__all__ = ["Centroid", "LabelledFolder"]
