"""posekit: human pose estimation on PyTorch Lightning.

The names below load on first use, so that ``import posekit`` and the quick commands need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from posekit._version import __version__
from posekit.errors import UserError

if TYPE_CHECKING:
    from posekit.data.datamodule import PoseDataModule
    from posekit.module import PoseModule
    from posekit.topdown import TopDownModule

_LAZY = {
    "PoseModule": "posekit.module",
    "TopDownModule": "posekit.topdown",
    "PoseDataModule": "posekit.data.datamodule",
}

__all__ = ["PoseDataModule", "PoseModule", "TopDownModule", "UserError", "__version__"]


def __getattr__(name: str) -> Any:
    """Imports a public class on first use (PEP 562)."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'posekit' has no attribute {name!r}")
