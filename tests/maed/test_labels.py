"""What the data are labelled with decides what is compared, and by which number the best state is chosen."""

import lightning
import numpy as np
import pytest
import torch

from posekit.callbacks import BestCheckpoint
from posekit.data import LSPExtended, Mixture, PoseDatabase, SyntheticPeople
from posekit.data.mixture import MixturePart
from posekit_maed.clips import crop_rule
from tests.data3d.test_penn_and_lsp import write_lsp
from tests.data3d.test_pose_database import write
from tests.maed.conftest import SIZE


def run(module, datamodule, folder):
    best = BestCheckpoint(module.monitor, module.monitor_mode)
    trainer = lightning.Trainer(
        max_epochs=1, limit_train_batches=1, limit_val_batches=1, logger=False, callbacks=[best], accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=datamodule)
    return trainer, best


def database(folder, **changes):
    for split in ("train", "val"):
        write(folder, name=f"3dpw_{split}_db", **changes)
    return PoseDatabase(str(folder), frames=2, image_size=SIZE, augmentation="none", batch_size=2)


def synthetic():
    return SyntheticPeople(
        view="clips", skeleton="SPIN49", frames=2, image_size=list(SIZE), difficulty="easy", train_size=2, val_size=2,
        batch_size=2,
    )  # fmt: skip


def test_data_without_3d_labels_choose_the_best_state_by_the_loss(make, tmp_path):
    module = make()
    write_lsp(tmp_path / "lsp")
    data = LSPExtended(str(tmp_path / "lsp"), image_size=SIZE, augmentation="none", batch_size=2)
    trainer, best = run(module, data, tmp_path)
    assert best.monitor == "val/loss"
    assert best.best_model_score == pytest.approx(float(trainer.callback_metrics["val/loss"]))
    assert "val/PA-MPJPE" not in trainer.callback_metrics


def test_shapes_of_smpl_are_not_compared_on_the_built_in_body(make, tmp_path):
    module = make()
    with pytest.warns(UserWarning, match="shapes of PoseDatabase are of SMPL, the model's body is builtin_1500"):
        trainer, best = run(module, database(tmp_path / "db"), tmp_path)
    assert best.monitor == "val/PA-MPJPE"
    assert "val/PVE" not in trainer.callback_metrics
    assert "val/shape" not in trainer.callback_metrics
    assert "val/pose" in trainer.callback_metrics


@pytest.mark.filterwarnings("error:shapes of")
def test_labels_of_the_model_s_own_body_are_compared(make, tmp_path):
    trainer, _ = run(make(), synthetic(), tmp_path)
    assert {"val/PVE", "val/shape", "val/PA-MPJPE"} <= set(trainer.callback_metrics)
    flat = database(tmp_path / "db", pose=None, shape=None)  # joints alone: there is no shape to compare
    trainer, _ = run(make(), flat, tmp_path)
    assert "val/PA-MPJPE" in trainer.callback_metrics


def test_a_mixture_is_judged_by_the_part_that_is_evaluated(make, tmp_path):
    module = make()
    parts = {"own": MixturePart(synthetic()), "smpl": MixturePart(database(tmp_path / "db"))}
    data = Mixture(clips=parts, evaluate="own", clip_batch_size=2, epoch=1, skeleton="SPIN49", image_size=SIZE)
    with pytest.warns(UserWarning, match="shapes of PoseDatabase"):
        trainer, _ = run(module, data, tmp_path)
    assert "val/PVE" in trainer.callback_metrics
    assert "val/shape" not in trainer.callback_metrics
    assert np.isfinite(float(trainer.callback_metrics["val/loss"]))
    assert torch.isfinite(next(module.parameters())).all()


@pytest.mark.parametrize(("options", "expected"), [({}, ("frame", 1.3)), ({"clip_box": "window"}, ("window", 1.3))])
def test_predictions_cut_people_as_the_training_data_do(make, tmp_path, options, expected):
    data = database(tmp_path / "db")
    data.box_scale = 1.3
    module = make(**options)
    trainer, _ = run(module, data, tmp_path)
    trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    loaded = type(module).load_from_checkpoint(tmp_path / "a.ckpt")
    assert (loaded.clip_box, loaded.box_scale) == expected
    data.box_scale, data.clip_box = 1.1, "key"  # another fit has its own
    run(loaded, data, tmp_path)
    assert (loaded.clip_box, loaded.box_scale) == (options.get("clip_box", "key"), 1.1)


def test_the_rule_of_crops_is_that_of_the_clips_if_they_agree(tmp_path):
    videos, pictures = synthetic(), synthetic()
    pictures.view = "crops"
    assert crop_rule(videos) == ("key", None)
    assert crop_rule(pictures) == (None, None)
    part = MixturePart(database(tmp_path / "db"))
    mixture = Mixture(clips={"a": part}, images={"b": MixturePart(pictures)}, skeleton="SPIN49", image_size=SIZE)
    assert crop_rule(mixture) == ("frame", 1.25)
    mixture = Mixture(clips={"a": part, "c": MixturePart(videos)}, skeleton="SPIN49", image_size=SIZE)
    assert crop_rule(mixture) == (None, None)
