"""NLRDData: the data of Algorithm 1, each stage's streams from data modules of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, cast

from torch.utils.data import DataLoader

from posekit.data.body3d.module import BodyDataModule
from posekit.data.datamodule import LINKED, PoseDataModule, Split, checked_stage
from posekit.data.loader import evaluation_loader, overfits, shuffle_seed, single_threaded
from posekit.errors import UserError
from posekit.plugins import import_class
from posekit.signatures import defaults_of
from posekit_nlrd.joints import limb_sources
from posekit_nlrd.loaders import Cursor, EvaluationLoader, StageLoader, StepSampler
from posekit_nlrd.stages.base import WINDOWS
from posekit_nlrd.streams import Batch, labelled_batch, motion_batch, target_batch

STREAMS = ("motion", "source", "target", "labelled")
_LABELLED = ("source", "labelled", "test")
_READ: dict[str, Callable[..., Batch]] = {
    "motion": motion_batch,
    "target": lambda batch, skeleton: target_batch(batch),
    **{name: partial(labelled_batch, name=f"data.{name}") for name in _LABELLED},
}


class NLRDData(PoseDataModule):
    """Feeds whichever stage of NLRD is running: motion capture, labelled source pictures, unlabelled target clips.

    Each part is a data module of its own, ``{class_path, init_args}`` in YAML; only those are needed that the stages
    use. Batches are a function of (seed, stage, step), so a resumed run sees what the unbroken one would have seen.

    Args:
        motion: Windows of motion capture (``MotionBatch``), 60 frames at 30 a second: stages pose, motion, relations.
        source: Labelled pictures (``CropBatch`` or ``ClipBatch`` with ``joints3d``): stage source, and evaluation.
        target: Unlabelled clips (``ClipBatch``), 60 frames at 30 a second: stage adaptation. Of data sets of people in
            videos clips of real frames alone (``whole_clips``).
        test: Labelled pictures of the target to evaluate on. They never choose a model.
        labelled: Pictures of the adaptation's term ``supervised``; ``source`` when None.
        epoch_steps: Iterations between two validations.
        batch_size: Samples per process and step of every part; None leaves it to the parts.
        num_workers: Loader processes of every part; None leaves it to the parts.
        val_batch_size: Samples per evaluation batch of every part; None leaves it to the parts.
        image_size: [W, H] of the pictures, px; the source's when None.
        seed: Seed of the order of samples, which ``seed_everything`` moves.
        pin_memory: Page-locked batches, for CUDA.

    Raises:
        UserError: No part is given, or a number is out of range.
    """

    def __init__(
        self,
        motion: PoseDataModule | None = None,
        source: PoseDataModule | None = None,
        target: PoseDataModule | None = None,
        test: PoseDataModule | None = None,
        labelled: PoseDataModule | None = None,
        epoch_steps: int = 500,
        batch_size: int | None = None,
        num_workers: int | None = None,
        val_batch_size: int | None = None,
        image_size: tuple[int, int] | None = None,
        seed: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__("LIMB17", 1 if batch_size is None else batch_size, num_workers or 0, None, seed, pin_memory)
        given = {"motion": motion, "source": source, "target": target, "test": test, "labelled": labelled}
        self.parts = {name: part for name, part in given.items() if part is not None}
        if not self.parts:
            raise UserError(f"NLRDData needs at least one of its parts: {', '.join(given)}")
        if epoch_steps < 1:
            raise UserError(f"epoch_steps must be at least 1, not {epoch_steps}")
        for name, part in self.parts.items():
            if not isinstance(part, PoseDataModule):
                raise UserError(f"data.{name} must be a data module, {{class_path: ..., init_args: ...}}")
            _overrule(part, batch_size, num_workers, val_batch_size, pin_memory)
        if isinstance(target, BodyDataModule):
            target.whole_clips = True
            target._datasets.pop("train", None)  # one that was looked at before holds other clips
        self.epoch_steps = epoch_steps
        self.image_size = image_size
        self._cursors: dict[str, Cursor] = {}

    @classmethod
    def linked_values(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the pictures' size, which the method takes over: the own one, else the first part's that has one."""
        if arguments.get("image_size") is not None:
            return {"image_size": arguments["image_size"]}
        for name in ("source", "target", "test"):
            part = arguments.get(name)
            if isinstance(part, Mapping) and "class_path" in part:
                values = _linked_of(part)
                if values.get("image_size") is not None:
                    return {"image_size": values["image_size"]}
        return {"image_size": None}

    # -- set-up -------------------------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Lets every part check its files."""
        for part in self.parts.values():
            part.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Builds the data sets that a command needs, and checks that the parts fit together.

        Raises:
            UserError: A part has no samples or lacks joints, or its pictures have another size.
        """
        stage = checked_stage(stage)
        for name, part in self.parts.items():
            if name != "target":
                limb_sources(part.skeleton)
            self._check_size(name, getattr(part, "image_size", None))
            for split in self._splits(name, stage):
                if not len(cast(Any, part.dataset(cast(Split, split)))):
                    what = f"clips of {getattr(part, 'frames', None)} frames" if name == "target" else "samples"
                    raise UserError(f"data.{name} has no {split} {what}")

    def _check_size(self, name: str, size: tuple[int, int] | None) -> None:
        if self.image_size is None or size is None or name == "motion":
            return
        if list(size) != list(self.image_size):
            raise UserError(f"data.{name} has pictures of {list(size)} px, but image_size is {list(self.image_size)}")

    def _splits(self, name: str, command: str) -> list[str]:
        if command == "fit":
            return {"test": ["val"], "target": ["train"], "labelled": ["train"]}.get(name, ["train", "val"])
        wanted = {"validate": "val", "test": "test", "predict": "predict"}[command]
        return [wanted] if name in ("motion", "source", "test") and (wanted != "predict" or name == "test") else []

    def part(self, stream: str) -> PoseDataModule:
        """Returns the data module of a stream.

        Raises:
            UserError: It was not given.
        """
        name = "source" if stream == "labelled" and "labelled" not in self.parts else stream
        if name not in self.parts:
            raise UserError(f"the current stages need {stream} data: set data.{name} to a data module")
        return self.parts[name]

    def window_frames(self, stream: str) -> int | None:
        """Returns the length of a stream's first window; None where it gives none.

        Raises:
            UserError: The stream was not given.
        """
        part = self.part(stream)
        if stream not in WINDOWS:
            return None
        values = cast(Any, part.dataset("train"))[(0, 0)].get(WINDOWS[stream])
        axes = {"motion": 3, "target": 4}[stream]
        return len(values) if values is not None and values.ndim == axes else None

    def passes_to_steps(self, stream: str, epochs: float) -> int:
        """Returns the iterations that go through a stream ``epochs`` times."""
        part = self.part(stream)
        world = self.trainer.world_size if self.trainer else 1
        samples = len(cast(Any, part.dataset("train")))
        return max(1, round(epochs * samples / (part.batch_size * world)))

    # -- loaders ------------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> Any:
        """Returns the loader that follows the method's schedule."""
        return StageLoader(self, self._method())

    def val_dataloader(self) -> Any:
        """Returns the loader of what the running stage is judged by."""
        return EvaluationLoader(self, self._method(), "val")

    def test_dataloader(self) -> Any:
        """Returns the loader of everything there is to evaluate."""
        return EvaluationLoader(self, self._method(), "test")

    def predict_dataloader(self) -> Any:
        """Returns the pictures of part ``test``."""
        return self.part("test").loader("predict")

    @property
    def videos_of(self) -> Any:
        """Names the videos of pictures of part ``test``, as its data module does; None where that does not."""
        return getattr(self.parts.get("test"), "videos_of", None)

    def _method(self) -> Any:
        method = getattr(self.trainer, "lightning_module", None)
        if not hasattr(method, "plan"):
            raise UserError(f"NLRDData feeds NLRD, not {type(method).__name__}")
        return method

    def step_batch(self, stream: str, stage: int, number: int) -> Batch:
        """Returns a batch of a stream in a stage, counted from 0; batches in order cost nothing extra."""
        cursor = self._cursors.get(stream)
        if cursor is None or cursor.place != (stage, number):
            cursor = self._cursors[stream] = Cursor(self._step_loader(stream, stage, number), (stage, number))
        every = {"every_frame": True} if stream in _LABELLED else {}
        return _READ[stream](next(cursor), self.part(stream).skeleton, **every)

    def release(self, streams: tuple[str, ...]) -> None:
        """Stops the loader processes of all streams but these."""
        for stream in [name for name in self._cursors if name not in streams]:
            del self._cursors[stream]

    def _step_loader(self, stream: str, stage: int, step: int) -> DataLoader[Any]:
        part = self.part(stream)
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        dataset = part.dataset("train")
        key = (shuffle_seed(self.seed), STREAMS.index(stream), stage)
        repeat = int(self.trainer.num_training_batches) if self.trainer and overfits(self.trainer) else None
        sampler = StepSampler(len(cast(Any, dataset)), part.batch_size, key, step, world, rank, repeat)
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=part.num_workers,
            collate_fn=part.collate(),
            pin_memory=part.pins,
            worker_init_fn=single_threaded,
        )

    def evaluation_batches(self, stream: str, split: str) -> Iterator[Batch]:
        """Yields the batches of a split of a part, every sample once."""
        part = self.part(stream)
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        loader = evaluation_loader(
            part.dataset(cast(Split, split)),
            part.val_batch_size,
            world,
            rank,
            num_workers=part.num_workers,
            collate_fn=part.collate(),
            pin_memory=part.pins,
            worker_init_fn=single_threaded,
        )
        for batch in loader:
            yield _READ[stream](batch, part.skeleton)


def _overrule(
    part: PoseDataModule, batch_size: int | None, workers: int | None, val_batch_size: int | None, pin_memory: bool
) -> None:
    part.batch_size = part.batch_size if batch_size is None else batch_size
    part.num_workers = part.num_workers if workers is None else workers
    part.val_batch_size = part.val_batch_size if val_batch_size is None else val_batch_size
    part.pin_memory = part.pin_memory or pin_memory


def _linked_of(part: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the linked values of a part that is still a mapping of class and arguments."""
    cls = import_class(part["class_path"])
    values: dict[str, Any] = cls.linked_values({**defaults_of(cls), **(part.get("init_args") or {})})
    return {name: value for name, value in values.items() if name in LINKED}
