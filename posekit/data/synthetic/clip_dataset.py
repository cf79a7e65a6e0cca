"""Data sets of the views ``clips`` and ``motion``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from posekit.data.batch import ImageTarget
from posekit.data.crops import Key, split_key
from posekit.data.synthetic.cache import LayerStore
from posekit.data.synthetic.clip_settings import ClipSettings
from posekit.data.synthetic.clip_view import Clip, compose_clip
from posekit.data.synthetic.compositing import Stock
from posekit.data.synthetic.dataset import SyntheticDataset, as_float, make_target
from posekit.data.synthetic.motion_windows import MotionWindows
from posekit.data.synthetic.options import Difficulty
from posekit.data.transforms import normalize_image

# What an unlabelled clip must not tell: these fields are zeros.
_LABELS = (
    "keypoints", "visible", "joints3d", "joints3d_weight", "body_pose", "body_shape", "body_weight",
    "body_translation",
)  # fmt: skip


class DrawnClips(SyntheticDataset):
    """Samples of a ``ClipBatch``.

    A clip's original frames are the pixels of its key frame's crop before augmentation, going on beyond its borders.

    Args:
        layers: Clips, rendered.
        stock: Backgrounds and objects.
        length: Clips per epoch.
        options: The difficulty.
        settings: What the layers are.
        labeled: Whether samples carry labels.
    """

    def __init__(
        self,
        layers: LayerStore,
        stock: Stock,
        length: int,
        options: Difficulty,
        settings: ClipSettings,
        labeled: bool = True,
    ) -> None:
        super().__init__(layers, stock, length, options, settings.size)
        self.settings = settings
        self.labeled = labeled

    def clip(self, key: Key) -> Clip:
        """Composites one clip."""
        index, rng = self.resolve(key)
        layers = self.layers
        return compose_clip(
            rng,
            layers.clip(index % len(layers)),
            layers.clip,
            len(layers),
            self.stock,
            self.settings,
            self.options,
            self.flip_index,
            augment=self.train,
        )

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """Returns a sample with all fields of ``ClipBatch``."""
        clip = self.clip(key)
        _, index = split_key(key)
        count, place = self.settings.frames, self.settings.middle
        labels = {
            name: as_float(np.stack([getattr(part, field) for part in clip.labels]))
            for name, field in (
                ("keypoints", "keypoints"), ("joints3d", "joints3d"), ("body_pose", "pose"), ("body_shape", "betas"),
                ("body_translation", "translation"), ("camera", "camera"),
            )
        }  # fmt: skip
        sample: dict[str, Any] = {
            "image": torch.stack([normalize_image(image) for image in clip.images]),
            **labels,
            "visible": torch.from_numpy(clip.visible),
            "affine": as_float(clip.affines),
            "box": as_float(clip.boxes),
            "box_score": torch.tensor(1.0),
            "frame": torch.from_numpy(clip.frames),
            "valid": torch.ones(count, dtype=torch.bool),
            "key": torch.tensor(place),
            "image_id": index * count + torch.arange(count),
            "sample_id": torch.tensor(index),
            "margin": torch.from_numpy(np.abs(clip.frames[[0, -1]] - clip.frames[place])),
            "joints3d_weight": torch.ones(count, len(self.flip_index)),
            "body_weight": torch.ones(count),
        }
        if not self.labeled:
            sample.update({name: torch.zeros_like(sample[name]) for name in _LABELS})
        return sample

    def target(self, index: int) -> ImageTarget:
        """Returns the key frame's ground truth."""
        return self.targets(index)[self.settings.middle]

    def targets(self, index: int) -> list[ImageTarget]:
        """Returns every frame's ground truth in its original px; the area is the whole person's within the crop."""
        clip = self.clip(index)
        result = []
        for t, (labels, affine, mask) in enumerate(zip(clip.labels, clip.affines, clip.masks, strict=True)):
            linear = affine[:, :2].astype(np.float64)
            keypoints = (labels.keypoints - affine[:, 2]) @ np.linalg.inv(linear).T
            area = np.array([mask.sum() / abs(np.linalg.det(linear))])
            number = index * self.settings.frames + t
            result.append(make_target(number, keypoints[None], clip.visible[t][None], area, clip.boxes[t][None]))
        return result


class RecordedMotion(Dataset[dict[str, Any]]):
    """Samples of a ``MotionBatch``: windows of recorded motion, the same in every epoch.

    Args:
        windows: All windows of the split.
        length: Takes no more than this many of them, evenly spread.
    """

    def __init__(self, windows: MotionWindows, length: int) -> None:
        self.windows = windows
        self.rows = np.unique(np.linspace(0, len(windows) - 1, min(length, len(windows))).round().astype(int))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """Returns a sample with all fields of ``MotionBatch``."""
        _, index = split_key(key)
        if not 0 <= index < len(self.rows):
            raise IndexError(index)
        joints = as_float(self.windows[int(self.rows[index])])
        return {"joints3d": joints, "weight": torch.ones(joints.shape[:2]), "sample_id": torch.tensor(index)}
