"""Evaluation mode for a while, alone and in what predicts, counts and exports."""

import numpy as np
import pytest
from torch import nn

from posekit.cli.build import build_model
from posekit.export import export_model
from posekit.nn.counting import count_operations
from posekit.nn.modes import evaluating

PICTURE = np.zeros((96, 96, 3), np.uint8)
USES = {
    "a picture's crops": ("quickstart", lambda model, _: model.predict(PICTURE)),
    "a whole picture": ("logocap/synthetic_small", lambda model, _: model.predict(PICTURE)),
    "frames": ("maed/synthetic_small", lambda model, _: model.predict([PICTURE])),
    "export": ("quickstart", lambda model, folder: export_model(model, folder / "net.pt2", batch_sizes=(1,))),
    "counting": ("quickstart", lambda model, _: count_operations(model, (1, *model.input_shape()))),
}


class Loud(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)
        self.told = []

    def train(self, mode=True):
        self.told.append(mode)
        return super().train(mode)


def modes(model):
    return {name: part.training for name, part in model.named_modules()}


def freeze_some(model):
    """Puts every other part that has no parts into evaluation mode, as one freezes batch norms."""
    for part in [part for part in model.modules() if not list(part.children())][::2]:
        part.training = False
    return modes(model)


def test_every_part_gets_its_own_mode_back_whatever_happens():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.Dropout(), Loud()), nn.Dropout())
    before = freeze_some(model)
    assert set(before.values()) == {True, False}
    with evaluating(model):
        assert not any(modes(model).values())
    assert modes(model) == before
    with pytest.raises(RuntimeError, match="in the middle"), evaluating(model):
        raise RuntimeError("in the middle")
    assert modes(model) == before


def test_a_module_is_told_when_it_trains_again():
    model = Loud()
    with evaluating(model):
        pass
    assert model.told == [False, True]


@pytest.mark.parametrize("use", USES)
def test_frozen_parts_stay_frozen(use, tmp_path):
    config, call = USES[use]
    model = build_model(["--config", config])
    before = freeze_some(model)
    call(model, tmp_path)
    assert modes(model) == before
