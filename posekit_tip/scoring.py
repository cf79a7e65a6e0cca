"""PoseTrack's AP beside OKS AP, where the data has PoseTrack's annotations."""

from __future__ import annotations

from typing import Any, cast

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from posekit.data.batch import CropBatch, KeypointPrediction
from posekit.errors import UserError
from posekit.metrics import PoseTrackAP
from posekit.metrics.posetrack_ap import COLUMNS
from posekit.module import StepOutput
from posekit.skeletons import POSETRACK15
from posekit.topdown import TopDownModule


class PoseTrackScoring(TopDownModule):
    """Adds PoseTrack's AP to a top-down method of POSETRACK15: ``PoseTrack/AP`` and its columns, in per cent.

    A data module that has the annotations says so by ``posetrack_annotations(split)``, the files of its sequences; of
    faulty people in them the metric makes what the data module's ``on_bad_annotation`` says.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.posetrack_ap = nn.ModuleDict()

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the data, as its base does: here a metric that is nothing without its annotations."""
        state = super().__getstate__()
        return {**state, "_modules": {**state["_modules"], "posetrack_ap": nn.ModuleDict()}}

    def reset_metrics(self, stage: str) -> None:
        """Empties the metrics; reads the annotations at the first time."""
        if not self.knows_targets(stage):
            self._read_annotations(stage)
        super().reset_metrics(stage)
        if stage in self.posetrack_ap:
            cast(PoseTrackAP, self.posetrack_ap[stage]).reset()

    def _read_annotations(self, stage: str) -> None:
        """Makes the stage's metric anew, if the data module has annotations."""
        if stage in self.posetrack_ap:
            del self.posetrack_ap[stage]
        datamodule = getattr(self.trainer, "datamodule", None)
        files = getattr(datamodule, "posetrack_annotations", None)
        if files is not None and self.skeleton.name == POSETRACK15.name:
            on_fault: Any = getattr(datamodule, "on_bad_annotation", "error")
            self.posetrack_ap[stage] = PoseTrackAP(files(stage), on_bad_annotation=on_fault).to(self.device)

    def update_metrics(self, batch: CropBatch, output: StepOutput[KeypointPrediction], stage: str) -> None:
        """Adds a batch's people."""
        super().update_metrics(batch, output, stage)
        if stage in self.posetrack_ap and output.predictions is not None:
            cast(PoseTrackAP, self.posetrack_ap[stage]).update(output.predictions)

    def compute_metrics(self, stage: str) -> dict[str, Tensor]:
        """Returns the metrics; a fit goes on where PoseTrack's AP cannot be computed, and warns why.

        Raises:
            UserError: An annotated person that is needed has no head box, in an evaluation by itself.
        """
        values = super().compute_metrics(stage)
        if stage not in self.posetrack_ap:
            return values
        names = ("AP", *COLUMNS)
        try:
            found = cast(PoseTrackAP, self.posetrack_ap[stage]).compute()
        except UserError as error:
            if self.trainer.state.fn != "fit":
                raise
            rank_zero_warn(f"PoseTrack's AP cannot be computed: {error}")
            found = {name: torch.tensor(float("nan"), device=self.device) for name in names}
        return values | {f"PoseTrack/{name}": found[name] for name in names}
