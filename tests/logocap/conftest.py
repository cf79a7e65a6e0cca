"""A small network, and scenes that are drawn once."""

import pytest
import torch

from posekit.data import SyntheticPeople
from posekit_logocap import LogoCap

SMALL = {
    "backbone": "small",
    "embedding": 8,
    "offset_channels": 16,
    "message_channels": [16, 16, 8],
    "window": 24,
    "image_size": [96, 96],
    "least_area": 0.0,
}


@pytest.fixture(scope="session")
def scenes():
    module = SyntheticPeople(
        view="scenes", image_size=(96, 96), train_size=4, val_size=4, batch_size=4, num_render_workers=1
    )
    module.setup("fit")
    return module


@pytest.fixture(scope="session")
def batch(scenes):
    return next(iter(scenes.train_dataloader()))


@pytest.fixture
def make():
    def build(**options):
        torch.manual_seed(0)
        return LogoCap(**{**SMALL, **options})

    return build
