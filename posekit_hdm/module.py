"""HDM: a heatmap network trained by matching its map, as a distribution, to the annotated point."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from posekit.data.batch import CropBatch, KeypointPrediction
from posekit.errors import UserError, in_range, one_of
from posekit.heatmaps import DECODERS, MAPPINGS, decode_heatmaps, from_heatmap, to_heatmap
from posekit.module import StepOutput
from posekit.nn import build_backbone
from posekit.topdown import TopDownModule
from posekit_hdm.base import REDUCTIONS, HeatmapLoss
from posekit_hdm.losses import HeatmapMatchingLoss, build_loss

# How each loss's maps are read unless ``decoder`` says otherwise.
DEFAULT_DECODERS = {
    "gaussian_mse": "parabola",
    "dot_mse": "argmax_shift",
    "soft_argmax": "expectation",
    "dsnt": "expectation",
}


class HDM(TopDownModule):
    """Heatmap Distribution Matching (Qu et al., NeurIPS 2022) and its rivals, by one option.

    All losses share data, backbone, schedule and metric; ``loss`` chooses.

    Args:
        skeleton: Name of the joint set; None takes the data module's (in Python: COCO17).
        image_size: (W, H) of the crops in px; None takes the data module's (in Python: 192 x 256).
        backbone: Network, e.g. ``hrnet_w32``, ``resnet50``, ``small``.
        backbone_options: Further arguments of the network.
        loss: ``hdm`` (transport), or a rival: ``gaussian_mse``, ``dot_mse``, ``corner_ce``, ``expected_distance``,
            ``soft_argmax``, ``dsnt``.
        loss_options: Arguments of the loss, e.g. ``{suppliers: relu}`` or ``{sigma: 2}``.
        decoder: How a map is read: ``window``, ``expectation``, ``argmax``, ``argmax_shift``, ``parabola``, ``dark``;
            None takes the loss's own.
        mapping: Map between crop and heatmap pixels: ``udp`` (unbiased), ``half_pixel`` or ``legacy``.
        warmup: Loss of a first phase; None has no such phase.
        warmup_options: Arguments of the warm-up loss; refused where there is none.
        warmup_share: Share of the run's steps that the first phase takes.
        flip_test: Average the maps of the crop and of its mirror image in evaluation and prediction.
        kwargs: Arguments of :class:`~posekit.topdown.TopDownModule` and :class:`~posekit.module.PoseModule`.

    Raises:
        UserError: An unknown name or option, a value out of range, a loss that is no single number, or options of a
            loss that is not there.
    """

    def __init__(
        self,
        skeleton: str | None = None,
        image_size: list[int] | None = None,
        backbone: str = "hrnet_w32",
        backbone_options: dict[str, Any] | None = None,
        loss: str = "hdm",
        loss_options: dict[str, Any] | None = None,
        decoder: str | None = None,
        mapping: str = "udp",
        warmup: str | None = None,
        warmup_options: dict[str, Any] | None = None,
        warmup_share: float = 0.3,
        flip_test: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(skeleton=skeleton, image_size=image_size, flip_test=flip_test, **kwargs)
        self.save_hyperparameters()
        in_range("HDM", "warmup_share", warmup_share, "[0, 1]")
        if warmup_options and not warmup:
            raise UserError(f"HDM: warmup_options {warmup_options} need a warmup, the name of the first phase's loss")
        network = build_backbone(backbone, num_joints=len(self.skeleton), **(backbone_options or {}))
        # Convolutions run a quarter to a half faster with channels last, on CPUs and on tensor cores.
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        criterion = _build_scalar_loss("loss_options", loss, loss_options)
        self.loss: nn.Module = criterion
        self._normalize = criterion.normalize  # how maps are read outlives the loss: a user may set one of their own
        self.warmup_loss = _build_scalar_loss("warmup_options", warmup, warmup_options) if warmup else None
        self.warmup_share = warmup_share
        self._warmup_end: float | None = None
        self.decoder = decoder or DEFAULT_DECODERS.get(loss, "window")
        one_of("decoder", self.decoder, DECODERS)
        one_of("mapping", mapping, MAPPINGS)
        self.mapping = mapping
        self.load_initial_weights()

    def forward(self, images: Tensor) -> Tensor:
        """Returns raw heatmaps (B, K, H/4, W/4) of normalised crops (B, 3, H, W)."""
        return self.network(images.contiguous(memory_format=torch.channels_last))

    def in_warmup(self) -> bool:
        """Tells whether the run is still in its first phase; judging a network outside a fit is in none."""
        if self.warmup_loss is None or self._trainer is None or self._trainer.state.fn != TrainerFn.FITTING:
            return False
        if self._warmup_end is None:
            total = self.total_steps()
            if total is None:
                raise UserError("warmup takes a share of the run: set trainer.max_epochs or trainer.max_steps")
            self._warmup_end = self.warmup_share * total
        return self.global_step < self._warmup_end

    def on_fit_start(self) -> None:
        """Forgets the length of an earlier run."""
        self._warmup_end = None

    def step(self, batch: CropBatch, stage: str) -> StepOutput[KeypointPrediction]:
        """Computes the loss of a batch; outside training also the predictions."""
        images = batch["image"]
        self.check_crops(batch)
        heatmaps = self(images)
        size, input_size = heatmaps.shape[-2:], images.shape[-2:]
        points = to_heatmap(batch["keypoints"], input_size, size, self.mapping)
        weight = (batch["visible"] > 0).to(torch.float32)
        criterion = self.warmup_loss if self.warmup_loss is not None and self.in_warmup() else self.loss
        output: StepOutput[KeypointPrediction] = StepOutput(
            criterion(heatmaps, points, weight), batch_size=images.shape[0], labelled=(batch["visible"] > 0).any()
        )
        if isinstance(criterion, HeatmapMatchingLoss):
            # The loss adds up joints, of which a batch has now more, now fewer: this can be read.
            count = criterion.counting(points, weight, (size[0], size[1])).sum()
            output.logs["mean_emd_px"] = criterion.mean_over_joints(output.loss.detach(), count, len(images))
        if isinstance(criterion, HeatmapMatchingLoss) and criterion.suppliers == "relu":
            # Empty maps teach little; a share that grows says that the run is failing.
            output.logs["empty_maps"] = criterion.count_empty(heatmaps, weight) / weight.sum().clamp(min=1)
        if stage != "train":
            output.predictions = self.predictions(batch, *self.infer(images, heatmaps))
        return output

    def readout(self, heatmaps: Tensor) -> Tensor:
        """Normalises maps of losses on distributions: their scale is free, so raw values do not compare."""
        return self.loss.normalize(heatmaps) if isinstance(self.loss, HeatmapLoss) else self._normalize(heatmaps)

    def decode(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Reads joints in crop px and scores from maps."""
        points, scores = decode_heatmaps(heatmaps, self.decoder)
        width, height = self.image_size
        return from_heatmap(points, (height, width), heatmaps.shape[-2:], self.mapping), scores


def _build_scalar_loss(option: str, name: str, values: dict[str, Any] | None) -> HeatmapLoss:
    """Builds a loss that a step can descend."""
    loss = build_loss(name, **(values or {}))
    if loss.reduction == "none":
        known = ", ".join(reduction for reduction in REDUCTIONS if reduction != "none")
        raise UserError(f"HDM: {option}.reduction 'none' gives a number per joint, a step needs one: {known}")
    return loss
