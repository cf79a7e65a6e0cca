"""Clips made for the tests: stick figures of bright dots that move, on a dark picture."""

import torch

from posekit.heatmaps import gaussian_heatmaps
from posekit.skeletons import get_skeleton


def make_clips(count=2, frames=3, size=(48, 64), joints=15, seed=0, speed=3.0, key=None):
    """A ClipBatch of people whose joints move evenly; the pictures show one dot per joint."""
    random = torch.Generator().manual_seed(seed)
    width, height = size
    low, span = torch.tensor([0.2 * width, 0.2 * height]), torch.tensor([0.6 * width, 0.6 * height])
    start = low + span * torch.rand(count, 1, joints, 2, generator=random)
    pace = speed * torch.randn(count, 1, joints, 2, generator=random)
    time = torch.arange(frames)[None, :, None, None] - frames // 2
    points = start + time * pace
    inside = ((points >= 0) & (points <= torch.tensor([width - 1.0, height - 1.0]))).all(-1)
    dots = gaussian_heatmaps(points, torch.ones(points.shape[:3]), (height, width), 1.5)
    color = torch.rand(joints, 3, generator=random)
    image = torch.einsum("btjhw,jc->btchw", dots, color) + 0.1 * torch.randn(
        count, frames, 3, height, width, generator=random
    )
    return {
        "image": image,
        "keypoints": points,
        "visible": 2 * inside.long(),
        "affine": torch.eye(2, 3).expand(count, frames, 2, 3).clone(),
        "box": torch.tensor([0.0, 0.0, width, height]).expand(count, frames, 4).clone(),
        "box_score": torch.full((count,), 0.5),
        "frame": torch.arange(frames).expand(count, frames).clone(),
        "valid": torch.ones(count, frames, dtype=torch.bool),
        "key": torch.full((count,), frames // 2 if key is None else key),
        "image_id": torch.arange(count * frames).view(count, frames),
        "sample_id": torch.arange(count),
    }


def flip_clips(batch, skeleton="POSETRACK15"):
    """The mirror image of a ClipBatch: pixels, x and sides."""
    index = list(get_skeleton(skeleton).flip_index)
    width = batch["image"].shape[-1]
    points = batch["keypoints"][:, :, index].clone()
    points[..., 0] = width - 1 - points[..., 0]
    return {**batch, "image": batch["image"].flip(-1), "keypoints": points, "visible": batch["visible"][:, :, index]}
