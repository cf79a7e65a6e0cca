"""Algorithm 1 as one run: stages in turn, freezing, resuming, and stages alone."""

import csv
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.tuner import Tuner

from posekit.bench import BenchOptions, bench_config
from posekit.errors import UserError
from posekit_nlrd import NLRD
from tests.nlrd.conftest import CHAIN, make_data, make_model, make_trainer
from tests.nlrd.figures import StickMotion, StickPeople


def test_logged_numbers_are_of_their_own_step(tmp_path):
    logger = CSVLogger(tmp_path)
    trainer = make_trainer(tmp_path, logger=logger, log_every_n_steps=1, limit_val_batches=0)
    trainer.fit(make_model([dict(stage) for stage in CHAIN]), datamodule=make_data())
    rows = [row for row in csv.DictReader((Path(logger.log_dir) / "metrics.csv").open()) if row["train/loss"]]
    stages = [{name.split("/")[1] for name, value in row.items() if value and name.count("/") == 2} for row in rows]
    wanted = [stage["name"] for stage in CHAIN for _ in range(stage["steps"])]
    assert [stage <= {name} for stage, name in zip(stages, wanted, strict=True)] == [True] * len(wanted)
    assert set().union(*stages) >= {"pose", "adaptation"}


def groups(model):
    """Weights and buffers by network."""
    return {
        name: torch.cat([t.detach().flatten().double() for t in module.state_dict().values()])
        for name, module in {
            "E_p": model.networks.pose_encoder, "D_p": model.networks.pose_decoder,
            "critic": model.networks.pose_critic, "E_m": model.networks.motion_encoder,
            "D_m": model.networks.motion_decoder, "G": model.networks.image,
            **{name: model.networks.relations[name] for name in model.networks.relations},
            "lcr": model.networks.contrast["lcr"], "hcr": model.networks.contrast["hcr"],
        }.items()
    }  # fmt: skip


class Watch(Callback):
    """Remembers all weights at the start of each stage and at the end, and keeps states in the middle of epochs."""

    KEPT = (2, 7, 13)  # within the pose stage, after the source stage, within the adaptation; epochs have 4 steps

    def __init__(self, folder):
        self.seen = {}
        self.folder = folder

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.seen.setdefault(module.stage.name, groups(module))

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if module.iteration in self.KEPT:
            trainer.save_checkpoint(self.folder / f"{module.iteration}.ckpt")

    def on_train_end(self, trainer, module):
        self.seen["end"] = groups(module)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of all stages: its model, trainer, and what was seen on the way."""
    folder = tmp_path_factory.mktemp("chain")
    watch = Watch(folder)
    keeper = ModelCheckpoint(folder, monitor=NLRD.monitor, mode=NLRD.monitor_mode, filename="best")
    torch.manual_seed(0)
    model = make_model([dict(stage) for stage in CHAIN])
    trainer = make_trainer(folder, callbacks=[watch, keeper], enable_checkpointing=True)
    trainer.fit(model, datamodule=make_data())
    return model, trainer, watch


def test_one_run_trains_each_stage_and_freezes_the_others(whole):
    model, _, watch = whole
    names = [*watch.seen]
    assert names == [*(stage["name"] for stage in CHAIN), "end"]
    expected = {
        "pose": {"E_p", "D_p", "critic"},
        "motion": {"E_m", "D_m"},
        "source": {"G"},
        "pose_relation": {"flip_inplane"},
        "motion_relations": {"flip_inplane_backward", "slow_backward"},
        "adaptation": {"G", "lcr", "hcr"},
    }
    for before, after in pairwise(names):
        changed = {key for key, old in watch.seen[before].items() if not torch.equal(old, watch.seen[after][key])}
        assert changed == expected[before], before
    assert model.iteration == 16
    assert whole[1].max_epochs == 4  # of 4 steps; what the progress bar counts to
    assert whole[1].current_epoch == 4
    assert model.networks.done() == set(expected)
    assert 0.09 < model.networks.unit.item() < 0.13  # the figures are drawn at 0.11 m a unit


@pytest.mark.parametrize("iteration", [2, 13])
def test_resuming_in_the_middle_of_an_epoch_is_exact(whole, iteration, tmp_path):
    model, _, watch = whole
    torch.manual_seed(1)  # whatever the process drew before must not matter
    resumed = make_model([dict(stage) for stage in CHAIN])
    path = watch.folder / f"{iteration}.ckpt"
    make_trainer(tmp_path).fit(resumed, datamodule=make_data(), ckpt_path=path, weights_only=True)
    assert resumed.iteration == model.iteration
    state, wanted = resumed.state_dict(), model.state_dict()
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    ("stages", "text"),
    [
        (CHAIN[3:], "checkpoint is of the stages pose, .*, this run has .*; --ckpt_path continues a run"),
        ([{**CHAIN[0], "steps": 1}, *CHAIN[1:]], r"stage pose took \d+ steps, this run's takes 1; --ckpt_path"),
    ],
)
def test_a_run_goes_on_with_its_own_schedule_alone(whole, tmp_path, stages, text):
    model, path = make_model([dict(stage) for stage in stages]), whole[2].folder / "13.ckpt"
    with pytest.raises(UserError, match=text):
        make_trainer(tmp_path).fit(model, datamodule=make_data(), ckpt_path=path, weights_only=True)


def test_a_stage_ends_no_earlier_than_where_the_checkpoint_stands(whole, tmp_path):
    model = make_model([{**CHAIN[0], "steps": 1}, *(dict(stage) for stage in CHAIN[1:])])
    with pytest.raises(UserError, match="stands behind 2 steps of stage pose, this run's takes 1; --ckpt_path"):
        make_trainer(tmp_path).fit(model, datamodule=make_data(), ckpt_path=whole[2].folder / "2.ckpt")


@pytest.mark.parametrize(
    ("iteration", "parts", "text"),
    [
        (2, {"motion": StickMotion(batch_size=6)}, "samples per step were 4 and now 6 of motion; the result is not"),
        (13, {"target": StickPeople("clips", "target", size=6, batch_size=3)}, "2 and now 3 of target; the result"),
    ],
)
def test_other_samples_per_step_than_before_the_break_are_said(whole, tmp_path, iteration, parts, text):
    model, path = make_model([dict(stage) for stage in CHAIN]), whole[2].folder / f"{iteration}.ckpt"
    with pytest.warns(UserWarning, match=text):
        make_trainer(tmp_path).fit(model, datamodule=make_data(**parts), ckpt_path=path, weights_only=True)


@pytest.mark.filterwarnings("error:resumed with batches")
def test_samples_per_step_of_what_was_not_begun_or_is_done_may_change(whole, tmp_path):
    first = torch.load(whole[2].folder / "2.ckpt", weights_only=True)
    del first["nlrd"]["samples"]  # as checkpoints of older versions
    torch.save(first, tmp_path / "old.ckpt")
    for path, parts in (
        (whole[2].folder / "2.ckpt", {"source": StickPeople(batch_size=6)}),
        (whole[2].folder / "13.ckpt", {"source": StickPeople(batch_size=6), "motion": StickMotion(batch_size=6)}),
        (tmp_path / "old.ckpt", {"motion": StickMotion(batch_size=6)}),
    ):
        model = make_model([dict(stage) for stage in CHAIN])
        make_trainer(tmp_path).fit(model, datamodule=make_data(**parts), ckpt_path=path, weights_only=True)
        assert model.iteration == 16


def test_stages_run_alone_from_an_earlier_runs_weights(whole, tmp_path):
    path = str(whole[2].folder / "7.ckpt")
    model = make_model([dict(stage) for stage in CHAIN[3:]], init_from=path)
    assert model.networks.done() == {"pose", "motion", "source"}
    make_trainer(tmp_path).fit(model, datamodule=make_data())
    assert model.iteration == 9
    loaded = NLRD.load_from_checkpoint(path)
    assert loaded.networks.done() == {"pose", "motion", "source"}
    assert loaded.iteration == 7


def test_checkpoints_hold_plain_values_and_the_latest_is_the_best(whole):
    _, trainer, watch = whole
    content = torch.load(watch.folder / "best.ckpt", weights_only=True)
    assert content["nlrd"]["iteration"] == 16
    assert len(content["optimizer_states"]) == 3 + 1 + 1 + 1 + 2 + 5
    assert trainer.callback_metrics["val/iteration"] == 16


def test_distances_and_every_term_are_logged(whole):
    values = whole[1].callback_metrics
    assert values["train/pose_relation/flip_inplane_distance"] > 0
    assert values["train/motion_relations/slow_backward_distance"] > 0
    assert values["val/flip_inplane_distance"] > 0
    for name in ("lcr", "hcr", "flip_inplane", "flip_inplane_backward", "slow_backward", "z_std", "z_saturated"):
        assert f"train/adaptation/{name}" in values


def test_every_stage_is_judged_after_it_and_all_at_the_end(tmp_path):
    class Seen(Callback):
        def __init__(self):
            self.streams = []

        def on_validation_start(self, trainer, module):
            self.streams.append(module.evaluated_streams())

    seen, model = Seen(), make_model([dict(stage) for stage in CHAIN])
    trainer = make_trainer(tmp_path, callbacks=[seen])
    trainer.fit(model, datamodule=make_data(epoch_steps=5))
    # Pose and motion; source, pose_relation and half of the motion relations; all, as it is the end.
    motion, images = ("motion",), ("source", "test")
    assert seen.streams == [motion, motion + images, motion + images, motion + images]
    assert model.judged == 16
    names = {"flip_inplane_backward_mm", "slow_backward_mm", "pose_mm", "target_pa_mpjpe_gt17"}
    assert names <= {name.removeprefix("val/") for name in trainer.callback_metrics}
    found = {name: value for name, value in trainer.callback_metrics.items() if name.endswith("_mm")}
    (again,) = make_trainer(tmp_path).validate(model, make_data(), verbose=False)
    for name, value in found.items():
        if name.startswith("val/"):
            assert again[name] == pytest.approx(float(value), rel=1e-5), name


def test_a_stage_between_two_validations_is_judged(tmp_path):
    model = make_model([dict(stage) for stage in CHAIN])
    model.judged, model.iteration = 7, 12  # after the source stage; within the adaptation
    assert model.stages_to_judge() == {"pose_relation", "motion_relations", "adaptation"}
    model.judged = 11
    assert model.stages_to_judge() == {"adaptation"}
    model.judged, model.iteration = 3, 3  # resumed right at a stage's end
    assert model.stages_to_judge() == {"pose"}


def test_epochs_count_passes_over_a_stages_data(tmp_path):
    stages = [{"name": "pose", "steps": 1, "poses": 4}, {"name": "source", "epochs": 1.5, "lr": 1e-4}]
    model = make_model(stages)
    make_trainer(tmp_path).fit(model, datamodule=make_data())
    assert model.plan.steps == (1, 6)  # 32 pictures in batches of 8


def test_learning_rates_follow_the_stages_own_schedule(tmp_path):
    rates = []

    class Record(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            rates.append([o.param_groups[0]["lr"] for o in trainer.optimizers])

    stages = [{"name": "pose", "steps": 4, "poses": 4, "lr": 0.1, "schedule": "cosine"}, {"name": "motion", "steps": 2}]
    make_trainer(tmp_path, callbacks=[Record()]).fit(make_model(stages), datamodule=make_data())
    first = [row[0] for row in rates]
    assert first[0] == 0.1
    assert first[1] > first[2] > first[3]
    assert rates[-1][-1] == 1e-4


def test_each_stage_is_timed_even_where_it_is_shorter_than_the_benchmark():
    """A step too many would be one of the next stage, on this stage's batch."""
    module = make_model(CHAIN)
    rows = list(bench_config(module, make_data(), BenchOptions(repeats=4, device="cpu", batch_sizes=[2])))
    steps = [row for row in rows if row["what"] == "training step"]
    assert [row["phase"] for row in steps] == [stage["name"] for stage in CHAIN]
    assert all(row["ms"] > 0 and "note" not in row for row in steps)


@pytest.mark.parametrize("stream", ["motion", "source"])
def test_seed_everything_moves_the_order_of_samples(stream, monkeypatch):
    orders = []
    for seed in ("0", "1"):
        monkeypatch.setenv("PL_GLOBAL_SEED", seed)
        orders.append(make_data().step_batch(stream, 0, 0)["sample_id"].tolist())
    monkeypatch.delenv("PL_GLOBAL_SEED")
    assert make_data().step_batch(stream, 0, 0)["sample_id"].tolist() == orders[0]
    assert orders[0] != orders[1]


def test_the_norm_that_is_clipped_knows_no_loss_scale(tmp_path, monkeypatch):
    clip, norms = torch.nn.utils.clip_grad_norm_, {}
    for precision in ("32-true", "16-mixed"):
        seen = norms[precision] = []
        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *a, seen=seen: seen.append(float(clip(*a))))
        torch.manual_seed(0)
        model = make_model([{"name": "pose", "steps": 2, "poses": 8, "warmup_steps": 9, "clip": 20.0}])
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)  # what a GPU has in this precision, at a scale that fits
        plugins = [MixedPrecision("16-mixed", "cpu", scaler=scaler)] if precision == "16-mixed" else []
        make_trainer(tmp_path, limit_val_batches=0, plugins=plugins).fit(model, datamodule=make_data())
    assert len(norms["32-true"]) == 2 * 3  # encoder, decoder, critic
    assert norms["16-mixed"] == pytest.approx(norms["32-true"], rel=0.1)


def test_a_clipped_step_is_no_longer_than_the_limit(tmp_path):
    stages = [{"name": "pose", "steps": 1, "poses": 8, "clip": 1e-3}]
    model = make_model(stages)
    make_trainer(tmp_path, limit_val_batches=0).fit(model, datamodule=make_data())
    grads = [p.grad.flatten() for p in model.networks.pose_encoder.parameters()]
    assert torch.cat(grads).norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_resuming_needs_no_backbone_weights(tmp_path):
    stages = [{"name": "pose", "steps": 1, "poses": 4}, {"name": "source", "steps": 6, "lr": 1e-3}]
    file = tmp_path / "trunk.pt"
    torch.save(make_model(["source"]).networks.image.trunk.state_dict(), file)
    trainer = make_trainer(tmp_path, max_epochs=1, limit_val_batches=0)
    trainer.fit(make_model([dict(s) for s in stages], backbone_weights=str(file)), datamodule=make_data(epoch_steps=1))
    trainer.save_checkpoint(tmp_path / "early.ckpt")
    file.unlink()
    model = make_model([dict(s) for s in stages], backbone_weights=str(file))
    trainer = make_trainer(tmp_path, limit_val_batches=0)
    trainer.fit(model, datamodule=make_data(), ckpt_path=tmp_path / "early.ckpt", weights_only=True)
    assert model.iteration == 7


POSE = [{"name": "pose", "steps": 5, "poses": 8, "warmup_steps": 1}]


def test_epochs_cut_short_are_more_epochs(tmp_path, recwarn):
    model = make_model([dict(stage) for stage in POSE])
    trainer = make_trainer(tmp_path, limit_train_batches=2, limit_val_batches=0)
    trainer.fit(model, datamodule=make_data())
    assert (model.iteration, trainer.max_epochs) == (5, 3)
    assert not any("schedule" in str(warning.message) for warning in recwarn)


def test_a_schedule_that_the_trainer_cuts_off_is_said(tmp_path):
    model = make_model([dict(stage) for stage in POSE])
    with pytest.warns(UserWarning, match=r"schedule is not done: 4 of 5 iterations, in stage pose; trainer"):
        make_trainer(tmp_path, max_epochs=1, limit_val_batches=0).fit(model, datamodule=make_data())


@pytest.mark.parametrize(
    ("finder", "line"),
    [
        (LearningRateFinder, r"NLRD has one for each stage: set lr in model\.stages"),
        (BatchSizeFinder, "BatchSizeFinder comes after the schedule is planned"),
    ],
)
def test_nothing_is_searched_for_all_stages(tmp_path, finder, line):
    model = make_model([dict(stage) for stage in POSE])
    with pytest.raises(UserError, match=line):
        make_trainer(tmp_path, callbacks=[finder()]).fit(model, datamodule=make_data())


def test_no_batch_size_is_searched_for_all_loaders(tmp_path):
    model, trainer = make_model([dict(stage) for stage in POSE]), make_trainer(tmp_path)
    with pytest.raises(UserError, match="but NLRD has several: set batch_size in the parts of data"):
        Tuner(trainer).scale_batch_size(model, datamodule=make_data(), max_trials=1)


def test_overfit_batches_repeats_the_first_batches_of_a_stage(tmp_path):
    class Seen(Callback):
        def __init__(self):
            self.samples = []

        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            self.samples.append(batch["source"]["image"] if "source" in batch else None)

    seen = Seen()
    stages = [{"name": "pose", "steps": 1, "poses": 8}, {"name": "source", "steps": 6, "lr": 1e-3}]
    model = make_model(stages)
    make_trainer(tmp_path, overfit_batches=2, callbacks=[seen]).fit(model, datamodule=make_data())
    first, *later = seen.samples
    assert first is None
    assert len(later) == 6
    assert not torch.equal(later[0], later[1])
    assert all(torch.equal(batch, later[number % 2]) for number, batch in enumerate(later))
