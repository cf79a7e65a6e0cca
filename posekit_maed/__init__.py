"""MAED: encoder-decoder with multi-level attention for 3D human shape and pose (Wan et al., ICCV 2021)."""

from posekit_maed.module import MAED
from posekit_maed.network import MAEDNetwork
from posekit_maed.weights import convert_official

__all__ = ["MAED", "MAEDNetwork", "convert_official"]
