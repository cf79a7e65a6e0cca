"""BestCheckpoint: the best state of a run and of the runs that it goes on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from posekit.callbacks.keeper import Keeper
from posekit.files import atomic_write_bytes
from posekit.module import PoseModule


class BestCheckpoint(Keeper):
    """Keeps the best state as ``best.ckpt``; a resumed run, which has a folder of its own, begins with the earlier one.

    Lightning forgets the earlier score when the folder changes, so that the first state of the resumed run would count
    as the best however bad it is.

    Args:
        monitor: Metric that tells what is best. For the method's own one its ``monitor_for(datamodule)`` stands in.
        mode: ``max`` or ``min``.
    """

    def __init__(self, monitor: str, mode: str) -> None:
        # In the validation itself: what stops a run after it would lose the judgement, and Lightning takes an interval
        # of 1 batch for one of 1.0 epochs.
        at_epoch_end = False if monitor.startswith("val/") else None
        super().__init__(
            monitor=monitor, mode=mode, filename="best", enable_version_counter=False,
            save_on_train_epoch_end=at_epoch_end,
        )  # fmt: skip
        self._trainer: Trainer | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Asks the method for its metric on these data, finds the folder, and keeps hold of the trainer."""
        if isinstance(pl_module, PoseModule) and self.monitor == pl_module.monitor:
            self.monitor = pl_module.monitor_for(getattr(trainer, "datamodule", None))
        super().setup(trainer, pl_module, stage)
        self._trainer = trainer

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets go of the trainer."""
        self._trainer = None

    def _update_best_and_save(self, current: Tensor, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        before = {**vars(self), "best_k_models": dict(self.best_k_models)}
        try:
            super()._update_best_and_save(current, trainer, monitor_candidates)
        except BaseException:  # Ctrl-C, too: the file is the earlier one
            vars(self).update(before)
            raise

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judges the state; where the metric is not known yet, the end of the epoch does from now on."""
        if self._save_on_train_epoch_end is False and not trainer.sanity_checking:
            self._save_on_train_epoch_end = str(self.monitor) not in trainer.callback_metrics
        super().on_validation_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the earlier score and puts the earlier file into this run's folder."""
        score, earlier = state_dict["best_model_score"], state_dict["best_model_path"]
        if self._trainer is None or self.dirpath is None or score is None or not earlier:
            return
        strategy = self._trainer.strategy
        source: Path | None = strategy.broadcast(_found(earlier, self._trainer.ckpt_path))
        if source is None:
            rank_zero_info(f"the best state so far is lost: {earlier} is gone; the best from here on is kept")
            return
        target = Path(self.dirpath) / source.name
        if self._trainer.is_global_zero and not (target.exists() and target.samefile(source)):
            atomic_write_bytes(target, source.read_bytes(), durable=True)
        strategy.barrier("the earlier best checkpoint")
        self.best_model_path = self.kth_best_model_path = str(target)
        self.best_model_score = self.kth_value = score
        self.best_k_models = {str(target): score}


def _found(earlier: str, resumed: Any) -> Path | None:
    """Returns the earlier file: at its place, else, where the run's folder was moved, beside the one resumed from."""
    places = [Path(earlier), *([Path(resumed).with_name(Path(earlier).name)] if resumed else [])]
    return next((path for path in places if path.is_file()), None)
