"""Data modules and the batch contract."""

from posekit.data.body3d import (
    MPIINF3DHP,
    SURREAL,
    Human36M,
    InstaVariety,
    LSPExtended,
    PennAction,
    PoseDatabase,
    ThreeDPW,
)
from posekit.data.clip_transforms import ClipAugmentation
from posekit.data.clip_windows import Window
from posekit.data.clips import ClipDataset, Track
from posekit.data.coco import COCOKeypoints
from posekit.data.crowdpose import CrowdPose, OCHuman
from posekit.data.mixture import Mixture, MixturePart
from posekit.data.mocap import AMASS, CMUMoCap
from posekit.data.mpii import MPII
from posekit.data.posetrack import PoseTrack
from posekit.data.scenes import SceneAugmentation
from posekit.data.source import ImageSource
from posekit.data.synthetic import SyntheticPeople
from posekit.data.transforms import PersonAugmentation
from posekit.data.video_clips import VideoClips

__all__ = [
    "AMASS",
    "MPII",
    "MPIINF3DHP",
    "SURREAL",
    "CMUMoCap",
    "COCOKeypoints",
    "ClipAugmentation",
    "ClipDataset",
    "CrowdPose",
    "Human36M",
    "ImageSource",
    "InstaVariety",
    "LSPExtended",
    "Mixture",
    "MixturePart",
    "OCHuman",
    "PennAction",
    "PersonAugmentation",
    "PoseDatabase",
    "PoseTrack",
    "SceneAugmentation",
    "SyntheticPeople",
    "ThreeDPW",
    "Track",
    "VideoClips",
    "Window",
]
