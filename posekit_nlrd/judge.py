"""What NLRD is judged by: held-out motion, labelled source pictures, and labelled pictures of the target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from posekit.errors import UserError
from posekit.metrics.rows import RowsMetric, updated_anywhere
from posekit.module import PoseModule, StepOutput
from posekit_nlrd.augment import Draws
from posekit_nlrd.evaluation import LatentSpread, PoseEvaluation
from posekit_nlrd.geometry import azimuth_matrix, fit_canonical, rotate, view_to_camera
from posekit_nlrd.networks import Networks
from posekit_nlrd.preview import PosePreview
from posekit_nlrd.probe import probe_motion
from posekit_nlrd.streams import labelled_batch

_IMAGE_STREAMS = {"source": "source", "test": "target"}  # stream -> how its numbers are named


class JudgedModule(PoseModule):
    """The evaluation of NLRD; the training is in the subclass.

    Args:
        protocols: Evaluation protocols.
        init_from: See :class:`~posekit.module.PoseModule`.
    """

    monitor: ClassVar[str] = "val/iteration"  # no target label may choose a model: the latest state is the best one
    monitor_mode: ClassVar[str] = "max"
    networks: Networks
    iteration: int
    judged: int  # the iteration of the last validation

    def __init__(self, protocols: Sequence[str], init_from: str | None = None) -> None:
        super().__init__(init_from=init_from)
        self._preview: PosePreview | None = None
        self.evaluations = nn.ModuleDict(
            {
                f"{split}_{name}": PoseEvaluation(protocols)
                for split in ("val", "test")
                for name in _IMAGE_STREAMS.values()
            }
        )
        self.spreads = nn.ModuleDict({split: LatentSpread() for split in ("val", "test")})

    def stages_to_judge(self) -> set[str]:
        """Returns the names of the stages whose numbers the next evaluation in a fit is to give."""
        raise NotImplementedError

    def evaluated_streams(self) -> tuple[str, ...]:
        """Returns what to evaluate on: while training what the latest stages can have changed, else what is trained."""
        stages = self.stages_to_judge() if self.trainer.state.fn == "fit" else self.networks.done()
        motion = ("motion",) if stages - {"source", "adaptation"} else ()
        return (*motion, *(("source", "test") if stages & {"source", "adaptation"} else ()))

    def forward(self, images: Tensor) -> Tensor:
        """Returns poses (B, 17, 3) of pictures (B, 3, H, W): metres, camera frame, the root at 0.

        The network sees no sizes: bones have canonical proportions, and the mean size of the source's bodies.
        """
        pose = self.networks.pose_decoder.pose(self.networks.image(images))
        return view_to_camera(pose * self.networks.unit)

    def configure_callbacks(self) -> list[Callback]:
        """Adds the pictures of predictions in 3D."""
        self._preview = PosePreview()
        return [self._preview]

    def _evaluate(self, batch: Any, stage: str) -> Any:
        """Feeds the metrics with a batch of any stream; batches of other data modules count as the target's."""
        if "image" in batch:
            batch = {"test": labelled_batch(batch, self._skeleton_of_data(), "the data")}
        for stream, rows in batch.items():
            if stream == "motion":
                self._evaluate_motion(rows, stage)
                continue
            found, target = self(rows["image"]), view_to_camera(rows["pose"])
            metric = cast(PoseEvaluation, self.evaluations[f"{stage}_{_IMAGE_STREAMS[stream]}"])
            metric.update(found, target, rows["weight"], rows["sample_id"])
            self._show(_IMAGE_STREAMS[stream], rows["image"], found, target)
        return None

    def _skeleton_of_data(self) -> str:
        """Returns the joint set of a data module that is none of NLRD's."""
        name = getattr(getattr(self.trainer, "datamodule", None), "skeleton", None)
        if not isinstance(name, str):
            raise UserError("NLRD judges data whose joint set it knows: give a data module with its name as skeleton")
        return name

    def _evaluate_motion(self, rows: dict[str, Tensor], stage: str) -> None:
        windows = rows["joints3d"]
        # The heading of a recording is arbitrary: each window gets one, always the same, whoever is in its batch.
        angles = [Draws(self.device, 1, number).uniform(1, high=2 * math.pi) for number in rows["sample_id"].tolist()]
        windows = rotate(windows, azimuth_matrix(torch.cat(angles))[:, None])
        poses = view_to_camera(windows[:, 0])
        decoded = self.networks.pose_decoder.pose(self.networks.encode_pose(fit_canonical(windows[:, 0])))
        self._show("motion", None, view_to_camera(decoded * self.networks.unit), poses)
        spread = cast(LatentSpread, self.spreads[stage])
        values = probe_motion(self.networks, windows, self.networks.done(), spread)
        logs = {f"{stage}/{name}": value.float() for name, value in values.items()}
        size: Any = float(len(windows))  # over processes Lightning averages whole numbers to whole numbers
        self.log_dict(logs, on_epoch=True, on_step=False, batch_size=size, sync_dist=True)

    def _show(self, stream: str, images: Tensor | None, pred: Tensor, target: Tensor) -> None:
        if self._preview is None or not len(pred):  # clips may answer for no frame
            return
        if not self.trainer.sanity_checking and self.trainer.is_global_zero:
            self._preview.add(stream, images, pred, target)

    def step(self, batch: Any, stage: str) -> StepOutput[Any]:
        """Is not used: stages have steps of their own."""
        raise NotImplementedError("NLRD's stages have steps of their own (posekit_nlrd.stages)")

    def reset_metrics(self, stage: str) -> None:
        """Empties the metrics."""
        for metric in self._metrics(stage).values():
            metric.reset()

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/...`` and remembers how far the schedule is judged."""
        super().on_validation_epoch_end()
        if not self.trainer.sanity_checking:
            self.judged = self.iteration

    def compute_metrics(self, stage: str) -> dict[str, Tensor]:
        """Returns the errors on source and target, the latents' deviation on motion, and the place in the schedule."""
        values: dict[str, Tensor] = {"iteration": torch.tensor(float(self.iteration))}
        metrics = self._metrics(stage)
        judged = updated_anywhere(*metrics.values())
        for (prefix, metric), used in zip(metrics.items(), judged, strict=True):
            if used:
                values |= {f"{prefix}{key}": value for key, value in metric.compute().items()}
        return values

    def _metrics(self, stage: str) -> dict[str, RowsMetric]:
        """Returns the metrics of a stage, by what the names of their numbers begin with."""
        pictures = {f"{n}_": cast(RowsMetric, self.evaluations[f"{stage}_{n}"]) for n in _IMAGE_STREAMS.values()}
        return {"": cast(RowsMetric, self.spreads[stage]), **pictures}
