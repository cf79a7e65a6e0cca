"""Data sets with 3D joints or bodies, and those that train beside them, as clips or single frames."""

from posekit.data.body3d.human36m import Human36M
from posekit.data.body3d.insta_variety import InstaVariety
from posekit.data.body3d.lsp_extended import LSPExtended
from posekit.data.body3d.mpi_inf_3dhp import MPIINF3DHP
from posekit.data.body3d.penn_action import PennAction
from posekit.data.body3d.person import Protocol
from posekit.data.body3d.pose_database import PoseDatabase
from posekit.data.body3d.surreal import SURREAL
from posekit.data.body3d.threedpw import ThreeDPW

__all__ = [
    "MPIINF3DHP",
    "SURREAL",
    "Human36M",
    "InstaVariety",
    "LSPExtended",
    "PennAction",
    "PoseDatabase",
    "Protocol",
    "ThreeDPW",
]
