"""SceneModule: OKS AP of a bottom-up method, of its final poses and of those that it started from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from posekit.data.batch import KeypointPrediction, SceneBatch
from posekit.errors import UserError
from posekit.metrics import KeypointAP
from posekit.module import PoseModule, StepOutput

POSES = ("refined", "initial")


class ScenePrediction(KeypointPrediction):
    """People of a batch of pictures, in original pixels, with what they started from."""

    initial: Tensor  # (N, K, 3) x, y of the centre-offset pose in original px, the centre's score


class SceneModule(PoseModule):
    """Base of methods on :class:`~posekit.data.batch.SceneBatch` whose people are judged before and after refinement.

    It logs OKS AP's ten numbers (of CrowdPose its nine), and ``AP_initial``, ``AP50_initial`` and ``AP75_initial`` of
    the initial poses, ranked by their own score. A subclass calls :meth:`add_metrics` in its constructor.

    Args:
        kwargs: Arguments of :class:`~posekit.module.PoseModule`.
    """

    views: tuple[str, ...] = ("scenes",)
    monitor: ClassVar[str] = "val/AP"
    monitor_mode: ClassVar[str] = "max"

    def add_metrics(self, sigmas: Sequence[float]) -> None:
        """Makes the metrics for a joint set of OKS deviations (K,)."""
        names = [f"{stage}_{poses}" for stage in ("val", "test") for poses in POSES]
        self.keypoint_ap = nn.ModuleDict({name: KeypointAP(sigmas) for name in names})

    def check_scenes(self, batch: SceneBatch) -> None:
        """Refuses batches of single people.

        Raises:
            UserError: The batch holds crops.
        """
        people: Any = batch["keypoints"]
        if not isinstance(people, list):
            raise UserError(f"{type(self).__name__} needs whole pictures: set data.view to scenes")

    def reset_metrics(self, stage: str) -> None:
        """Empties the metrics and hands them the ground truth of all pictures."""
        self.hand_targets(stage, [self._ap(stage, poses) for poses in POSES])

    def update_metrics(self, batch: SceneBatch, output: StepOutput[ScenePrediction], stage: str) -> None:
        """Adds the people of a batch, refined and as they were before."""
        found = output.predictions
        if found is None or self._ap(stage, POSES[0]).targets is None:
            return
        scores = {"refined": found["scores"], "initial": found["initial"][:, 0, 2]}
        keypoints = {"refined": found["keypoints"], "initial": found["initial"]}
        for poses in POSES:
            entries = []
            for image_id in batch["image_id"].tolist():  # a picture without people counts as well
                rows = found["image_id"] == image_id
                entry = {"keypoints": keypoints[poses][rows], "scores": scores[poses][rows]}
                entries.append({**entry, "image_id": image_id, "sample_id": found["sample_id"][rows]})
            self._ap(stage, poses).update(entries)

    def compute_metrics(self, stage: str) -> dict[str, Tensor]:
        """Returns OKS AP's numbers, and AP, AP50 and AP75 of the initial poses."""
        values: dict[str, Tensor] = {}
        if self._ap(stage, POSES[0]).targets is not None:
            values.update(self._ap(stage, "refined").compute())
            before = self._ap(stage, "initial").compute()
            values.update({f"{name}_initial": before[name] for name in ("AP", "AP50", "AP75")})
        return values

    def _ap(self, stage: str, poses: str) -> KeypointAP:
        return cast(KeypointAP, self.keypoint_ap[f"{stage}_{poses}"])
