"""PoseDataModule: the LightningDataModule every data set derives from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from posekit.data.batch import ImageTarget
from posekit.data.loader import (
    EpochSampler,
    FixedSampler,
    ResumableLoader,
    evaluation_loader,
    overfits,
    shuffle_seed,
    single_threaded,
)
from posekit.errors import UserError, one_of
from posekit.skeletons import get_skeleton

LINKED = ("skeleton", "image_size", "num_support")
"""Arguments that data module and method share; see :meth:`PoseDataModule.linked_values`."""

__all__ = ["LINKED", "EpochSampler", "FolderDataModule", "PoseDataModule", "Split", "checked_size"]

Split = Literal["train", "val", "test", "predict"]

STAGE_SPLITS: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("predict",),
}
"""What each of Lightning's stages reads."""


def checked_stage(stage: str | None) -> str:
    """Returns the stage that a data module is set up for: ``fit`` where none is named.

    Raises:
        UserError: It is another word.
    """
    return one_of("stage", "fit" if stage is None else stage, STAGE_SPLITS)


def checked_size(name: str, size: Sequence[int]) -> tuple[int, int]:
    """Returns an ``image_size`` as W, H in px.

    Args:
        name: The data module's, for the message.
        size: What the user has given.

    Raises:
        UserError: It is no such size.
    """
    given: Any = size
    sides = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    if len(sides) != 2 or not all(isinstance(side, Integral) and int(side) >= 16 for side in sides):
        raise UserError(f"{name}: image_size is {sides}, but must be [W, H] of at least 16 px, whole numbers")
    return int(sides[0]), int(sides[1])


class PoseDataModule(LightningDataModule):
    """Base of all data modules: loaders, seeds, samplers and the ground truth for evaluation.

    A subclass implements :meth:`make_dataset`, and :meth:`ground_truth` where a metric needs an image's complete
    annotations. Data sets are indexed with ``(epoch, index)``.

    Args:
        skeleton: Name of the joint set the samples carry, e.g. ``"COCO17"``.
        batch_size: Samples per process and step.
        num_workers: Loader processes.
        val_batch_size: Samples per evaluation batch; ``batch_size`` when None.
        seed: Seed of augmentation and drawn data; the order of samples follows ``seed_everything`` too.
        pin_memory: Page-locked batches, for CUDA.
    """

    VIEW_SIZES: ClassVar[dict[str, tuple[int, int]]] = {}
    """[W, H] of the input of each view when the argument ``image_size`` is None."""
    RESULT_WRITER: ClassVar[str | None] = None
    """Path of a callback that writes predictions in the benchmark's own form."""

    def __init__(
        self,
        skeleton: str = "COCO17",
        batch_size: int = 32,
        num_workers: int = 0,
        val_batch_size: int | None = None,
        seed: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__()
        get_skeleton(skeleton)
        counts = {"batch_size": batch_size, "val_batch_size": val_batch_size or 1}
        for name, value in counts.items():
            if value < 1:
                raise UserError(f"{type(self).__name__}: {name} must be at least 1, not {value}")
        if num_workers < 0:
            raise UserError(f"{type(self).__name__}: num_workers must be 0 or more, not {num_workers}")
        if seed < 0:
            raise UserError(f"{type(self).__name__}: seed is {seed}, but must be 0 or more")
        self.skeleton = skeleton
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.val_batch_size = val_batch_size or batch_size
        self.seed = seed
        self.pin_memory = pin_memory
        self._datasets: dict[str, Dataset[Any]] = {}
        self._train_loader: ResumableLoader | None = None
        self._place: dict[str, int] | None = None  # of a resumed run

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what belongs to a run, as methods do: copies and pickles hold no trainer and no loader."""
        return {**self.__dict__, "trainer": None, "_train_loader": None}

    def check_choices(self, **known: Sequence[str]) -> None:
        """Checks options, which are attributes by now, against their known values.

        Args:
            known: Those of each option.

        Raises:
            UserError: One has another value.
        """
        for option, choices in known.items():
            one_of(f"{option} of {type(self).__name__}", getattr(self, option), choices)

    @classmethod
    def linked_values(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what a method takes over from constructor arguments: joint set, size of its input, neighbours.

        A value of None says that the data module has no such value of its own, and takes the method's.

        Args:
            arguments: The constructor's arguments with their defaults.
        """
        values = {name: arguments[name] for name in LINKED if name in arguments}
        if values.get("image_size") is None and arguments.get("view") in cls.VIEW_SIZES:
            values["image_size"] = cls.VIEW_SIZES[arguments["view"]]
        return values

    def make_dataset(self, split: Split) -> Dataset[Any]:
        """Builds the data set of a split.

        Raises:
            UserError: Files are missing or broken; the message names them and where they come from.
        """
        raise NotImplementedError(f"{type(self).__name__} has no {split} data")

    def ground_truth(self, split: Split) -> list[ImageTarget] | None:
        """Returns every image's complete annotations of a split, or None where it has none."""
        return None

    def head_targets(self, split: Split, sample_ids: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """Returns the targets of PCKh for samples, or None where the data set has no head boxes.

        Returns:
            Joints (B, K, 2) px, head boxes (B, 4) as corners x1, y1, x2, y2 px, and weights (B, K).
        """
        return None

    def collate(self) -> Callable[[list[Any]], Any] | None:
        """Returns the function that makes a batch of samples; None stands for torch's default."""
        return None

    def dataset(self, split: Split) -> Dataset[Any]:
        """Returns a split's data set, built at the first call and kept."""
        if split not in self._datasets:
            self._datasets[split] = self.make_dataset(split)
        return self._datasets[split]

    def setup(self, stage: str | None = None) -> None:
        """Builds the data sets that a stage needs, so that missing files show before anything else starts.

        Args:
            stage: ``fit`` (also for None), ``validate``, ``test`` or ``predict``.

        Raises:
            UserError: The stage is another word.
        """
        for split in STAGE_SPLITS[checked_stage(stage)]:
            self.dataset(split)

    @property
    def pins(self) -> bool:
        """Whether loaders lock pages: asked for, and of use (without CUDA every loader would warn)."""
        return self.pin_memory and torch.cuda.is_available()

    def loader(self, split: Split) -> DataLoader[Any]:
        """Makes a split's loader."""
        dataset = self.dataset(split)
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        options: dict[str, Any] = {
            "num_workers": self.num_workers,
            "collate_fn": self.collate(),
            "pin_memory": self.pins,
            "worker_init_fn": single_threaded,
            "persistent_workers": self.num_workers > 0,
        }
        if split in ("val", "test"):
            return evaluation_loader(dataset, self.val_batch_size, world, rank, **options)
        train = split == "train"
        sampler: EpochSampler
        if not train or overfits(self.trainer):
            sampler = FixedSampler(dataset, world, rank)
        else:
            sampler = EpochSampler(dataset, world, rank, shuffle=True, seed=shuffle_seed(self.seed), drop_last=False)
        if split == "predict":
            sampler.share_once()
        batch_size = self.batch_size if train else self.val_batch_size
        # Lightning makes prediction loaders anew, around a sampler of its own, which holds no place.
        loader = (ResumableLoader if train else DataLoader)(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            # A last batch of one sample breaks batch normalisation; a data set smaller than a batch still trains.
            drop_last=train and len(sampler) >= batch_size,
            **options,
        )
        if isinstance(loader, ResumableLoader):
            self.resume(loader)
        return loader

    def resume(self, loader: ResumableLoader) -> None:
        """Makes a loader the one that training goes on with, at the place that a checkpoint has told."""
        self._train_loader = loader
        if self._place is not None:
            loader.load_state_dict(self._place)
            self._place = None

    def state_dict(self) -> dict[str, Any]:
        """Returns the place in the epoch, for checkpoints.

        Lightning stores the loaders' states too, but gives them back too late when a schedule has asked for the number
        of steps before.
        """
        return {} if self._train_loader is None else {"train": self._train_loader.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the place in the epoch for the training loader, which is made later."""
        self._place = state_dict.get("train")

    def train_dataloader(self) -> DataLoader[Any]:
        """Returns the training loader."""
        return self.loader("train")

    def val_dataloader(self) -> DataLoader[Any]:
        """Returns the validation loader."""
        return self.loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Returns the test loader."""
        return self.loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Returns the prediction loader."""
        return self.loader("predict")


class FolderDataModule(PoseDataModule):
    """Base of the data modules whose files lie in a folder, ``root``."""

    HOME: ClassVar[str] = ""
    """Where the files come from, and their licence."""
    root: Path

    def prepare_data(self) -> None:
        """Checks that the data are there.

        Raises:
            UserError: The root is missing.
        """
        if not self.root.is_dir():
            name = type(self).__name__
            raise UserError(f"{name}: data root {self.root} does not exist (option data.root); get it from {self.HOME}")
