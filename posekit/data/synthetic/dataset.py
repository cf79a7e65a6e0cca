"""Data sets over the generator: an ``(epoch, index)`` key in, a sample of the batch contract out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from posekit.data.batch import ImageTarget
from posekit.data.crops import Key, split_key
from posekit.data.synthetic.cache import LayerStore
from posekit.data.synthetic.compositing import Stock
from posekit.data.synthetic.crops import Crop, compose_crop
from posekit.data.synthetic.options import Difficulty
from posekit.data.synthetic.scenes import Scene, compose_scene
from posekit.data.synthetic.streams import COMPOSITE, stream
from posekit.data.transforms import normalize_image
from posekit.skeletons import get_skeleton


class SyntheticDataset(Dataset[dict[str, Any]]):
    """What the views share: layers, stock, and the stream of a key.

    Val and test pictures are the same in every epoch.

    Args:
        layers: People, rendered.
        stock: Backgrounds and objects.
        length: Pictures per epoch.
        options: The difficulty.
        size: (W, H) of the pictures, px.
    """

    def __init__(
        self, layers: LayerStore, stock: Stock, length: int, options: Difficulty, size: tuple[int, int]
    ) -> None:
        self.layers = layers
        self.stock = stock
        self.length = length
        self.options = options
        self.size = size
        self.train = layers.settings.split == "train"
        self.flip_index = get_skeleton(layers.settings.skeleton).flip_index

    def __len__(self) -> int:
        return self.length

    def resolve(self, key: Key) -> tuple[int, np.random.Generator]:
        """Returns a key's index and random stream; a bare index means epoch 0.

        Raises:
            IndexError: The index is out of range.
        """
        epoch, index = split_key(key)
        if not 0 <= index < self.length:
            raise IndexError(index)
        settings = self.layers.settings
        return index, stream(settings.seed, settings.split, COMPOSITE, epoch if self.train else 0, index)

    def target(self, index: int) -> ImageTarget:
        """Returns a picture's complete ground truth (of epoch 0)."""
        raise NotImplementedError

    def targets(self, index: int) -> list[ImageTarget]:
        """Returns the ground truth of every image of a sample (of epoch 0)."""
        return [self.target(index)]


def make_target(
    image_id: int, keypoints: NDArray[Any], visible: NDArray[Any], area: NDArray[Any], boxes: NDArray[Any]
) -> ImageTarget:
    """Makes an image's ground truth of M people: joints (M, K, 2), states (M, K), areas (M,) and boxes (M, 4)."""
    rows = np.concatenate([keypoints.astype(np.float64), visible[..., None]], -1)
    rows[visible == 0] = 0  # COCO's files write zeros for joints without a label
    return ImageTarget(
        image_id=image_id,
        keypoints=torch.from_numpy(rows),
        area=torch.from_numpy(area.astype(np.float64)),
        boxes=torch.from_numpy(boxes.astype(np.float64)),
        iscrowd=torch.zeros(len(rows), dtype=torch.bool),
        num_keypoints=torch.from_numpy((visible > 0).sum(-1)),
    )


def as_float(array: NDArray[Any]) -> torch.Tensor:
    """Returns a contiguous float32 tensor."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


class DrawnCrops(SyntheticDataset):
    """Samples of a ``CropBatch``; the crop is its own original image, so the affine is the identity.

    Args:
        layers: People, rendered.
        stock: Backgrounds and objects.
        length: Pictures per epoch.
        options: The difficulty.
        size: (W, H) of the pictures, px.
        labeled: Whether samples carry labels; without them ``visible`` is 0 and there are no 3D fields.
    """

    def __init__(
        self,
        layers: LayerStore,
        stock: Stock,
        length: int,
        options: Difficulty,
        size: tuple[int, int],
        labeled: bool = True,
    ) -> None:
        super().__init__(layers, stock, length, options, size)
        self.labeled = labeled

    def crop(self, key: Key) -> Crop:
        """Composites one crop."""
        index, rng = self.resolve(key)
        layers = self.layers
        return compose_crop(
            rng,
            layers[index % len(layers)],
            layers.__getitem__,
            len(layers),
            self.stock,
            self.options,
            self.size,
            self.flip_index,
            augment=self.train,
        )

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """Returns a sample with all fields of ``CropBatch``."""
        crop = self.crop(key)
        _, index = split_key(key)
        labels = crop.labels
        sample = {
            "image": normalize_image(crop.image),
            "keypoints": as_float(labels.keypoints),
            "visible": torch.from_numpy(crop.visible),
            "affine": torch.eye(2, 3),
            "box": as_float(crop.box),
            "box_score": torch.tensor(1.0),
            "image_id": torch.tensor(index),
            "sample_id": torch.tensor(index),
        }
        if not self.labeled:
            return sample | {name: torch.zeros_like(sample[name]) for name in ("keypoints", "visible")}
        return sample | {
            "joints3d": as_float(labels.joints3d),
            "body_pose": as_float(labels.pose),
            "body_shape": as_float(labels.betas),
            "body_translation": as_float(labels.translation),
            "camera": as_float(labels.camera),
        }

    def target(self, index: int) -> ImageTarget:
        """Returns the one person's ground truth."""
        crop = self.crop(index)
        area = np.array([crop.area])
        return make_target(index, crop.labels.keypoints[None], crop.visible[None], area, crop.box[None])


class DrawnScenes(SyntheticDataset):
    """Samples of a ``SceneBatch``; the scene is its own original image.

    Args:
        layers: Whole people, rendered.
        stock: Backgrounds and objects.
        length: Pictures per epoch.
        options: The difficulty.
        size: (W, H) of the pictures, px.
        people: Least and greatest number of people in a scene.
    """

    def __init__(
        self,
        layers: LayerStore,
        stock: Stock,
        length: int,
        options: Difficulty,
        size: tuple[int, int],
        people: tuple[int, int],
    ) -> None:
        super().__init__(layers, stock, length, options, size)
        self.people = people

    def scene(self, key: Key) -> Scene:
        """Composites one scene."""
        _, rng = self.resolve(key)
        layers = self.layers
        return compose_scene(
            rng, layers.__getitem__, len(layers), self.stock, self.options, self.size, self.flip_index, self.people
        )

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """Returns a sample with all fields of ``SceneBatch``."""
        scene = self.scene(key)
        _, index = split_key(key)
        return {
            "image": normalize_image(scene.image),
            "keypoints": torch.from_numpy(scene.keypoints),
            "visible": torch.from_numpy(scene.visible),
            "boxes": torch.from_numpy(scene.boxes),
            "area": torch.from_numpy(scene.area),
            "mask": torch.from_numpy(scene.mask),
            "affine": torch.eye(2, 3),
            "image_id": torch.tensor(index),
            "sample_id": torch.tensor(index),
        }

    def target(self, index: int) -> ImageTarget:
        """Returns the ground truth of the labelled people."""
        scene = self.scene(index)
        return make_target(index, scene.keypoints, scene.visible, scene.area, scene.boxes)
