import io
import pickle

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateFinder, ModelCheckpoint

from posekit.callbacks.best import BestCheckpoint
from posekit.errors import UserError
from posekit.module import CHECKPOINT_KEY, PoseModule
from posekit.optim import SCHEDULES
from tests.cli.toys import OtherToy, Toy, ToyData


@pytest.fixture
def checkpoint(tmp_path):
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.strategy.connect(Toy(width=4))
    trainer.save_checkpoint(tmp_path / "toy.ckpt")
    return tmp_path / "toy.ckpt"


def test_the_base_class_loads_a_checkpoint_of_any_method(checkpoint):
    method = PoseModule.load_from_checkpoint(checkpoint)
    assert type(method) is Toy
    assert torch.equal(method.net.weight, Toy.load_from_checkpoint(checkpoint).net.weight)
    with pytest.raises(UserError, match=r"of class tests\.cli\.toys\.Toy, not OtherToy"):
        OtherToy.load_from_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("posekit_gone.module.Gone", "cannot be imported"),
        ("tests.cli.toys.Gone", "cannot be imported"),
        ("collections.OrderedDict", "no method"),
        ("posekit.module.PoseModule", "no method"),
    ],
)
def test_a_checkpoint_of_what_is_no_method_here_gets_one_line(checkpoint, name, text):
    content = torch.load(checkpoint, weights_only=True)
    torch.save(content | {CHECKPOINT_KEY: {"class_path": name}}, checkpoint)
    with pytest.raises(UserError, match=text) as caught:
        PoseModule.load_from_checkpoint(checkpoint)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_part_to_leave_needs_no_list(checkpoint):
    assert Toy(width=4, init_from=str(checkpoint), init_skip="net.weight").init_skip == ["net.weight"]
    with pytest.raises(UserError, match="Toy: init_skip must be a list of names, not 3"):
        Toy(init_skip=3)


@pytest.mark.parametrize("given", [None, io.BytesIO(), 3])
def test_a_checkpoint_is_given_by_its_path(given):
    for cls in (PoseModule, Toy):
        with pytest.raises(UserError, match="a checkpoint is given by its file's path, not by "):
            cls.load_from_checkpoint(given)


def test_a_fitted_model_and_its_data_can_be_pickled():
    model, data = Toy(), ToyData(batch_size=8)
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, data)
    again, copy = pickle.loads(pickle.dumps((model, data)))
    assert torch.equal(again.net.weight, model.net.weight)
    assert copy.trainer is None
    assert data.trainer is trainer
    trainer.fit(again, copy)


class TwoRates(Toy):
    """Has a bias that learns at a tenth of the rate."""

    def parameter_groups(self):
        return [{"params": [self.net.weight]}, {"params": [self.net.bias], "lr": self.lr * 0.1}]


class Rates(Callback):
    """Notes each step's rates."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.append([group["lr"] for group in trainer.optimizers[0].param_groups])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_rate_that_the_finder_found_is_trained_with(tmp_path, schedule):
    def fit(lr, *callbacks):
        torch.manual_seed(0)
        model, rates = TwoRates(lr=lr, schedule=schedule), Rates()
        trainer = Trainer(
            accelerator="cpu", max_epochs=30, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=tmp_path, callbacks=[*callbacks, rates],
        )  # fmt: skip
        trainer.fit(model, ToyData(batch_size=8))
        assert trainer.ckpt_path is None
        return model, rates.seen

    model, searched = fit(0.01, LearningRateFinder(num_training_steps=40))
    assert model.lr < 1e-3
    wanted = fit(model.lr)[1]
    assert len(searched) == 60
    for found, rates in zip(searched, wanted, strict=True):
        assert found == pytest.approx(rates, rel=1e-12)


class TwoOptimisers(Toy):
    """Leaves its second optimiser alone."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()[0]
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()
        self.lr_schedulers().step()

    def configure_optimizers(self):
        return super().configure_optimizers(), {"optimizer": torch.optim.SGD([torch.zeros(1, requires_grad=True)])}


def make_trainer(folder, *callbacks, **options):
    return Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        callbacks=list(callbacks), **options,
    )  # fmt: skip


def test_options_reach_the_optimiser_that_the_schedule_is_of(tmp_path):
    make_trainer(tmp_path, ModelCheckpoint(tmp_path, "last"), max_epochs=1).fit(TwoOptimisers(), ToyData(batch_size=8))
    trainer = make_trainer(tmp_path, max_epochs=2)
    trainer.fit(TwoOptimisers(lr=0.5, schedule="constant"), ToyData(batch_size=8), ckpt_path=tmp_path / "last.ckpt")
    assert trainer.global_step == 4
    assert [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers] == [0.5, 1e-3]


def test_a_resume_that_had_nothing_to_do_leaves_nothing_to_the_next_fit(tmp_path):
    class First(Callback):
        def on_train_batch_end(self, trainer, *args):
            seen.append(dict(trainer.callback_metrics))

    seen: list[dict] = []
    model = Toy()
    make_trainer(tmp_path, ModelCheckpoint(tmp_path, "last"), max_epochs=1).fit(model, ToyData(batch_size=8))
    make_trainer(tmp_path, max_epochs=1).fit(model, ToyData(batch_size=8), ckpt_path=tmp_path / "last.ckpt")
    make_trainer(tmp_path, First(), max_epochs=1, num_sanity_val_steps=0).fit(model, ToyData(batch_size=8))
    assert "val/loss" not in seen[0]


def test_the_best_state_is_judged_where_its_metric_is_logged(tmp_path):
    class Late(Toy):
        def on_train_epoch_end(self):
            self.log("val/late", float(-self.current_epoch))

    best = BestCheckpoint("val/late", "min")
    make_trainer(tmp_path, best, max_epochs=3).fit(Late(), ToyData(batch_size=8))
    assert float(best.best_model_score) == -2
    assert torch.load(best.best_model_path, weights_only=True)["epoch"] == 2
