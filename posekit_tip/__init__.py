"""TIP: temporal-interim pose synthesis and distillation (Zhang et al., TNNLS 2025), known as TPSD in the literature."""

from posekit_tip.module import TIP

__all__ = ["TIP"]
