"""PoseModule: the LightningModule every method derives from."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, ClassVar, Generic, TypeVar

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.parsing import lightning_setattr
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from posekit.checkpoints import CHECKPOINT_KEY, read_checkpoint
from posekit.errors import UserError, as_names, each_in_range, in_range, one_line, one_of
from posekit.loop_progress import (
    ends_step,
    keep_place,
    latest_metrics,
    place_loaders,
    recall_metrics,
    recount,
    resume_by_epochs,
)
from posekit.metrics import KeypointAP
from posekit.metrics.rows import RowsMetric
from posekit.nn.shipped import weight_path
from posekit.nn.weights import LoadReport, load_weights
from posekit.optim import (
    OPTIMIZERS,
    SCHEDULES,
    build_optimizer,
    build_schedule,
    group_options,
    impose_options,
    scaled_rates,
)
from posekit.plugins import import_class
from posekit.searches import search_rate_no_more, searches_batch_size, searches_rate
from posekit.signatures import arguments_of

__all__ = ["CHECKPOINT_KEY", "PoseModule", "StepOutput", "picture_size", "read_checkpoint"]

Prediction = TypeVar("Prediction")


@dataclass
class StepOutput(Generic[Prediction]):
    """What a method's :meth:`PoseModule.step` returns.

    Attributes:
        loss: Scalar to minimise.
        logs: Further scalars to log, by name.
        predictions: What the metrics are fed with; None while training.
        batch_size: Samples, for weighted averages over an epoch.
        labelled: () bool, whether anything in the batch has a label; None stands for yes. The loss of a batch without
            (detected boxes) does not count in an evaluation, and that of an epoch without is NaN.
    """

    loss: Tensor
    batch_size: int
    logs: dict[str, Tensor] = field(default_factory=dict)
    predictions: Prediction | None = None
    labelled: Tensor | None = None


_PLACE = 187.3  # px, an example
_ERRORS = ("loss", "error", "mpjpe", "pve", "_mm", "distance")  # words in the names of numbers that are best small


def best_mode(monitor: str) -> str:
    """Returns ``min`` for the name of a loss or an error, ``max`` for that of an accuracy."""
    return "min" if any(word in monitor.lower() for word in _ERRORS) else "max"


def picture_size(size: Sequence[int] | None, otherwise: tuple[int, int]) -> tuple[int, int]:
    """Checks an ``image_size`` and returns it as (W, H) px; ``otherwise`` for None.

    Raises:
        UserError: It is no two whole numbers above 0.
    """
    if size is None:
        return otherwise
    sides: list[Any] = list(size) if isinstance(size, Iterable) else [size]
    if len(sides) != 2 or not all(isinstance(side, Integral) and int(side) > 0 for side in sides):
        raise UserError(f"image_size must be [W, H], two whole numbers of px, not {sides}")
    return int(sides[0]), int(sides[1])


class PoseModule(LightningModule):
    """Base of all methods: optimiser, schedule, weights, one shared step, metrics by split.

    A subclass saves its arguments with ``save_hyperparameters()``, builds its network, and implements :meth:`step`,
    ``forward`` and ``predict_step``. Hyper-parameters are plain values, so checkpoints load with ``weights_only=True``.

    Args:
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        lr: Learning rate (the highest one of the schedule).
        weight_decay: Weight decay of the optimiser.
        schedule: ``constant``, ``step``, ``cosine`` or ``onecycle``, stepped with the optimiser.
        milestones: Epochs at which the ``step`` schedule decays tenfold.
        lr_warmup_steps: Steps of linear increase at the start (not of ``onecycle``).
        lr_peak: Share of the run at which ``onecycle`` reaches ``lr``.
        init_from: Weights to start from: a checkpoint or weight file (own, or the method's official one), or the name
            of weights that posekit ships (``starter``, a small network).
        init_skip: Parts of the model, by name (``network.final_layer``), that ``init_from`` leaves as they are.

    Raises:
        UserError: An unknown name, or a value out of its range.
    """

    monitor: ClassVar[str] = "val/loss"
    monitor_mode: ClassVar[str] = "min"
    learned_options: ClassVar[tuple[str, ...]] = ()
    """Arguments that are attributes, too, and that a fit fills in where they are None: checkpoints keep them."""
    views: tuple[str, ...] = ()
    """Views of data that the method learns from and is evaluated on: ``crops``, ``clips``, ``scenes``, ``motion``,
    ``mixture``. Empty takes anything."""
    predicts: ClassVar[str] = "pictures"
    """What ``posekit predict --input`` gives: ``pictures`` (``ImageSource``) or ``clips`` (``VideoClips``)."""
    prediction_writer: ClassVar[str] = "PredictionWriter"
    """The callback that writes what ``predict_step`` returns, by name or path: ``PredictionWriter`` takes a
    ``KeypointPrediction`` (2D), ``PredictionWriter3D`` a ``Pose3DPrediction``."""

    def __init__(
        self,
        optimizer: str = "adam",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: str = "step",
        milestones: list[int] | None = None,
        lr_warmup_steps: int = 0,
        lr_peak: float = 0.2,
        init_from: str | None = None,
        init_skip: list[str] | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        in_range(owner, "lr", lr, "(0, inf)")
        in_range(owner, "weight_decay", weight_decay, "[0, inf)")
        in_range(owner, "lr_warmup_steps", lr_warmup_steps, "[0, inf)", whole=True)
        in_range(owner, "lr_peak", lr_peak, "[0, 1]")
        epochs = each_in_range(owner, "milestones", milestones, "[0, inf)", whole=True) if milestones else []
        if epochs != sorted(set(epochs)):
            raise UserError(f"{owner}: milestones must be rising whole numbers of at least 0, not {epochs}")
        for kind, name, known in (("optimizer", optimizer, OPTIMIZERS), ("schedule", schedule, SCHEDULES)):
            one_of(kind, name, known)
        self.optimizer_name = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.milestones = epochs
        self.lr_warmup_steps = lr_warmup_steps
        self.lr_peak = lr_peak
        self.init_from = init_from
        self.init_skip = as_names(owner, "init_skip", init_skip or [])
        self._stop_put_off = False
        self._lr_before: float | None = None
        self._metrics_before: Mapping[str, float] = {}  # of the run that a resumed one goes on with
        self._handed: dict[str, Any] = {}  # the data module whose ground truth each stage's metrics hold

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what the metrics hold of the data: copies and pickles hold the method alone."""
        state = super().__getstate__()
        modules = {name: _without_data(part) for name, part in state["_modules"].items()}
        return {**state, "_handed": {}, "_modules": modules}

    # -- what a method implements -------------------------------------------------------------------------------------

    def step(self, batch: Any, stage: str) -> StepOutput[Any]:
        """Computes the loss, and for ``stage`` other than ``"train"`` the predictions, of a batch."""
        raise NotImplementedError

    def input_shape(self) -> tuple[int, ...]:
        """Returns the shape of one sample that ``forward`` takes, without the batch: what operations are counted on."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its input is")

    def export_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Returns what ``posekit export`` writes of a pass, by name: traced, so without anything that reads values.

        Args:
            images: (B, ...) of :meth:`input_shape`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what its exported network gives")

    @property
    def phase(self) -> str:
        """The part of its training that the method is in, where it has several that train other networks."""
        return ""

    def check_data(self, datamodule: Any) -> None:
        """Refuses a data module whose batches are of another kind than the method takes, before anything is built.

        Raises:
            UserError: They are.
        """
        view = getattr(datamodule, "view", None)
        if not self.views or view is None or view in self.views:
            return
        ours, theirs = type(self).__name__, type(datamodule).__name__
        choices = [name for name in self.views if name != "mixture"]
        way = f": set data.view to {' or '.join(choices)}" if "view" in arguments_of(type(datamodule)) else ""
        raise UserError(f"{ours} needs {' or '.join(self.views)}, but {theirs} gives {view}{way}")

    def monitor_for(self, datamodule: Any) -> str:
        """Returns the number that the best checkpoint of a run on a data module, once set up, is chosen by."""
        return self.monitor

    def check_precision(self, trainer: Trainer) -> None:
        """Refuses a trainer that rounds batches to 16 bits, which places in pictures do not stand.

        Raises:
            UserError: It is so.
        """
        place = trainer.precision_plugin.convert_input(torch.tensor(_PLACE))
        if place.dtype not in (torch.float16, torch.bfloat16):
            return
        precision = str(trainer.precision)
        way = "32-true" if precision.endswith("-mixed") else "bf16-mixed or 16-mixed"  # mixed, by a strategy's plugin
        raise UserError(
            f"precision {precision} makes 16-bit numbers of all that a batch holds, coordinates too: "
            f"{_PLACE} px becomes {place.item():g}; set trainer.precision to {way}"
        )

    def setup(self, stage: str) -> None:
        """Checks precision and data before anything is printed or computed; sources to predict on follow the method.

        Raises:
            UserError: The fit is to begin with a search for a batch size, which would come too late for the schedule.
        """
        self.check_precision(self.trainer)
        if stage == "fit":
            self._lr_before, self._metrics_before = None, {}  # of a fit before, that never began
            if searches_batch_size(self.trainer):
                raise UserError(
                    "BatchSizeFinder comes after the schedule is planned: leave it out of trainer.callbacks, and call "
                    "Tuner(trainer).scale_batch_size(model, datamodule=data) before fit, or set data.batch_size"
                )
        datamodule = getattr(self.trainer, "datamodule", None)
        if stage != "predict" or not hasattr(datamodule, "source"):
            self.check_data(datamodule)

    def convert_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Renames the tensors of an official weight file to this module's names; own names pass unchanged."""
        return state

    def training_phases(self) -> dict[str, Callable[[], None]]:
        """Returns what a training step can be, by name, each with what makes the next step one of that kind.

        ``posekit bench`` times all of them. It calls the function when a fit begins, after ``setup``, before each
        step, and before it reads the loader. Most methods have one kind of step, which needs no name.
        """
        return {"": lambda: None}

    def drawn_people(self, rows: Mapping[str, NDArray[Any]], threshold: float) -> NDArray[Any]:
        """Returns the joints (M, K, 3) of those of a picture's people whom previews and overlays show.

        Joints of a score above the threshold are drawn. A method whose scores mean something else chooses by its own
        measure, and gives joints that are to be drawn a score of 1.

        Args:
            rows: Predictions of one picture, as :meth:`predict_step` returns them.
            threshold: Least score.
        """
        return rows["keypoints"]

    # -- weights ------------------------------------------------------------------------------------------------------

    def load_initial_weights(self) -> LoadReport | None:
        """Loads ``init_from`` and reports what matched. A subclass calls it at the end of its constructor.

        Raises:
            UserError: The file is missing or broken, or nothing in it matched.
        """
        if self.init_from is None:
            return None
        report = load_weights(self, weight_path(self.init_from), convert=self.convert_weights, skip=self.init_skip)
        rank_zero_info(f"init_from {self.init_from}: {report}")
        if len(report.matched) < 0.5 * report.total:
            rank_zero_warn(f"init_from {self.init_from} fits less than half of the network: most of it starts anew")
        return report

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Loads a checkpoint of this class, weights only (no pickled objects); of PoseModule itself, one of any method.

        Raises:
            UserError: The file is missing, truncated, or a checkpoint of another class or of one that is not installed.
        """
        if cls is PoseModule:
            method = _method_of(read_checkpoint(checkpoint_path), checkpoint_path)
            return method.load_from_checkpoint(checkpoint_path, *args, **kwargs)
        read_checkpoint(checkpoint_path, expected=cls)
        kwargs.setdefault("weights_only", True)
        kwargs.setdefault("map_location", "cpu")
        kwargs.setdefault("init_from", None)  # the checkpoint has all weights; the file they started from may be gone
        return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Records which class the weights belong to, and what is still to come: a validation, the rest of an epoch."""
        learned = {name: getattr(self, name) for name in self.learned_options}
        class_path = f"{type(self).__module__}.{type(self).__qualname__}"
        own = checkpoint[CHECKPOINT_KEY] = {"class_path": class_path} | ({"learned": learned} if learned else {})
        if self._trainer is not None:
            own["metrics"] = latest_metrics(self._trainer)
            row = keep_place(self._trainer, checkpoint)
            own |= {} if row is None else {"row": row}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes over what an earlier fit has learned of its data; a fit that goes on looks at its own."""
        if self._trainer is None or self.trainer.state.fn != TrainerFn.FITTING:
            self.recall(checkpoint)
        else:
            self._lr_before = checkpoint.get("hyper_parameters", {}).get("lr")
            self._metrics_before = checkpoint.get(CHECKPOINT_KEY, {}).get("metrics", {})
            resume_by_epochs(self.trainer)

    def recall(self, checkpoint: Mapping[str, Any]) -> None:
        """Sets the ``learned_options`` that the user has left open to those of a checkpoint.

        Args:
            checkpoint: As read.
        """
        for name, value in checkpoint.get(CHECKPOINT_KEY, {}).get("learned", {}).items():
            if name in self.learned_options and self.hparams.get(name) is None:
                setattr(self, name, value)

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        """What DistributedDataParallel need not send from process to process at every step: constants.

        Buffers outside of checkpoints follow from the arguments and never change: joint orders, window geometry, the
        arrays of a body, which are megabytes.
        """
        return [
            f"{prefix}.{name}" if prefix else name
            for prefix, module in self.named_modules()
            for name in module._non_persistent_buffers_set
        ]

    # -- optimisation -------------------------------------------------------------------------------------------------

    def parameter_groups(self) -> Any:
        """Returns the parameters (or groups) to optimise; a method that freezes parts overrides it."""
        return [p for p in self.parameters() if p.requires_grad]

    def total_steps(self) -> int | None:
        """Returns the optimiser steps of the whole run, or None for a run without end."""
        steps = self.trainer.estimated_stepping_batches
        return int(steps) if math.isfinite(steps) else None

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Builds optimiser and schedule from the arguments."""
        self._resumed = self.trainer.ckpt_path is not None
        if self._resumed and searches_rate(self.trainer):  # a search would forget the place in the run
            search_rate_no_more(self.trainer)
            lightning_setattr(self, "lr", self.lr if self._lr_before is None else self._lr_before)
            rank_zero_info(f"LearningRateFinder is left out of a resumed run, which goes on with lr {self.lr:.3g}")
        optimizer = build_optimizer(self.parameter_groups(), self.optimizer_name, self.lr, self.weight_decay)
        self._optimizer_options = group_options(optimizer)
        total = self.total_steps()
        self.trainer.fit_loop.setup_data()  # an endless run has not counted its batches yet
        batches = self.trainer.num_training_batches
        per_epoch = math.ceil(batches / self.trainer.accumulate_grad_batches) if math.isfinite(batches) else 1
        scheduler = build_schedule(
            optimizer,
            self.schedule,
            total_steps=total,
            steps_per_epoch=per_epoch,
            milestones=self.milestones,
            warmup_steps=self.lr_warmup_steps,
            peak=self.lr_peak,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        """Finds the place that a resumed run goes on from, and lets the arguments count.

        Raises:
            UserError: The checkpoint's optimiser is of another kind.
        """
        self._stop_put_off = False  # of a fit before, that an error broke off
        place_loaders(self.trainer)
        recount(self.trainer)
        recall_metrics(self.trainer, self._metrics_before)
        self._metrics_before = {}
        schedule = self.lr_schedulers()
        if hasattr(self, "_optimizer_options") and isinstance(schedule, LambdaLR):  # none in a search for a rate
            self._impose_options(schedule)

    def _impose_options(self, schedule: LambdaLR) -> None:
        """Gives the optimiser the arguments' options: the state of a checkpoint holds the earlier run's.

        So it does with an ``lr`` that was set after the optimiser was built, whatever the schedule.
        """
        if not self._resumed:
            self.trainer.ckpt_path = None  # a search for a rate leaves the file there that it has removed
        defaults = schedule.optimizer.defaults
        built = float(defaults["lr"])
        if self.lr != built:  # by Lightning's LearningRateFinder, which reaches no schedule
            self._optimizer_options = scaled_rates(self._optimizer_options, built, self.lr)
            defaults["lr"] = self.lr
            rank_zero_info(f"training with lr {self.lr:.3g} in place of {built:.3g}")
        elif not self._resumed:
            return
        changed = impose_options(schedule.optimizer, schedule, self._optimizer_options)
        if changed and self._resumed:
            rank_zero_info(f"resumed with {', '.join(changed)}")

    # -- steps --------------------------------------------------------------------------------------------------------

    def _run_step(self, batch: Any, stage: str) -> StepOutput[Any]:
        output = self.step(batch, stage)
        size: Any = float(output.batch_size)  # over processes Lightning averages whole numbers to whole numbers
        if output.labelled is not None and stage != "train":
            size = size * output.labelled  # stays on the device; Lightning's mean takes it as it is
        self.log_dict(
            {f"{stage}/{name}": value.detach() for name, value in {"loss": output.loss, **output.logs}.items()},
            prog_bar=stage == "train",
            batch_size=size,
            sync_dist=stage != "train",
            on_step=stage == "train",
            on_epoch=stage != "train",
            add_dataloader_idx=False,
        )
        return output

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seeds torch by (seed, epoch, batch, process): a resumed run draws what one without a break would draw."""
        seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))
        place = (seed, self.current_epoch, batch_idx, self.global_rank)
        torch.manual_seed(zlib.crc32(repr(place).encode()))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Puts off a stop, e.g. of ``max_time``, to the end of the optimiser's step: it would lose the gradients."""
        stops = self._stop_put_off or self.trainer.should_stop
        self.trainer.should_stop = stops and ends_step(self.trainer, batch_idx)
        self._stop_put_off = stops and not self.trainer.should_stop

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Returns the loss of a training batch."""
        return self._run_step(batch, "train").loss

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        """Runs the shared step and feeds the metrics; returns the :class:`StepOutput` for callbacks."""
        return self._evaluate(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        """Runs the shared step and feeds the metrics; returns the :class:`StepOutput` for callbacks."""
        return self._evaluate(batch, "test")

    def _evaluate(self, batch: Any, stage: str) -> StepOutput[Any]:
        output = self._run_step(batch, stage)
        self.update_metrics(batch, output, stage)
        return output

    # -- metrics ------------------------------------------------------------------------------------------------------

    def reset_metrics(self, stage: str) -> None:
        """Prepares the metrics of a stage at the start of its epoch."""

    def update_metrics(self, batch: Any, output: StepOutput[Any], stage: str) -> None:
        """Feeds the metrics of a stage with a batch's predictions."""

    def compute_metrics(self, stage: str) -> dict[str, Tensor]:
        """Returns the metrics of a stage at the end of its epoch, by name."""
        return {}

    def knows_targets(self, stage: str) -> bool:
        """Tells whether the metrics of a stage hold the ground truth of the trainer's data module already."""
        datamodule = getattr(self.trainer, "datamodule", None)
        return datamodule is not None and self._handed.get(stage) is datamodule

    def hand_targets(self, stage: str, metrics: Sequence[KeypointAP]) -> None:
        """Empties the OKS AP of a stage and hands it the ground truth of all pictures, once for a data module."""
        limit = self.trainer.limit_val_batches if stage == "val" else self.trainer.limit_test_batches
        datamodule = getattr(self.trainer, "datamodule", None)
        known = self.knows_targets(stage)
        ask = getattr(datamodule, "ground_truth", None)  # a data module of the user's own need not have it
        targets = ask(stage) if ask is not None and not known else None
        groups = self.image_groups(stage) if targets is not None else None
        for metric in metrics:
            metric.reset()
            # 1.0 is all, the number 1 is one batch: a shortened evaluation judges the pictures it looked at.
            metric.only_seen = not (isinstance(limit, float) and limit == 1.0)
            if not known:
                metric.clear_targets()
            if targets is not None:
                metric.set_targets(targets, groups)
        self._handed[stage] = datamodule

    def image_groups(self, stage: str) -> dict[str, list[int]] | None:
        """Returns the image ids of the groups whose AP the data set's evaluation tells apart; None where it has none.

        A data module says so by ``image_groups(split)`` (CrowdPose: easy, medium, hard). Where the annotations lack
        what it needs, the numbers without groups are left, and a warning says so.
        """
        ask = getattr(getattr(self.trainer, "datamodule", None), "image_groups", None)
        if ask is None:
            return None
        try:
            groups: dict[str, list[int]] = ask(stage)
        except UserError as error:
            rank_zero_warn(f"AP by groups of images cannot be computed: {error}")
            return None
        return groups

    def _log_metrics(self, stage: str) -> None:
        if self.trainer.sanity_checking:  # a few batches: no number worth keeping
            return
        shown = self.monitor_for(getattr(self.trainer, "datamodule", None))
        for name, value in self.compute_metrics(stage).items():
            key = f"{stage}/{name}"
            self.log(key, value, prog_bar=key == shown, add_dataloader_idx=False)

    def on_validation_epoch_start(self) -> None:
        """Resets the metrics."""
        self.reset_metrics("val")

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/...``."""
        self._log_metrics("val")

    def on_test_epoch_start(self) -> None:
        """Resets the metrics."""
        self.reset_metrics("test")

    def on_test_epoch_end(self) -> None:
        """Logs ``test/...``."""
        self._log_metrics("test")


def _without_data(part: nn.Module | None) -> nn.Module | None:
    """Returns a module with emptied metrics; itself, where it has none in it."""
    if isinstance(part, RowsMetric):
        return part.emptied()
    if part is None or not any(isinstance(inner, RowsMetric) for inner in part.modules()):
        return part
    new = copy(part)
    new._modules = {name: _without_data(inner) for name, inner in part._modules.items()}
    return new


def _method_of(checkpoint: dict[str, Any], path: Any) -> type[PoseModule]:
    """Imports the method that a checkpoint says it is of."""
    name = str(checkpoint[CHECKPOINT_KEY]["class_path"])
    try:
        method = import_class(name)
    except (AttributeError, ImportError, ValueError) as error:
        raise UserError(f"checkpoint {path} is of {name}, which cannot be imported: {one_line(error)}") from None
    if not (isinstance(method, type) and issubclass(method, PoseModule)) or method is PoseModule:
        raise UserError(f"checkpoint {path} is of {name}, which is no method")
    return method
