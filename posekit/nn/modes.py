"""Evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Puts a module into evaluation mode while it is open, and gives each of its parts its own mode back.

    Args:
        module: Any; parts that were in evaluation mode before (frozen batch norms) stay there.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        module.train(modes[0][1])  # what a module does on the change besides
        for part, training in modes:
            part.training = training
