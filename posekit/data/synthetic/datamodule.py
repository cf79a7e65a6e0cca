"""SyntheticPeople: the embedded data set, drawn on the user's own machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from posekit.data.batch import ImageTarget
from posekit.data.collate import collate_scenes
from posekit.data.datamodule import PoseDataModule, Split
from posekit.data.synthetic.background import background_bank, find_photos
from posekit.data.synthetic.cache import LayerSettings, LayerStore
from posekit.data.synthetic.compositing import Stock
from posekit.data.synthetic.dataset import CropDataset, SceneDataset, SyntheticDataset
from posekit.data.synthetic.objects import object_bank
from posekit.data.synthetic.options import resolve_difficulty
from posekit.errors import UserError, unknown_name

VIEWS = {"crops": (96, 128), "scenes": (192, 192)}
SKELETONS = ("COCO17", "H36M17", "SMPL24")
_BACKGROUNDS = {"train": 240, "val": 80, "test": 80}


class SyntheticPeople(PoseDataModule):
    """Rendered people in real poses: a body mesh moved by motion capture, dressed, lit and composited. Needs no files.

    Every picture is a function of (seed, split, epoch, index), whatever the workers. People are rendered once, at the
    start, and composited afresh in every epoch. Train, val and test share no motion sequence, shape, look or
    background.

    Args:
        view: ``"crops"`` (a ``CropBatch`` of single people) or ``"scenes"`` (a ``SceneBatch`` of several).
        train_size: Training pictures per epoch.
        val_size: Validation pictures.
        test_size: Test pictures.
        image_size: [W, H] in px; 96 x 128 for crops and 192 x 192 for scenes when None.
        difficulty: ``"easy"`` or ``"hard"``: presets of the options below (``posekit.data.synthetic.options``).
        truncation: Probability that border or furniture cut the person (crops).
        closeups: Probability that a cut person is a close-up (crops).
        occluders: Mean number of objects in front.
        people: Mean number of other people in a crop.
        pose_variety: Strength of poses beyond the recordings: bent and mixed arms, sitting.
        frontal: Probability that a person roughly faces the camera.
        clutter: Strength of background clutter.
        noise: Strength of noise and JPEG.
        blur: Strength of defocus, motion blur and low resolution.
        color: Strength of colour jitter.
        augmentation: Strength of flip, rotation, scale and shift of training crops.
        backgrounds: Folder of photos to use as backgrounds; procedural ones when None.
        scene_people: Least and greatest number of people in a scene.
        num_layers: People to render for training; None renders one per picture. Fewer are used again in turn.
        cache: Render at the start; False renders every picture anew, which needs no memory.
        cache_dir: Folder that keeps rendered people between runs.
        num_render_workers: Processes that render; every core when None.
        skeleton: COCO17, H36M17 or SMPL24.
        batch_size: Samples per process and step.
        num_workers: Loader processes.
        val_batch_size: Samples per evaluation batch; ``batch_size`` when None.
        seed: Seed of everything.
        pin_memory: Page-locked batches, for CUDA.
    """

    VIEW_SIZES: ClassVar[dict[str, tuple[int, int]]] = VIEWS

    def __init__(
        self,
        view: str = "crops",
        train_size: int = 6000,
        val_size: int = 500,
        test_size: int = 500,
        image_size: tuple[int, int] | None = None,
        difficulty: str = "easy",
        truncation: float | None = None,
        closeups: float | None = None,
        occluders: float | None = None,
        people: float | None = None,
        pose_variety: float | None = None,
        frontal: float | None = None,
        clutter: float | None = None,
        noise: float | None = None,
        blur: float | None = None,
        color: float | None = None,
        augmentation: float | None = None,
        backgrounds: str | None = None,
        scene_people: tuple[int, int] = (1, 4),
        num_layers: int | None = None,
        cache: bool = True,
        cache_dir: str | None = None,
        num_render_workers: int | None = None,
        skeleton: str = "COCO17",
        batch_size: int = 32,
        num_workers: int = 0,
        val_batch_size: int | None = None,
        seed: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(skeleton, batch_size, num_workers, val_batch_size, seed, pin_memory)
        if view not in VIEWS:
            raise unknown_name("view of SyntheticPeople", view, VIEWS)
        if skeleton not in SKELETONS:
            raise unknown_name("skeleton of SyntheticPeople", skeleton, SKELETONS)
        self.view = view
        self.sizes = {"train": train_size, "val": val_size, "test": test_size}
        self.num_layers = num_layers
        width, height = image_size or VIEWS[view]
        self.image_size = (int(width), int(height))
        self.scene_people = (int(scene_people[0]), int(scene_people[1]))
        self.options = resolve_difficulty(
            difficulty,
            {
                "truncation": truncation, "closeups": closeups, "occluders": occluders, "people": people,
                "pose_variety": pose_variety, "frontal": frontal, "clutter": clutter, "noise": noise, "blur": blur,
                "color": color, "augmentation": augmentation,
            },
        )  # fmt: skip
        self.backgrounds = backgrounds
        self.cache = cache
        self.cache_dir = Path(cache_dir) if cache_dir else None
        self.num_render_workers = num_render_workers
        self._targets: dict[str, list[ImageTarget]] = {}
        self._check()

    def _check(self) -> None:
        """Rejects what cannot work before anything is drawn.

        Raises:
            UserError: A size is not positive, or the backgrounds folder is missing or empty.
        """
        positive = {
            **{f"{split}_size": size for split, size in self.sizes.items()},
            "image_size": min(self.image_size),
            "scene_people": self.scene_people[0],
            "num_layers": 1 if self.num_layers is None else self.num_layers,
        }
        for name, value in positive.items():
            if value <= 0:
                raise UserError(f"SyntheticPeople: {name} is {value}, but must be at least 1")
        if min(self.image_size) < 16:
            raise UserError(
                f"SyntheticPeople: image_size is {list(self.image_size)}, but both sides must be at least 16"
            )
        if self.seed < 0:
            raise UserError(f"SyntheticPeople: seed is {self.seed}, but must be 0 or more")
        if self.scene_people[1] < self.scene_people[0]:
            raise UserError(
                f"SyntheticPeople: scene_people is {list(self.scene_people)}, but must be [least, greatest]"
            )
        if self.backgrounds is not None:
            find_photos(self.backgrounds)

    def make_dataset(self, split: Split) -> SyntheticDataset:
        """Draws a split's people and backgrounds."""
        split = "test" if split == "predict" else split  # there are no people without labels
        length = self.sizes[split]
        count = min(length, self.num_layers) if self.num_layers is not None and split == "train" else length
        options, layer_size = self.options, self.image_size
        if self.view == "scenes":
            # Scenes cut people by their own border; a layer is a whole person, as large as the scene is high.
            options, layer_size = replace(options, truncation=0.0), (int(self.image_size[1] * 0.75), self.image_size[1])
        settings = LayerSettings(self.seed, split, layer_size, options, self.skeleton)
        layers = LayerStore(settings, count, self.cache, self.num_render_workers, self.cache_dir)
        side = max(288, int(1.5 * max(self.image_size)))
        bank = background_bank(self.seed, split, side, _BACKGROUNDS[split], self.options.clutter, self.backgrounds)
        stock = Stock(bank, object_bank(self.seed, split))
        if self.view == "scenes":
            return SceneDataset(layers, stock, length, self.options, self.image_size, self.scene_people)
        return CropDataset(layers, stock, length, self.options, self.image_size)

    def ground_truth(self, split: Split) -> list[ImageTarget]:
        """Returns every picture's people, in the picture's own px; computed once."""
        if split not in self._targets:
            dataset = self.dataset(split)
            assert isinstance(dataset, SyntheticDataset)
            self._targets[split] = [dataset.target(index) for index in range(len(dataset))]
        return self._targets[split]

    def collate(self) -> Callable[[list[Any]], Any] | None:
        """Scenes differ in their number of people."""
        return collate_scenes if self.view == "scenes" else None
