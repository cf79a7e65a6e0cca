"""Stick figures that wave: motion, pictures and clips small enough to run the whole algorithm in a test."""

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from posekit.data.datamodule import PoseDataModule
from posekit.data.transforms import normalize_image
from posekit.skeletons import LIMB17
from posekit_nlrd import geometry as g

METRES = 0.11


def wave(index, frames=60):
    """Returns a motion (frames, 17, 3) in frame V, metres: a standing figure whose limbs swing."""
    rng = np.random.default_rng(index)
    rest = torch.zeros(17, 3)
    rest[[1, 8], 2] = -1.0
    rest[[2, 9], 0] = 1.0
    rest[[5, 13], 0] = -1.0
    rest[[3, 4, 6, 7, 10, 11, 14, 15], 2] = 1.0
    rest[[12, 16], 1] = 1.0
    time = torch.arange(frames)[:, None, None] / 30
    speed = torch.from_numpy(rng.uniform(1, 6, (1, 17, 3))).float()
    phase = torch.from_numpy(rng.uniform(0, 6, (1, 17, 3))).float()
    swing = 0.6 * torch.sin(speed * time + phase)
    swing[:, [1, 2, 5, 9, 13]] *= 0.1
    heading = g.azimuth_matrix(torch.tensor(float(rng.uniform(0, 6.28))))
    local = g.unit(rest + swing)
    local = torch.stack([g.rotate(local, heading)[:, j] if j in g.TORSO else local[:, j] for j in range(17)], 1)
    pose = g.accumulate(g.unit(rest + swing) * torch.tensor(g.CANONICAL)[:, None])
    return METRES * g.rotate(pose, heading)


def draw(pose, size, color, noise=0):
    """Draws a pose (17, 3) in frame V, metres, by orthographic projection on a square picture."""
    background = tuple(int(x) for x in (255 - np.array(color)) // 3)
    picture = np.full((size, size, 3), background, np.uint8)
    points = (pose[:, [0, 2]].numpy() * [1, -1] * size / 2.2 + (size - 1) / 2).round().astype(int)
    for joint, parent in enumerate(LIMB17.parents):
        if parent >= 0:
            side = 60 if joint in (2, 3, 4, 9, 10, 11, 12) else 0  # right limbs are darker
            cv2.line(picture, points[joint].tolist(), points[parent].tolist(), [max(c - side, 0) for c in color], 2)
    return normalize_image(picture)


class _Set(Dataset):
    def __init__(self, make, length):
        self.make, self.length = make, length

    def __len__(self):
        return self.length

    def __getitem__(self, key):
        epoch, index = key if isinstance(key, tuple) else (0, key)
        return self.make(epoch, index)


class StickMotion(PoseDataModule):
    """Windows of motion.

    Args:
        size: Windows per split.
        frames: Frames of a window.
        skeleton: Joint set.
        fault: ``nan`` or ``missing``: what is wrong with sample 1.
        batch_size: Samples per step.
        num_workers: Loader processes.
        seed: Seed.
    """

    def __init__(
        self,
        size: int = 8,
        frames: int = 60,
        skeleton: str = "LIMB17",
        fault: str | None = None,
        batch_size: int = 4,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__(skeleton, batch_size, num_workers, None, seed)
        self.size, self.frames, self.fault = size, frames, fault

    def make_dataset(self, split):
        first = {"train": 0, "val": 1000, "test": 2000}[split]
        return _Set(lambda epoch, i: self._sample(first + i, i), self.size)

    def _sample(self, number, index):
        joints, weight = wave(number, self.frames), torch.ones(self.frames, 17)
        if index == 1 and self.fault == "nan":
            joints[3, 4] = float("nan")
        if index == 1 and self.fault == "missing":
            weight[:, 12] = 0
        return {"joints3d": joints, "weight": weight, "sample_id": torch.tensor(index)}


class StickPeople(PoseDataModule):
    """Pictures (view ``crops``) or clips (view ``clips``) of stick figures.

    Args:
        view: crops or clips.
        domain: source or target: another colour.
        size: Samples per split.
        frames: Frames of a clip.
        image_size: [W, H].
        labels: Give joints3d.
        skeleton: Joint set.
        batch_size: Samples per step.
        num_workers: Loader processes.
        seed: Seed.
    """

    def __init__(
        self,
        view: str = "crops",
        domain: str = "source",
        size: int = 32,
        frames: int = 60,
        image_size: tuple[int, int] = (48, 48),
        labels: bool = True,
        skeleton: str = "LIMB17",
        batch_size: int = 8,
        num_workers: int = 0,
        seed: int = 0,
    ):
        super().__init__(skeleton, batch_size, num_workers, None, seed)
        self.view, self.size, self.frames, self.labels = view, size, frames, labels
        self.image_size = tuple(image_size)
        self.color = {"source": (230, 200, 170), "target": (120, 220, 90)}[domain]

    def make_dataset(self, split):
        split = "test" if split == "predict" else split
        first = {"train": 0, "val": 1000, "test": 2000}[split]
        return _Set(lambda epoch, i: self._sample(first + i, i), self.size)

    def _sample(self, number, index):
        crops = self.view == "crops"
        motion = wave(number // 4, 60)[(number % 4) * 15][None] if crops else wave(number, self.frames)
        images = torch.stack([draw(pose, self.image_size[0], self.color) for pose in motion])
        count = len(motion)
        sample = {
            "image": images,
            "keypoints": torch.zeros(count, 17, 2),
            "visible": torch.full((count, 17), 2),
            "affine": torch.eye(2, 3).expand(count, 2, 3),
            "box": torch.tensor([0.0, 0, *self.image_size]).expand(count, 4),
            "image_id": torch.full((count,), index),
        }
        if self.labels:
            sample["joints3d"] = g.view_to_camera(motion) + torch.tensor([0.0, 0, 5])
        if crops:
            sample = {name: value[0] for name, value in sample.items()}
        else:
            sample |= {"frame": torch.arange(count), "valid": torch.ones(count, dtype=torch.bool)}
            sample |= {"key": torch.tensor(count // 2)}
        return sample | {"box_score": torch.tensor(1.0), "sample_id": torch.tensor(index)}
