"""TopDownModule: what all methods that read one person's joints from a heatmap of a crop have in common."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from posekit.arrays import Bytes
from posekit.data.batch import CropBatch, KeypointPrediction
from posekit.data.given_people import given_people, moved
from posekit.errors import UserError, in_range
from posekit.geometry import crop_points, uncrop_points
from posekit.heatmaps import flip_heatmaps, flip_offset, shift_heatmaps
from posekit.metrics import KeypointAP, KeypointError, PCKh
from posekit.metrics.rows import updated_anywhere
from posekit.module import PoseModule, StepOutput, best_mode, picture_size
from posekit.nn.modes import evaluating
from posekit.skeletons import get_skeleton


class TopDownModule(PoseModule):
    """Base of methods on :class:`~posekit.data.batch.CropBatch`.

    It owns the joint set, the flip test, OKS AP, the map back to the original image, and :meth:`predict` for notebooks.
    A subclass implements ``forward(images) -> (B, K, h, w)`` heatmaps, :meth:`decode` and ``step``.

    Args:
        skeleton: Name of the joint set; None takes the data module's (in Python: COCO17).
        image_size: (W, H) of the crops in px; None takes the data module's (in Python: 192 x 256).
        flip_test: Average the maps of the crop and of its mirror image in evaluation and prediction.
        score_threshold: A person's score is the box score times the mean of the joint scores above this value
            (HRNet's rescoring), from 0 to 1; with no joint above it, times 0.
        oks_nms: OKS above which the lower-scored of two people of an image is dropped in evaluation, above 0 and at
            most 1; None keeps all. People are as large as their joints' extent there, in HRNet's code as the
            enlarged box.
        flip_shift: Heatmap px by which the maps of the mirror image are moved to the right before they are averaged,
            from 0 to 1. None takes what makes flips agree: 0, and 1 - 1 / stride under ``mapping: legacy``, where
            HRNet's code takes 1 (which is 0.5 px of the crop off at stride 4).
        monitor: Number that the best checkpoint is chosen by (least of losses and errors); None takes ``val/PCKh``
            where the data have head boxes (MPII), else ``val/AP``.
        kwargs: Arguments of :class:`~posekit.module.PoseModule`.

    Raises:
        UserError: A number is out of its range.
    """

    flip_index: Tensor
    mapping: str = "udp"
    """Map between crop and heatmap pixels, one of :data:`posekit.heatmaps.MAPPINGS`."""
    views: tuple[str, ...] = ("crops",)
    monitor: ClassVar[str] = "val/AP"
    monitor_mode: ClassVar[str] = "max"

    def __init__(
        self,
        skeleton: str | None = None,
        image_size: list[int] | None = None,
        flip_test: bool = True,
        score_threshold: float = 0.2,
        oks_nms: float | None = None,
        flip_shift: float | None = None,
        monitor: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.skeleton = get_skeleton(skeleton or "COCO17")
        self.image_size = picture_size(image_size, (192, 256))
        owner = type(self).__name__
        in_range(owner, "flip_shift", flip_shift, "[0, 1]", none=True)
        in_range(owner, "score_threshold", score_threshold, "[0, 1]")
        in_range(owner, "oks_nms", oks_nms, "(0, 1]", none=True)
        self._monitor_given = monitor is not None
        if monitor is not None:
            # One data set's number is not another's.
            self.monitor, self.monitor_mode = monitor, best_mode(monitor)  # type: ignore[misc]
        self.flip_test = flip_test
        self.flip_shift = flip_shift
        self.score_threshold = score_threshold
        self.register_buffer("flip_index", torch.tensor(self.skeleton.flip_index), persistent=False)
        self.keypoint_ap = nn.ModuleDict(
            {stage + "_ap": KeypointAP(self.skeleton.sigmas, oks_nms=oks_nms) for stage in ("val", "test")}
        )
        # MPII's own measure, where the data module has head boxes.
        self.pckh = nn.ModuleDict(
            {stage + "_pckh": PCKh() for stage in ("val", "test") if self.skeleton.name == "MPII16"}
        )
        self.keypoint_error = nn.ModuleDict({stage + "_error": KeypointError() for stage in ("val", "test")})

    # -- what a method implements -------------------------------------------------------------------------------------

    def decode(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Reads joints (B, K, 2) in crop px and scores (B, K) in [0, 1] from maps that :meth:`readout` gave."""
        raise NotImplementedError

    def readout(self, heatmaps: Tensor) -> Tensor:
        """Turns raw maps into ones that are decoded, and that two passes can be averaged of; here: as they are."""
        return heatmaps

    def input_shape(self) -> tuple[int, ...]:
        """Returns the shape of one crop."""
        return (3, self.image_size[1], self.image_size[0])

    def export_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the raw heatmaps (B, K, h, w)."""
        return {"heatmaps": self(images)}

    # -- inference ----------------------------------------------------------------------------------------------------

    def infer(self, images: Tensor, heatmaps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns joints (B, K, 2) in crop px and scores (B, K), with the flip test if it is on.

        Args:
            images: (B, 3, H, W) normalised crops.
            heatmaps: Their maps, where the caller has them already.
        """
        self.check_size(images)
        heatmaps = self(images) if heatmaps is None else heatmaps
        maps = self.readout(heatmaps.float())
        if self.flip_test:
            maps = self.merge_mirrored(maps, self(images.flip(-1)))
        return self.decode(maps)

    def merge_mirrored(self, maps: Tensor, mirrored: Tensor) -> Tensor:
        """Averages maps with those of the mirrored crops.

        Args:
            maps: (B, K, h, w) of the crops, from :meth:`readout`.
            mirrored: (B, K, h, w) raw maps of the mirrored crops.
        """
        back = self.readout(flip_heatmaps(mirrored, self.flip_index).float())
        shift = self.flip_shift
        if shift is None:
            shift = flip_offset(self.image_size[0], maps.shape[-1], self.mapping)
        return 0.5 * (maps + shift_heatmaps(back, shift))

    def check_data(self, datamodule: Any) -> None:
        """Refuses data of a wrong view or of another joint set.

        Raises:
            UserError: It is so.
        """
        super().check_data(datamodule)
        theirs = getattr(datamodule, "skeleton", None)
        if isinstance(theirs, str) and theirs != self.skeleton.name:
            raise UserError(
                f"{type(self).__name__} has joints of {self.skeleton.name}, but {type(datamodule).__name__} gives "
                f"{theirs}: set skeleton on both sides alike"
            )

    def check_size(self, images: Tensor) -> None:
        """Refuses crops of another size than joints are decoded for.

        Raises:
            UserError: The size differs from ``image_size``.
        """
        height, width = images.shape[-2:]
        if (width, height) != self.image_size:
            raise UserError(
                f"crops are {width} x {height}, but the model's image_size is {list(self.image_size)}: "
                "give the data module and the model the same image_size"
            )

    def check_crops(self, batch: CropBatch) -> None:
        """Refuses batches that are no crops of single people of the right size.

        Raises:
            UserError: The batch holds whole scenes or clips, or crops of another size than ``image_size``.
        """
        if not isinstance(batch["keypoints"], Tensor) or batch["image"].ndim != 4:
            found = "clips" if isinstance(batch["keypoints"], Tensor) else "scenes"
            raise UserError(f"{type(self).__name__} needs crops of single people, not {found}: set data.view to crops")
        self.check_size(batch["image"])

    def predictions(self, batch: CropBatch, points: Tensor, scores: Tensor) -> KeypointPrediction:
        """Maps joints of crops back to the original image and scores the people."""
        confident = scores > self.score_threshold
        person = (scores * confident).sum(1) / confident.sum(1).clamp(min=1)
        original = uncrop_points(points, batch["affine"])
        return {
            "keypoints": torch.cat([original, scores[..., None].to(original.dtype)], dim=-1),
            "scores": person * batch["box_score"],
            "boxes": batch["box"],
            "image_id": batch["image_id"],
            "sample_id": batch["sample_id"],
        }

    def predict_step(self, batch: CropBatch, batch_idx: int) -> KeypointPrediction:
        """Returns the people of a batch in original pixels."""
        points, scores = self.infer(batch["image"])
        return self.predictions(batch, points, scores)

    @torch.inference_mode()
    def predict(self, image: Bytes, boxes: ArrayLike | None = None, box_scale: float = 1.25) -> KeypointPrediction:
        """Finds the joints of the people in a picture; for notebooks.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes: (N, 4) xywh in px, or one (4,); None takes the whole picture as one box, not enlarged.
            box_scale: How much boxes are enlarged before cropping.

        Returns:
            Predictions in the picture's pixels, on the CPU; ``image_id`` is 0, ``sample_id`` the box's number.

        Raises:
            UserError: The picture is of another type or shape (a file's name), or a box is no four numbers or has no
                area.
        """
        batch = moved(given_people(image, boxes, self.image_size, box_scale), self)
        with evaluating(self):
            result = self.predict_step(cast(CropBatch, batch), 0)
        return cast(KeypointPrediction, {name: value.cpu() for name, value in result.items()})  # type: ignore[attr-defined]

    # -- metrics ------------------------------------------------------------------------------------------------------

    def monitor_for(self, datamodule: Any) -> str:
        """Returns PCKh where the data have head boxes (``has_head_boxes(split)``) and no number was asked for."""
        if self._monitor_given or self.monitor != type(self).monitor or not self._pckh("val"):
            return self.monitor
        heads = getattr(datamodule, "has_head_boxes", None)
        return "val/PCKh" if heads is not None and heads("val") else self.monitor

    def reset_metrics(self, stage: str) -> None:
        """Empties the metrics and hands the ground truth of all images to OKS AP."""
        self._error(stage).reset()
        for measure in self._pckh(stage):
            measure.reset()
        self.hand_targets(stage, [self._ap(stage)])

    def update_metrics(self, batch: CropBatch, output: StepOutput[KeypointPrediction], stage: str) -> None:
        """Adds a batch's people."""
        found = output.predictions
        if found is None:
            return
        if self._ap(stage).targets is not None:
            self._ap(stage).update_rows(found)
        # Errors are measured in the crop's pixels: people of all sizes count alike.
        points = crop_points(found["keypoints"][..., :2], batch["affine"])
        self._error(stage).update(points, batch["keypoints"], batch["visible"], batch["sample_id"])
        for measure in self._pckh(stage):
            ask = getattr(getattr(self.trainer, "datamodule", None), "head_targets", None)
            heads = None if ask is None else ask(stage, batch["sample_id"])
            if heads is not None:
                joints, boxes, weight = heads
                measure.update(found["keypoints"][..., :2], joints, boxes, weight, batch["sample_id"])

    def compute_metrics(self, stage: str) -> dict[str, Tensor]:
        """Returns OKS AP's ten numbers (of CrowdPose its nine), the pixel errors and, on MPII, PCKh."""
        values: dict[str, Tensor] = {}
        metric = self._ap(stage)
        if metric.targets is not None:
            values.update(metric.compute())
        values.update(self._error(stage).compute())
        for measure in self._pckh(stage):
            if all(updated_anywhere(measure)):
                values.update(measure.compute())
        return values

    def _ap(self, stage: str) -> KeypointAP:
        return cast(KeypointAP, self.keypoint_ap[stage + "_ap"])

    def _error(self, stage: str) -> KeypointError:
        return cast(KeypointError, self.keypoint_error[stage + "_error"])

    def _pckh(self, stage: str) -> list[PCKh]:
        """Returns the stage's PCKh in a list, empty for other joint sets than MPII's."""
        key = stage + "_pckh"
        return [cast(PCKh, self.pckh[key])] if key in self.pckh else []
