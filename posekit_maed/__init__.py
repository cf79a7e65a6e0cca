"""MAED: encoder-decoder with multi-level attention for 3D human shape and pose (Wan et al., ICCV 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from posekit_maed.network import MAEDNetwork
from posekit_maed.weights import convert_official

if TYPE_CHECKING:
    from posekit_maed.module import MAED

__all__ = ["MAED", "MAEDNetwork", "convert_official"]


def __getattr__(name: str) -> Any:
    """Imports the LightningModule when it is asked for: the network alone needs no Lightning, which takes 200 MB."""
    if name == "MAED":
        from posekit_maed.module import MAED

        return MAED
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
