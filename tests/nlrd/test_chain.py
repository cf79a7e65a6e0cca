"""Algorithm 1 as one run: stages in turn, freezing, resuming, and stages alone."""

from contextlib import suppress
from itertools import pairwise

import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from posekit_nlrd import NLRD
from tests.nlrd.conftest import make_data, make_model, make_trainer


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
    """Remembers all weights at the start of each stage and at the end."""

    def __init__(self):
        self.seen = {}

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.seen.setdefault(module.stage.name, groups(module))

    def on_train_end(self, trainer, module):
        self.seen["end"] = groups(module)


def test_one_run_trains_each_stage_and_freezes_the_others(chain, tmp_path):
    torch.manual_seed(0)
    model, watch = make_model(chain), Watch()
    make_trainer(tmp_path, callbacks=[watch]).fit(model, datamodule=make_data())
    names = [*watch.seen]
    assert names == [*(stage["name"] for stage in chain), "end"]
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
    assert model.networks.done() == set(expected)
    assert 0.09 < model.networks.unit.item() < 0.13  # the figures are drawn at 0.11 m a unit


class StopAt(Callback):
    """Ends a run in the middle of an epoch, as a crash does, and keeps its state."""

    def __init__(self, iteration, path):
        self.iteration, self.path = iteration, path

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if module.iteration == self.iteration:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def run(chain, tmp_path, callbacks=(), ckpt_path=None, **options):
    torch.manual_seed(0)
    model = make_model(chain)
    trainer = make_trainer(tmp_path, callbacks=list(callbacks), **options)
    trainer.fit(model, datamodule=make_data(), ckpt_path=ckpt_path, weights_only=True)
    return model, trainer


def test_resuming_in_the_middle_of_any_stage_is_exact(chain, tmp_path):
    whole, _ = run(chain, tmp_path)
    for iteration in (2, 13):  # within the pose stage and the adaptation; epochs have 4 steps
        path = tmp_path / f"{iteration}.ckpt"
        with suppress(KeyboardInterrupt, SystemExit):
            run(chain, tmp_path, [StopAt(iteration, path)])
        torch.manual_seed(1)  # whatever the process drew before must not matter
        resumed, _ = run(chain, tmp_path, ckpt_path=path)
        assert resumed.iteration == whole.iteration
        state, wanted = resumed.state_dict(), whole.state_dict()
        assert all(torch.equal(state[name], wanted[name]) for name in wanted), iteration


def test_stages_run_alone_from_an_earlier_runs_weights(chain, tmp_path):
    _, trainer = run(chain[:3], tmp_path)
    path = str(tmp_path / "source.ckpt")
    trainer.save_checkpoint(path)
    model = make_model(chain[3:], init_from=path)
    assert model.networks.done() == {"pose", "motion", "source"}
    make_trainer(tmp_path).fit(model, datamodule=make_data())
    assert model.iteration == 9
    loaded = NLRD.load_from_checkpoint(path)
    assert loaded.networks.done() == {"pose", "motion", "source"}
    assert loaded.iteration == 7


def test_checkpoints_hold_plain_values_and_the_latest_is_the_best(chain, tmp_path):
    keeper = ModelCheckpoint(tmp_path, monitor=NLRD.monitor, mode=NLRD.monitor_mode, filename="best")
    model, _ = run(chain, tmp_path, [keeper], enable_checkpointing=True)
    content = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert content["nlrd"]["iteration"] == 16
    assert len(content["optimizer_states"]) == 3 + 1 + 1 + 1 + 2 + 5
    assert model.trainer.callback_metrics["val/iteration"] == 16


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


def test_relation_stage_logs_how_far_relations_reach(chain, tmp_path):
    model, trainer = run(chain, tmp_path)
    values = trainer.callback_metrics
    assert values["train/pose_relation/flip_inplane_distance"] > 0
    assert values["train/motion_relations/slow_backward_distance"] > 0
    assert values["val/flip_inplane_distance"] > 0
    for name in ("lcr", "hcr", "flip_inplane", "flip_inplane_backward", "slow_backward", "z_std", "z_saturated"):
        assert f"train/adaptation/{name}" in values
    assert model.stage.name == "adaptation"
