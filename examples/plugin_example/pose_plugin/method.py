"""Centroid: a joint is the mean position under its map, learned by the distance to the label."""

from typing import Any

import torch
from torch import Tensor, nn

from posekit import TopDownModule
from posekit.data.batch import CropBatch
from posekit.heatmaps import decode_expectation, from_heatmap
from posekit.module import StepOutput


class Centroid(TopDownModule):
    """Regresses joints as centroids of maps.

    Args:
        width: Channels of the network.
        kwargs: Arguments of TopDownModule and PoseModule.
    """

    def __init__(self, width: int = 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.save_hyperparameters()
        self.network = nn.Sequential(
            *(nn.Conv2d(3, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()),
            nn.Conv2d(width, len(self.skeleton), 3, padding=1),
        )
        self.load_initial_weights()

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def readout(self, heatmaps: Tensor) -> Tensor:
        return heatmaps.flatten(2).softmax(-1).view_as(heatmaps)  # each map has sum 1

    def decode(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        points, scores = decode_expectation(heatmaps)
        width, height = self.image_size
        return from_heatmap(points, (height, width), heatmaps.shape[-2:]), scores

    def step(self, batch: CropBatch, stage: str) -> StepOutput:
        heatmaps = self(batch["image"])
        points, _ = self.decode(self.readout(heatmaps))
        labelled = (batch["visible"] > 0).to(points.dtype)
        distance = torch.linalg.vector_norm(points - batch["keypoints"], dim=-1)
        loss = (distance * labelled).sum() / labelled.sum().clamp(min=1)
        output = StepOutput(loss, batch_size=len(points))
        if stage != "train":
            output.predictions = self.predictions(batch, *self.infer(batch["image"], heatmaps))
        return output
