"""PoseTrackWriter: a prediction run's people in the files that PoseTrack's tool and server read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console

from posekit.callbacks.gather import from_all
from posekit.callbacks.progress import end_progress
from posekit.data.posetrack_results import write_posetrack_results
from posekit.errors import UserError, counted

_FIELDS = ("keypoints", "scores", "image_id", "sample_id", "track_id")


class PoseTrackWriter(Callback):
    """Writes one result file per sequence when a prediction run on ``PoseTrack`` ends; process 0 writes for all.

    Args:
        output: Folder; made if it is not there.
        form: ``"2017"``, ``"2018"`` (also 21's), or ``"auto"``: that of the annotations.
        dcpose_compat_dummy: Give frames without people a person of one joint, as DCPose does; see
            :func:`~posekit.data.posetrack_results.write_posetrack_results`.
    """

    def __init__(
        self,
        output: str = "predictions/posetrack",
        form: Literal["auto", "2017", "2018"] = "auto",
        dcpose_compat_dummy: bool = False,
    ) -> None:
        self.output = Path(output)
        self.form: Literal["auto", "2017", "2018"] = form
        self.dcpose_compat_dummy = dcpose_compat_dummy
        self._people: list[dict[str, Any]] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checks before any work is done that the data have sequences' files.

        Raises:
            UserError: The data module is not of PoseTrack.
        """
        self._people = []
        datamodule: Any = getattr(trainer, "datamodule", None)
        if not hasattr(datamodule, "posetrack_annotations"):
            raise UserError(f"PoseTrackWriter needs data of PoseTrack, not {type(datamodule).__name__}")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps a batch's people.

        Raises:
            UserError: The method's predictions are no 2D keypoints.
        """
        if not isinstance(outputs, dict) or "keypoints" not in outputs:
            raise UserError(f"PoseTrackWriter writes 2D keypoints, which {type(pl_module).__name__} does not predict")
        self._people.append({name: outputs[name].cpu() for name in _FIELDS if name in outputs})

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the files and says where they are."""
        parts = from_all(trainer, self._people)
        if trainer.is_global_zero:
            files = trainer.datamodule.posetrack_annotations("predict")  # type: ignore[attr-defined]
            people = [batch for part in parts for batch in part]
            written = write_posetrack_results(people, files, self.output, self.form, self.dcpose_compat_dummy)
            end_progress(trainer)
            said = f"{counted(len(written), 'PoseTrack sequence')}: {self.output}"
            Console().print(said, soft_wrap=True, markup=False)
