"""LOGO-CAP: multi-person poses by local-global contextual adaptation (Xue et al., CVPR 2022)."""

from posekit_logocap.module import LogoCap

__all__ = ["LogoCap"]
