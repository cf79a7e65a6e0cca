"""Motion capture: ASF/AMC, BVH, exponential maps and AMASS as windows of 3D joints."""

from posekit.data.mocap.amass import AMASS
from posekit.data.mocap.cmu import CMUMoCap

__all__ = ["AMASS", "CMUMoCap"]
