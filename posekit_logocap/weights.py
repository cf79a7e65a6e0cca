"""Official weight files."""

from __future__ import annotations

from torch import Tensor


def convert_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of official files to those of ``LogoCapNetwork``; own names pass unchanged.

    The method's own files need no renaming. ImageNet files of HRNet hold the backbone alone, with classification layers
    that are dropped.

    Args:
        state: Names and tensors of the file.
    """
    if any(name.startswith(("backbone.", "network.")) for name in state):
        return state
    if "layer1.0.conv1.weight" not in state:
        return state
    dropped = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")
    return {"backbone." + name: value for name, value in state.items() if not name.startswith(dropped)}
