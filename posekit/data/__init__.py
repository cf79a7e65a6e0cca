"""Data modules and the batch contract."""

from posekit.data.coco import COCOKeypoints
from posekit.data.mpii import MPII
from posekit.data.scenes import SceneAugmentation
from posekit.data.source import ImageSource
from posekit.data.synthetic import SyntheticPeople
from posekit.data.transforms import PersonAugmentation

__all__ = ["MPII", "COCOKeypoints", "ImageSource", "PersonAugmentation", "SceneAugmentation", "SyntheticPeople"]
