"""What training steps compute has no float64, which not all devices have (MPS); tables are made on the CPU, once."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from posekit_hdm import transport
from posekit_hdm.losses import HeatmapMatchingLoss
from posekit_maed.interpolation import interpolate
from posekit_nlrd.relations import turn_image, turn_pose


class NoFloat64(TorchDispatchMode):
    """Refuses operations that give float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        wide = [t for t in tree_flatten(found)[0] if isinstance(t, torch.Tensor) and t.dtype == torch.float64]
        assert not wide, f"{func} gives float64"
        return found


def matching_loss():
    maps = torch.rand(2, 3, 8, 6, requires_grad=True)
    HeatmapMatchingLoss()(maps, torch.full((2, 3, 2), 2.5), torch.ones(2, 3)).backward()


STEPS = {
    "interpolation": lambda: interpolate(torch.rand(2, 4, 3), 2, 8),
    "official interpolation": lambda: interpolate(torch.rand(2, 4, 3), 2, 8, official=True),
    "matching loss": matching_loss,
    "turned pose": lambda: turn_pose(torch.rand(2, 17, 3), 31.0),
    "turned picture": lambda: turn_image(torch.rand(2, 3, 8, 6), 31.0),
}


@pytest.mark.parametrize("step", STEPS)
def test_steps_after_the_first_have_none(step):
    STEPS[step]()
    with NoFloat64():
        STEPS[step]()


def test_a_table_of_offsets_is_made_once(monkeypatch):
    made = []
    real = transport.corner_costs
    monkeypatch.setattr(transport, "corner_costs", lambda dx, *rest: (made.append(dx.dtype), real(dx, *rest))[1])
    for _ in range(3):
        loss = HeatmapMatchingLoss(0.125)
        loss(torch.rand(2, 3, 9, 7), torch.full((2, 3, 2), 2.5), torch.ones(2, 3))
    assert made.count(torch.float64) == 1
