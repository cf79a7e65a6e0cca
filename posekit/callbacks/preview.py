"""PredictionPreview: a picture of predictions beside the labels at each validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from posekit.arrays import Bytes
from posekit.callbacks.joint_set import drawn_people, joint_set
from posekit.callbacks.progress import end_progress
from posekit.callbacks.run_folder import run_folder
from posekit.callbacks.writer import to_numpy
from posekit.data.transforms import denormalize_image
from posekit.errors import UserError
from posekit.geometry import crop_points
from posekit.module import StepOutput
from posekit.visualization import contact_sheet, draw_people, enlarge, write_picture


class PredictionPreview(Callback):
    """Draws the first crops of each validation: above the prediction, below it the label.

    The picture is ``previews/val_STEP.png`` in the run's folder (rank 0). A folder that cannot be written to stops no
    run.

    Args:
        count: How many crops.
        columns: Crops a row.
        threshold: Least joint score drawn; of a bottom-up method what its ``drawn_people`` makes of it.
    """

    def __init__(self, count: int = 16, columns: int = 8, threshold: float = 0.1) -> None:
        self.count = count
        self.columns = columns
        self.threshold = threshold
        self._tiles: list[Bytes] = []
        self._latest: Path | None = None

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draws the crops of the first batches."""
        self._collect(trainer, pl_module, outputs, batch)

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the picture."""
        self._write(trainer, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the picture."""
        self._write(trainer, "test")

    def _collect(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any) -> None:
        wanted = self.count - len(self._tiles)
        found = outputs.predictions if isinstance(outputs, StepOutput) else None
        drawable = isinstance(found, dict) and "keypoints" in found and isinstance(batch, dict) and "affine" in batch
        if wanted <= 0 or not drawable or trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(found, dict)
        data = getattr(trainer, "datamodule", None)
        try:
            skeleton = joint_set(pl_module, data, found["keypoints"].shape[1])
        except UserError:  # a picture less costs no run
            return
        if isinstance(batch["keypoints"], list):
            self._collect_scenes(found, batch, wanted, skeleton, pl_module)
            return
        batch = _key_frames(batch)
        if len(batch["image"]) != len(found["keypoints"]):
            return
        predicted = found["keypoints"][:wanted].float().cpu()
        predicted[..., :2] = crop_points(predicted[..., :2], batch["affine"][:wanted].cpu())
        labels = np.concatenate([batch["keypoints"][:wanted].cpu(), batch["visible"][:wanted, :, None].cpu()], axis=-1)
        for image, above, below in zip(batch["image"][:wanted].cpu(), predicted.numpy(), labels, strict=True):
            self._tiles.append(self._tile(denormalize_image(image), above, below, skeleton))

    def _collect_scenes(self, found: Any, batch: Any, wanted: int, skeleton: Any, method: Any) -> None:
        """Draws whole pictures, and of each the people that a prediction's picture shows."""
        count = len(found["keypoints"])
        rows = {n: to_numpy(v) for n, v in found.items() if isinstance(v, Tensor) and v.ndim and len(v) == count}
        sure = rows["scores"] >= getattr(method, "least_score", 0.0)
        for row, image in enumerate(batch["image"][:wanted].cpu()):
            mine = sure & (rows["image_id"] == int(batch["image_id"][row]))
            people = drawn_people(method, {name: value[mine] for name, value in rows.items()}, self.threshold)
            predicted = torch.tensor(people)
            predicted[..., :2] = crop_points(predicted[None, ..., :2], batch["affine"][row : row + 1].cpu())[0]
            labels = torch.cat([batch["keypoints"][row], batch["visible"][row][..., None]], -1).cpu()
            tile = self._tile(denormalize_image(image), predicted.numpy(), labels.numpy(), skeleton)
            # Pictures of free size do not fit into one sheet.
            if not self._tiles or tile.shape == self._tiles[0].shape:
                self._tiles.append(tile)

    def _tile(self, image: Bytes, above: Any, below: Any, skeleton: Any) -> Bytes:
        factor = max(1, round(256 / image.shape[0]))
        rows = []
        for joints, threshold in ((above, self.threshold), (below, 0.5)):
            big, points = enlarge(image, joints, factor)
            rows.append(draw_people(big, points, skeleton, threshold=threshold))
        return np.concatenate(rows, axis=0)

    def _write(self, trainer: Trainer, stage: str) -> None:
        folder = run_folder(trainer)
        tiles, self._tiles = self._tiles, []
        if not tiles or folder is None or trainer.sanity_checking:
            return
        path = folder / "previews" / f"{stage}_{trainer.global_step:07d}.png"
        try:
            write_picture(path, contact_sheet(tiles, self.columns))
        except OSError as error:
            rank_zero_info(f"preview not written: {error}")
            return
        self._latest = path
        if trainer.state.fn != "fit":
            self._say(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says where the last picture is."""
        self._say(trainer)

    def _say(self, trainer: Trainer) -> None:
        if self._latest is not None:
            end_progress(trainer)
            rank_zero_info(f"picture of predictions: {self._latest}")
        self._latest = None


def _key_frames(batch: dict[str, Any]) -> dict[str, Any]:
    """Returns the drawn fields of a batch of crops, or of the key frames of a batch of clips."""
    if batch["image"].ndim == 4:
        return batch
    clip = torch.arange(len(batch["key"]), device=batch["key"].device)
    return {name: batch[name][clip, batch["key"]] for name in ("image", "affine", "keypoints", "visible")}
