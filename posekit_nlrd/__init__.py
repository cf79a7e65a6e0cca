"""Non-Local Latent Relation Distillation for self-adaptive 3D human pose (Kundu et al., NeurIPS 2021)."""

from posekit_nlrd.data import NLRDData
from posekit_nlrd.module import NLRD
from posekit_nlrd.writer import PosePanelWriter

__all__ = ["NLRD", "NLRDData", "PosePanelWriter"]
