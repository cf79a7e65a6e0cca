"""HDM as a LightningModule: every loss, both phases, flip test, weights."""

import copy

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from posekit.callbacks import BestCheckpoint
from posekit.data import SyntheticPeople
from posekit.errors import UserError
from posekit.heatmaps import to_heatmap
from posekit_hdm import HDM
from posekit_hdm.losses import LOSSES, HeatmapMatchingLoss


@pytest.fixture(scope="module")
def data():
    module = SyntheticPeople(train_size=8, val_size=4, batch_size=4, num_render_workers=1)
    module.setup("fit")
    return module


@pytest.fixture(scope="module")
def batch(data):
    return next(iter(data.train_dataloader()))


def make(**options):
    torch.manual_seed(0)
    return HDM(**{"backbone": "small", "image_size": [96, 128]} | options)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_steps_and_predicts(batch, loss):
    module = make(loss=loss)
    value = module.step(batch, "train").loss
    value.backward()
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    assert torch.isfinite(value)
    assert all(torch.isfinite(g).all() for g in gradients)
    assert any(g.abs().max() > 0 for g in gradients)
    module.eval()
    with torch.inference_mode():
        found = module.step(batch, "val").predictions
    assert found["keypoints"].shape == (4, 17, 3)
    assert torch.isfinite(found["keypoints"]).all()
    assert (found["scores"] >= 0).all()


def test_empty_maps_under_relu_are_logged(batch):
    module = make(loss="hdm", loss_options={"suppliers": "relu"})
    torch.nn.init.zeros_(module.network.final_layer.weight)
    with torch.no_grad():
        module.network.final_layer.bias.copy_(torch.where(torch.arange(17) % 2 == 0, -1.0, 1.0))
    seen = (batch["visible"] > 0).float()
    expected = seen[:, ::2].sum() / seen.sum()
    torch.testing.assert_close(module.step(batch, "train").logs["empty_maps"], expected)
    assert "empty_maps" not in make(loss="hdm").step(batch, "train").logs


@pytest.mark.parametrize("reduction", ["sum_joints_mean_batch", "mean_valid", "sum"])
def test_the_mean_distance_of_a_joint_is_logged(batch, reduction):
    module = make(loss="hdm", loss_options={"reduction": reduction})
    batch = {**batch, "keypoints": batch["keypoints"].clone(), "visible": batch["visible"].clone()}
    batch["keypoints"][0, 3] = -50.0  # outside: does not count
    batch["visible"][1] = 0
    with torch.no_grad():
        logged = module.step(batch, "train").logs["mean_emd_px"]
        maps = module(batch["image"])
        points = to_heatmap(batch["keypoints"], batch["image"].shape[-2:], maps.shape[-2:], module.mapping)
        each = HeatmapMatchingLoss(reduction="none")(maps, points, batch["visible"] > 0)
    counting = (batch["visible"] > 0) & (each > 0)
    assert not counting[0, 3]
    torch.testing.assert_close(logged, each.sum() / counting.sum())
    batch["visible"].zero_()
    assert module.step(batch, "train").logs["mean_emd_px"] == 0
    assert make(loss="gaussian_mse").step(batch, "train").logs == {}


def test_flip_test_makes_predictions_mirror_symmetric(batch):
    module = make(loss="hdm").eval()
    torch.nn.init.normal_(module.network.final_layer.weight, std=0.5)
    with torch.inference_mode():
        points, scores = module.infer(batch["image"])
        mirrored, mirrored_scores = module.infer(batch["image"].flip(-1))
    back = mirrored[:, module.flip_index].clone()
    back[..., 0] = 95 - back[..., 0]
    # Where two windows weigh the same to the last bit, either may be taken: allow for few such joints.
    close = (back - points).abs().amax(-1) < 1e-2
    assert close.float().mean() > 0.95
    torch.testing.assert_close(mirrored_scores[:, module.flip_index], scores, atol=1e-4, rtol=1e-3)


def test_unlabelled_crops_give_a_zero_loss_with_a_live_graph(batch):
    module = make(loss="hdm")
    blank = {**batch, "visible": torch.zeros_like(batch["visible"])}
    value = module.step(blank, "train").loss
    assert value == 0
    value.backward()


def test_warm_up_uses_the_other_loss_first(data):
    module = make(loss="hdm", warmup="corner_ce", warmup_share=0.5)
    seen = []
    module.loss.register_forward_hook(lambda *_: seen.append("hdm"))
    module.warmup_loss.register_forward_hook(lambda *_: seen.append("corner_ce"))
    trainer = lightning.Trainer(
        max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False, limit_val_batches=0,
        enable_model_summary=False, accelerator="cpu",
    )  # fmt: skip
    trainer.fit(module, data)
    assert seen == ["corner_ce", "corner_ce", "hdm", "hdm"]


def test_init_from_a_checkpoint_and_load_with_weights_only(data, tmp_path):
    module = make(loss="gaussian_mse", loss_options={"sigma": 1.0})
    trainer = lightning.Trainer(
        max_epochs=1, logger=False, enable_progress_bar=False, limit_val_batches=0, enable_model_summary=False,
        default_root_dir=tmp_path, accelerator="cpu", enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, data)
    path = tmp_path / "a.ckpt"
    trainer.save_checkpoint(path)
    loaded = HDM.load_from_checkpoint(path)
    started = make(loss="hdm", init_from=str(path))
    for name, value in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
        assert torch.equal(started.state_dict()[name], value)
    assert loaded.image_size == (96, 128)
    assert loaded.decoder == "parabola"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"loss": "hmd"}, "hdm"),
        ({"loss_options": {"epsilom": 1}}, "epsil"),
        ({"loss_options": {"epsilon": 0}}, "epsilon"),
        ({"decoder": "windw"}, "window"),
        ({"warmup": "mse"}, "gaussian_mse"),
        ({"warmup_share": 2}, "warmup_share"),
        ({"warmup_options": {"scal": 5}}, r"warmup_options \{'scal': 5\} need a warmup"),
        ({"warmup": "corner_ce", "warmup_options": {"scal": 5}}, "Did you mean scale"),
        ({"oks_nms": -1}, r"HDM: oks_nms must be a number in \(0, 1\] \(or null\), not -1"),
        ({"oks_nms": 2}, r"oks_nms must be a number in \(0, 1\]"),
        ({"score_threshold": -3}, r"HDM: score_threshold must be a number in \[0, 1\], not -3"),
        ({"loss_options": {"anneal": 2.7}}, "anneal must be a whole number"),
        ({"image_size": [64.5, 64]}, r"image_size must be \[W, H\], two whole numbers of px, not \[64\.5, 64\]"),
        ({"milestones": [15, 10]}, r"HDM: milestones must be rising whole numbers of at least 0, not \[15, 10\]"),
        ({"milestones": [1.5]}, "milestones"),
        (
            {"loss_options": {"reduction": "none"}},
            "HDM: loss_options.reduction 'none' gives .*: sum_joints_mean",
        ),
        ({"warmup": "dsnt", "warmup_options": {"reduction": "none"}}, "HDM: warmup_options.reduction 'none'"),
        ({"loss_options": {"check_finite": 1}}, "check_finite must be true or false"),
        ({"init_skip": 3}, "HDM: init_skip must be a list of names, not 3"),
        ({"lr": "a"}, "HDM: lr must be a number above 0, not 'a'"),
        ({"lr_warmup_steps": 1.5}, "HDM: lr_warmup_steps must be a whole number of at least 0"),
        ({"image_size": 64}, r"image_size must be \[W, H\], two whole numbers of px, not \[64\]"),
        ({"milestones": 3}, "HDM: milestones must be a list of numbers, not 3"),
        ({"backbone_options": {"width": 3}}, "widths"),
        ({"mapping": "upd"}, "udp"),
    ],
)
def test_mistakes_name_the_valid_choices(options, text):
    with pytest.raises(UserError, match=text) as caught:
        make(**options)
    assert "\n" not in str(caught.value)


def test_prediction_of_a_picture_is_in_its_pixels():
    module = make(loss="corner_ce", flip_test=False).eval()
    image = np.zeros((300, 400, 3), np.uint8)
    box = np.array([[100.0, 50, 120, 160]])
    found = module.predict(image, box)
    x, y = found["keypoints"][0, :, 0], found["keypoints"][0, :, 1]
    assert (x > 70).all()
    assert (x < 250).all()
    assert (y > 0).all()
    assert (y < 260).all()


def test_ground_truth_follows_the_data_and_short_runs_judge_what_they_saw(data):
    class Oracle(HDM):
        def predict_labels(self, batch):
            scores = torch.ones(batch["keypoints"].shape[:2])
            return self.predictions(batch, batch["keypoints"], scores)

        def step(self, batch, stage):
            output = super().step(batch, stage)
            output.predictions = self.predict_labels(batch)
            return output

    other = SyntheticPeople(val_size=6, val_batch_size=4, num_render_workers=1, seed=5)
    module = Oracle(backbone="small", image_size=[96, 128], loss="corner_ce")
    for source, limit in ((data, 1.0), (other, 1.0), (other, 1)):
        trainer = lightning.Trainer(
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            accelerator="cpu", limit_val_batches=limit,
        )  # fmt: skip
        (values,) = trainer.validate(module, source, verbose=False)
        assert values["val/AP"] == pytest.approx(1.0)


class Labelled(torch.utils.data.Dataset):
    """A batch's crops, of which some have labels."""

    def __init__(self, batch, rows):
        self.batch, self.rows = batch, rows

    def __len__(self):
        return len(self.batch["image"])

    def __getitem__(self, index):
        sample = {name: value[index] for name, value in self.batch.items()}
        return sample if index in self.rows else {**sample, "visible": torch.zeros_like(sample["visible"])}


def test_the_loss_of_crops_without_labels_does_not_count(batch):
    module = make(loss="corner_ce")

    def loss(rows):
        trainer = lightning.Trainer(
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            accelerator="cpu",
        )  # fmt: skip
        loader = torch.utils.data.DataLoader(Labelled(batch, rows), batch_size=1)
        (values,) = trainer.validate(module, loader, verbose=False)
        return values["val/loss"]

    assert np.isnan(loss(()))  # as the pixel errors are: 0 would be the best of losses
    assert loss((0,)) == pytest.approx(2 * loss((0, 1)) - loss((1,)), rel=1e-5)


class Own(lightning.LightningDataModule):
    """A user's data module, of loaders alone.

    Args:
        data: Whose loaders.
        keys: Further attributes of those data that it has.
    """

    def __init__(self, data, *keys):
        super().__init__()
        self.train_dataloader, self.val_dataloader = data.train_dataloader, data.val_dataloader
        for key in keys:
            setattr(self, key, getattr(data, key))


@pytest.mark.parametrize("skeleton", ["COCO17", "MPII16"])
def test_a_data_module_of_a_users_own_needs_loaders_alone(skeleton, tmp_path):
    data = SyntheticPeople(train_size=4, val_size=4, batch_size=4, num_render_workers=1, skeleton=skeleton)

    def names(*source, monitor="val/error"):
        keeper = BestCheckpoint(monitor, "min")
        trainer = lightning.Trainer(
            max_epochs=1, logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
            default_root_dir=tmp_path, callbacks=[keeper],
        )  # fmt: skip
        trainer.fit(make(loss="corner_ce", skeleton=skeleton), *source)
        assert keeper.best_model_score == trainer.callback_metrics[monitor]
        return set(trainer.callback_metrics)

    plain = names(data.train_dataloader(), data.val_dataloader())
    assert "val/AP" not in plain
    assert names(Own(data)) == plain
    assert {"val/AP", "val/APM"} <= names(Own(data, "ground_truth"), monitor="val/AP") - plain
    with pytest.raises(MisconfigurationException, match=r"'val/AP'.*'val/error'"):  # says what there is
        names(Own(data), monitor="val/AP")


def test_a_loss_of_a_users_own_trains_and_predicts(batch):
    class Half(torch.nn.Module):
        def __init__(self, loss):
            super().__init__()
            self.inner = loss

        def forward(self, *args):
            return self.inner(*args) / 2

    module, picture = make(loss="corner_ce").eval(), np.full((60, 80, 3), 90, np.uint8)
    before, loss, names = module.predict(picture), module.step(batch, "train").loss, list(module.state_dict())
    module.loss = Half(module.loss)
    for own in (module, copy.deepcopy(module)):
        assert list(own.state_dict()) == names
        assert torch.equal(own.predict(picture)["keypoints"], before["keypoints"])
        assert own.step(batch, "val").predictions is not None
    torch.testing.assert_close(2 * module.step(batch, "train").loss, loss)
    module.loss = torch.nn.MSELoss()
    assert torch.equal(module.predict(picture)["keypoints"], before["keypoints"])


def test_crops_of_another_size_are_refused(batch):
    module = HDM(backbone="small", image_size=[48, 64])
    with pytest.raises(UserError, match="image_size"):
        module.step(batch, "train")


@pytest.mark.parametrize("options", [{"max_epochs": 2}, {}])
def test_outside_a_fit_there_is_no_warm_up(data, options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    losses = []
    for warmup in (None, "corner_ce"):
        module = make(loss="hdm", warmup=warmup, warmup_share=0.5)
        (found,) = lightning.Trainer(**quiet, **options).validate(module, datamodule=data, verbose=False)
        losses.append(found["val/loss"])
    assert losses[0] == losses[1]
