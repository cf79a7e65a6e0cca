"""Mixture: clips and images drawn from several data modules by ratio."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, cast

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from posekit.data.batch import ImageTarget
from posekit.data.datamodule import PoseDataModule, Split, checked_stage
from posekit.data.joint_maps import JointMap, source_of
from posekit.data.loader import ResumableLoader, overfits, shuffle_seed, single_threaded
from posekit.data.mixture_sampling import (
    FixedMixtureSampler,
    Kind,
    MixtureCollate,
    MixtureDataset,
    MixtureSampler,
    Stream,
    as_clip,
    common_shapes,
    map_joints,
)
from posekit.errors import UserError, excerpt, one_of
from posekit.plugins import import_class
from posekit.skeletons import get_skeleton

KINDS: tuple[Kind, ...] = ("clips", "images")


@dataclass
class MixturePart:
    """One data set of a mixture.

    Attributes:
        data: Its data module.
        ratio: Its share, relative to the other parts of its kind; 0 keeps it for evaluation alone.
    """

    data: PoseDataModule
    ratio: float = 1.0


class Mixture(PoseDataModule):
    """Training batches of clips and images from several data modules: a ``HybridBatch`` with one or both of them.

    Every batch has ``clip_batch_size`` clips and ``image_batch_size`` images, divided among the parts by their ratios
    as evenly as it goes. The next epoch goes on in every part where the last one ended. Which samples come is a
    function of (seed, epoch) alone; processes take turns. Labels that a data set lacks are zeros of weight 0; joints
    are mapped to the joint set by name, those that a set lacks are not visible. All clips must have the same number of
    frames, and all parts pictures of the same size. Images are crops (``view: crops``) or clips of one frame.

    Evaluation and prediction are one part's, the data module of which is :attr:`evaluated`; what the mixture itself
    does not have is looked up there. Its joints are not mapped: it must have the mixture's joint set itself.

    Args:
        clips: Parts that give clips, by a name; in Python also ``{"data": module, "ratio": 1}``, or a data module.
        images: Parts that give images, likewise.
        evaluate: Name of the part that validation, test and prediction use; the first of the clips (or images) when
            None.
        clip_batch_size: Clips per process and step; unused where no part of clips trains.
        image_batch_size: Images per process and step; unused where no part of images trains.
        epoch: Steps of an epoch: a number, or the name of a part that is gone through once; None goes through as many
            clips (without any: images) as there are.
        skeleton: Joint set of the batches; the first part's when None.
        image_size: [W, H] in px that all parts must have; the first part's when None.
        num_workers: Loader processes of the mixture; those of the parts are not used.
        val_batch_size: Samples per evaluation batch; the evaluated part's when None.
        seed: Seed of what comes when; each part's augmentation has its own.
        pin_memory: Page-locked batches, for CUDA.
    """

    view: str = "mixture"

    def __init__(
        self,
        clips: dict[str, MixturePart] | None = None,
        images: dict[str, MixturePart] | None = None,
        evaluate: str | None = None,
        clip_batch_size: int = 8,
        image_batch_size: int = 8,
        epoch: int | str | None = None,
        skeleton: str | None = None,
        image_size: tuple[int, int] | None = None,
        num_workers: int = 0,
        val_batch_size: int | None = None,
        seed: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.kinds: dict[Kind, dict[str, MixturePart]] = {
            "clips": _parts("clips", clips), "images": _parts("images", images)
        }  # fmt: skip
        _check_parts(self.kinds, evaluate, epoch)
        self.parts = {name: part for parts in self.kinds.values() for name, part in parts.items()}
        self.evaluated: PoseDataModule = self.parts[evaluate or next(iter(self.parts))].data
        first = next(iter(self.parts.values())).data
        sizes = {"clips": clip_batch_size, "images": image_batch_size}
        self.batch_sizes = {kind: sizes[kind] for kind in KINDS if self.trained(kind)}
        for kind, count in self.batch_sizes.items():
            if count < 1:
                raise UserError(
                    f"Mixture: {kind[:-1]}_batch_size is {count}, but must be at least 1 (ratio 0 leaves a part out)"
                )
        super().__init__(
            skeleton or first.skeleton, sum(self.batch_sizes.values()), num_workers,
            val_batch_size or self.evaluated.val_batch_size, seed, pin_memory,
        )  # fmt: skip
        if self.evaluated.skeleton != self.skeleton:
            name = evaluate or next(iter(self.parts))
            raise UserError(
                f"Mixture: part {name}, which evaluation uses, has skeleton {self.evaluated.skeleton}, the mixture "
                f"{self.skeleton}: set skeleton {self.skeleton} for its data, or another part in evaluate"
            )
        self.epoch = epoch
        size = image_size or getattr(first, "image_size", None)
        self.image_size = None if size is None else (int(size[0]), int(size[1]))

    @classmethod
    def linked_values(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what a method takes over: the joint set and the size of the pictures, of the first part by default.

        Args:
            arguments: The constructor's arguments with their defaults.
        """
        values = {name: arguments.get(name) for name in ("skeleton", "image_size")}
        parts = [part for kind in KINDS for part in (arguments.get(kind) or {}).values()]
        data = parts[0].get("data") if parts and isinstance(parts[0], Mapping) else None
        if isinstance(data, Mapping) and None in values.values():
            offered = import_class(data["class_path"]).linked_values(data.get("init_args") or {})
            values = {name: offered.get(name) if value is None else value for name, value in values.items()}
        return values

    def trained(self, kind: Kind) -> dict[str, MixturePart]:
        """Returns the parts of a kind that training draws from."""
        return {name: part for name, part in self.kinds[kind].items() if part.ratio > 0}

    # -- data sets ----------------------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Checks that the data of all parts are there.

        Raises:
            UserError: Some are not.
        """
        for part in self.parts.values():
            part.data.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Builds the data sets that a stage needs."""
        stage = checked_stage(stage)
        if stage == "fit":
            self.dataset("train")
        self.evaluated.setup("validate" if stage == "fit" else stage)

    def make_dataset(self, split: Split) -> Dataset[Any]:
        """Builds a split's data set: for training that of the mixture, else the evaluated part's.

        Raises:
            UserError: Files are missing or broken, or the parts do not fit together.
        """
        if split != "train":
            return self.evaluated.dataset(split)
        trained = {name: part for kind in KINDS for name, part in self.trained(kind).items()}
        datasets = {name: part.data.dataset("train") for name, part in trained.items()}
        maps = {name: _joint_map(part.data.skeleton, self.skeleton) for name, part in trained.items()}
        self._shapes = self._probe(datasets, maps)
        return MixtureDataset(datasets, maps)

    def _probe(self, datasets: Mapping[str, Dataset[Any]], maps: Mapping[str, Any]) -> dict[Kind, Any]:
        """Looks at one sample of each part."""
        shapes: dict[Kind, Any] = {}
        for kind in self.batch_sizes:
            samples = {}
            for name in self.trained(kind):
                if not len(datasets[name]):  # type: ignore[arg-type]
                    raise UserError(f"Mixture: part {name} has no training sample")
                sample = as_clip(datasets[name][(0, 0)], name)
                samples[name] = sample if maps[name] is None else map_joints(sample, maps[name])
            shapes[kind] = common_shapes(kind, samples)
            height, width = shapes[kind]["image"][-2:]
            if self.image_size is not None and (width, height) != self.image_size:
                raise UserError(
                    f"Mixture: image_size is {list(self.image_size)}, but the parts of {kind} give pictures of "
                    f"{width} x {height} px"
                )
        return shapes

    # -- loaders ------------------------------------------------------------------------------------------------------

    def loader(self, split: Split) -> DataLoader[Any]:
        """Makes a split's loader."""
        if split != "train":
            return super().loader(split)
        if self.batch_size != sum(self.batch_sizes.values()):
            made = " and ".join(f"{count} {kind}" for kind, count in self.batch_sizes.items())
            raise UserError(
                f"Mixture: batch_size was set to {self.batch_size}, but a batch is made of {made}: set clip_batch_size "
                "and image_batch_size"
            )
        dataset = cast(MixtureDataset, self.dataset("train"))
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        streams = [(self._stream(kind, dataset), size) for kind, size in self.batch_sizes.items()]
        order = FixedMixtureSampler if overfits(self.trainer) else MixtureSampler
        sampler = order(dataset, world, rank, self.steps(world), streams)
        loader = ResumableLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=MixtureCollate(self._shapes),
            pin_memory=self.pins,
            worker_init_fn=single_threaded,
            persistent_workers=self.num_workers > 0,
        )
        self.resume(loader)
        return loader

    def _stream(self, kind: Kind, dataset: MixtureDataset) -> Stream:
        parts = self.trained(kind)
        total = sum(part.ratio for part in parts.values())
        sizes = {name: len(dataset.parts[name]) for name in parts}  # type: ignore[arg-type]
        return Stream(kind, sizes, {name: part.ratio / total for name, part in parts.items()}, shuffle_seed(self.seed))

    def steps(self, world: int = 1) -> int:
        """Returns the steps of an epoch.

        Args:
            world: Number of processes.
        """
        dataset = cast(MixtureDataset, self.dataset("train"))
        if isinstance(self.epoch, int):
            return self.epoch
        kind = next(k for k in self.batch_sizes if self.epoch is None or self.epoch in self.trained(k))
        stream = self._stream(kind, dataset)
        if self.epoch is None:
            samples: float = sum(stream.sizes.values())
        else:
            samples = stream.sizes[self.epoch] / stream.shares[self.epoch]
        return max(1, int(samples / (world * self.batch_sizes[kind])))

    def collate(self) -> Callable[[list[Any]], Any] | None:
        """Returns what makes an evaluation batch: the evaluated part's."""
        return self.evaluated.collate()

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def ground_truth(self, split: Split) -> list[ImageTarget] | None:
        """Returns the evaluated part's complete annotations."""
        return self.evaluated.ground_truth(split)

    def head_targets(self, split: Split, sample_ids: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """Returns the evaluated part's targets of PCKh."""
        return self.evaluated.head_targets(split, sample_ids)

    def __getattr__(self, name: str) -> Any:
        """Looks up in the evaluated part what its evaluation or prediction needs besides."""
        if name.startswith("_") or "evaluated" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no {name}")
        return getattr(self.evaluated, name)


def _joint_map(own: str, wanted: str) -> JointMap | None:
    return None if own == wanted else source_of(get_skeleton(own)).map_to(get_skeleton(wanted))


def _parts(kind: Kind, given: Any) -> dict[str, MixturePart]:
    """Returns a kind's parts of what a caller in Python may have written for them.

    Raises:
        UserError: They have no names, or one is no part.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UserError(f"Mixture: {kind} must be a dict of parts by name, not {type(given).__name__}")
    return {name: _part(name, part) for name, part in given.items()}


def _part(name: str, given: Any) -> MixturePart:
    part = given
    if isinstance(given, Mapping):
        for key in given:
            one_of(f"key in part {name} of Mixture", key, MixturePart.__annotations__)
        part = MixturePart(**{"data": None, **given})
    elif isinstance(given, PoseDataModule):
        part = MixturePart(given)
    if not isinstance(part, MixturePart):
        raise UserError(f"Mixture: part {name} must be a MixturePart or a data module, not {type(part).__name__}")
    if not isinstance(part.data, PoseDataModule):
        raise UserError(f"Mixture: the data of part {name} must be a data module, not {type(part.data).__name__}")
    return part


def _check_parts(
    kinds: Mapping[Kind, Mapping[str, MixturePart]], evaluate: str | None, epoch: int | str | None
) -> None:
    names = [name for parts in kinds.values() for name in parts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"Mixture: clips and images both have a part named {twice[0]}")
    for parts in kinds.values():
        for name, part in parts.items():
            ratio: Any = part.ratio
            if not isinstance(ratio, Real) or not 0 <= float(ratio) < math.inf:
                raise UserError(
                    f"Mixture: the ratio of part {name} is {excerpt(ratio)}, but must be a number of at least 0"
                )
    trained = [name for parts in kinds.values() for name, part in parts.items() if part.ratio > 0]
    if not trained:
        raise UserError("Mixture: no part of clips or images has a ratio above 0")
    one_of("part in evaluate of Mixture", evaluate, names, none=True)
    if isinstance(epoch, str):
        one_of("part in epoch of Mixture", epoch, trained)
    if isinstance(epoch, int) and epoch < 1:
        raise UserError(f"Mixture: epoch is {epoch}, but must be at least 1 step")
