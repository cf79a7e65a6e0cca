"""Which sample of which part comes next in a mixture of data sets, and how the samples become one batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, SequentialSampler

from posekit.arrays import Int64
from posekit.data.batch import CROP_FIELDS
from posekit.data.batch_parts import one_frame_clips
from posekit.data.joint_maps import JointMap
from posekit.data.loader import EpochSampler
from posekit.errors import UserError

Kind = Literal["clips", "images"]

_FIELDS = (*CROP_FIELDS, "box_score", "frame", "valid", "key", "sample_id", "margin")


class Pick(NamedTuple):
    """A sample of a mixture."""

    kind: Kind
    part: str
    key: tuple[int, int]  # pass over the part, and index in it


@dataclass(frozen=True)
class Stream:
    """Endless samples of several parts, by ratio.

    A part's k-th sample stands at (k + 1/2) / share, and samples come in the order of these places: any stretch of n
    samples has n * share of each part within one sample or two. A part is gone through in a new random order in every
    pass, and nothing of it comes twice before all of it came once.

    Attributes:
        kind: ``"clips"`` or ``"images"``.
        sizes: Samples of each part by its name.
        shares: Share of each part; they sum to 1.
        seed: Of the orders.
    """

    kind: Kind
    sizes: Mapping[str, int]
    shares: Mapping[str, float]
    seed: int

    def picks(self, epoch: int, length: int, places: Int64) -> list[Pick]:
        """Returns samples of an epoch.

        Args:
            epoch: Its number; an epoch goes on where the one before ended.
            length: Samples per epoch.
            places: (P,) places in the epoch.
        """
        names = list(self.sizes)
        counts = [int(np.ceil(length * self.shares[name])) + 1 for name in names]
        times = np.concatenate([(np.arange(c) + 0.5) / self.shares[n] for n, c in zip(names, counts, strict=True)])
        owner = np.repeat(np.arange(len(names)), counts)
        ordered = owner[np.argsort(times, kind="stable")[:length]]
        rank = np.empty(length, dtype=np.int64)  # the how-manyth of its part each is
        per_epoch = []
        for part in range(len(names)):
            own = np.flatnonzero(ordered == part)
            rank[own] = np.arange(len(own))
            per_epoch.append(len(own))
        orders: dict[tuple[int, int], Int64] = {}
        picks = []
        for part, number in zip(ordered[places].tolist(), rank[places].tolist(), strict=True):
            size = self.sizes[names[part]]
            turn, at = divmod(epoch * per_epoch[part] + number, size)
            if (part, turn) not in orders:
                orders[part, turn] = np.random.default_rng((self.seed, part, turn)).permutation(size)
            picks.append(Pick(self.kind, names[part], (turn, int(orders[part, turn][at]))))
        return picks


class MixtureSampler(EpochSampler):
    """Yields the :class:`Pick` of every sample of a process, batch by batch: clips first, then images.

    Args:
        dataset: The mixture.
        world: Number of processes.
        rank: Number of this one.
        steps: Batches per epoch.
        streams: Stream and batch size of each kind.
    """

    def __init__(
        self, dataset: MixtureDataset, world: int, rank: int, steps: int, streams: Sequence[tuple[Stream, int]]
    ) -> None:
        super().__init__(dataset, world, rank, shuffle=True)
        self.steps = steps
        self.streams = list(streams)

    def __len__(self) -> int:
        return self.steps * sum(size for _, size in self.streams)

    def __iter__(self) -> Iterator[Pick]:
        epoch = self.epoch if self.shuffle else 0
        skip, self.skip = self.skip, 0
        columns = []
        for stream, size in self.streams:
            batch = self.num_replicas * size
            places = np.arange(self.steps)[:, None] * batch + self.rank * size + np.arange(size)
            picks = stream.picks(epoch, self.steps * batch, places.reshape(-1))
            columns.append([picks[step * size : (step + 1) * size] for step in range(self.steps)])
        rows = [pick for batches in zip(*columns, strict=True) for batch in batches for pick in batch]
        return iter(rows[skip:])


class FixedMixtureSampler(MixtureSampler, SequentialSampler):  # type: ignore[misc]
    """Yields the first epoch's samples in every epoch, for ``overfit_batches``; see ``FixedSampler``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.shuffle = False


class MixtureDataset(Dataset[dict[str, Any]]):
    """The parts of a mixture as one data set of clips, indexed by :class:`Pick`.

    Args:
        parts: Data set of each part.
        joint_maps: Map of each part's joints to the mixture's; None where they are the same.
    """

    def __init__(self, parts: Mapping[str, Dataset[Any]], joint_maps: Mapping[str, JointMap | None]) -> None:
        self.parts = dict(parts)
        self.joint_maps = dict(joint_maps)

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))  # type: ignore[arg-type]

    def __getitem__(self, pick: Pick) -> dict[str, Any]:
        """Returns a sample as a clip, with the kind and the name of its part."""
        sample = as_clip(self.parts[pick.part][pick.key], pick.part)
        joint_map = self.joint_maps[pick.part]
        if joint_map is not None:
            sample = map_joints(sample, joint_map)
        return {"kind": pick.kind, "part": pick.part, **sample}


def as_clip(sample: Mapping[str, Any], part: str) -> dict[str, Tensor]:
    """Returns a sample of a ``CropBatch`` as a clip of one frame, one of a ``ClipBatch`` as it is; weights are added.

    Raises:
        UserError: The sample is neither.
    """
    image = sample.get("image")
    if not isinstance(image, Tensor) or "mask" in sample or image.ndim not in (3, 4):
        raise UserError(f"Mixture: part {part} gives neither crops nor clips of people (view: crops or clips)")
    clip = {name: torch.as_tensor(value) for name, value in sample.items() if name in _FIELDS}
    if image.ndim == 3:
        clip = one_frame_clips(clip)
        # A crop whose picture was broken has box_score 0 and is black: nothing of it counts.
        clip["valid"] = torch.tensor([bool(sample["box_score"] > 0) or bool((clip["visible"] > 0).any())])
    clip.setdefault("margin", torch.zeros(2, dtype=torch.int64))
    valid = clip["valid"].float()
    if "joints3d" in clip and "joints3d_weight" not in clip:
        clip["joints3d_weight"] = valid[:, None].repeat(1, clip["joints3d"].shape[1])
    if "body_pose" in clip and "body_weight" not in clip:
        clip["body_weight"] = valid
    return clip


def map_joints(sample: dict[str, Tensor], joint_map: JointMap) -> dict[str, Tensor]:
    """Returns a clip in another joint set; what its own lacks is not visible, and has weight 0 in 3D."""
    visible = sample["visible"]
    points = joint_map(sample["keypoints"].numpy().astype(np.float64), visible.numpy().astype(np.float64))
    result = sample | {
        "keypoints": torch.from_numpy(points.points.astype(np.float32)),
        "visible": torch.from_numpy(points.weight.astype(np.int64)),
    }
    if "joints3d" in sample:
        joints = joint_map(
            sample["joints3d"].numpy().astype(np.float64), sample["joints3d_weight"].numpy().astype(np.float64)
        )
        result["joints3d"] = torch.from_numpy(joints.points.astype(np.float32))
        result["joints3d_weight"] = torch.from_numpy(joints.weight.astype(np.float32))
    return result


@dataclass(frozen=True)
class MixtureCollate:
    """Makes a ``HybridBatch`` of samples.

    Attributes:
        shapes: For each kind the shape of every field that some part has: others' samples get zeros there.
    """

    shapes: Mapping[Kind, Mapping[str, tuple[int, ...]]]

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, dict[str, Tensor]]:
        """Stacks the clips and the images, each by themselves."""
        batch = {}
        for kind, shapes in self.shapes.items():
            own = [sample for sample in samples if sample["kind"] == kind]
            if own:
                batch[str(kind)] = {name: self._stack(name, shape, own) for name, shape in shapes.items()}
        return batch

    @staticmethod
    def _stack(name: str, shape: tuple[int, ...], samples: Sequence[dict[str, Any]]) -> Tensor:
        return torch.stack([sample[name] if name in sample else torch.zeros(shape) for sample in samples])


def common_shapes(kind: Kind, samples: Mapping[str, dict[str, Tensor]]) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every field of one sample per part.

    Raises:
        UserError: The parts differ in the number of frames or the size of the pictures, or images have several frames.
    """
    first, *rest = samples.items()
    size = tuple(first[1]["image"].shape)
    for name, sample in rest:
        shape = tuple(sample["image"].shape)
        if shape != size:
            raise UserError(
                f"Mixture: the parts of {kind} must give pictures alike, but {first[0]} gives {_words(size)}, "
                f"{name} {_words(shape)}"
            )
    if kind == "images" and size[0] != 1:
        raise UserError(f"Mixture: images are clips of one frame, but part {first[0]} gives {_words(size)}")
    found: dict[str, tuple[int, ...]] = {}
    for name in _FIELDS:
        shapes = [tuple(sample[name].shape) for sample in samples.values() if name in sample]
        if shapes:
            found[name] = shapes[0]
    return found


def _words(shape: tuple[int, ...]) -> str:
    frames, _, height, width = shape
    return f"{frames} frames of {width} x {height} px"
