"""A method and a data set small enough for tests of the command line."""

from __future__ import annotations

import torch

from posekit.data.datamodule import PoseDataModule
from posekit.module import PoseModule, StepOutput


class Toy(PoseModule):
    """Fits a constant.

    Args:
        skeleton: Joint set.
        width: Inputs.
        kwargs: Arguments of PoseModule.
    """

    def __init__(self, skeleton: str | None = None, width: int = 3, **kwargs):
        super().__init__(**kwargs)
        self.save_hyperparameters()
        self.net = torch.nn.Linear(width, 1)
        self.load_initial_weights()

    def forward(self, x):
        return self.net(x)

    def step(self, batch, stage):
        return StepOutput((self.net(batch["image"]) ** 2).mean(), batch_size=len(batch["image"]))


class OtherToy(Toy):
    """Another class of the same shape."""


class _Points(torch.utils.data.Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, key):
        epoch, index = key
        return {"image": torch.tensor([1.0, float(epoch), index / 16])}


class ToyData(PoseDataModule):
    """Sixteen points.

    Args:
        kwargs: Arguments of PoseDataModule.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def make_dataset(self, split):
        return _Points()
