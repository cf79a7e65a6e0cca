"""Two processes train as one, and a strategy that cannot is refused."""

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.strategies import DDPStrategy

from posekit.errors import UserError
from posekit_nlrd import ranks
from posekit_nlrd.augment import Draws
from posekit_nlrd.loaders import StepSampler
from posekit_nlrd.ranks import float_buffers, share
from posekit_nlrd.stages import Tools
from posekit_nlrd.stages.pose import AUTOENCODER, CRITIC, WARMUP, Turn
from tests.nlrd.conftest import CHAIN, make_data, make_model, make_trainer
from tests.nlrd.figures import wave


def test_processes_share_a_step_without_overlap():
    whole = iter(StepSampler(10, 4, (0, 1)))
    parts = [iter(StepSampler(10, 2, (0, 1), world=2, rank=rank)) for rank in range(2)]
    for _ in range(7):
        assert next(whole) == next(parts[0]) + next(parts[1])


def test_a_sampler_begins_anywhere_and_covers_each_pass():
    whole = iter(StepSampler(10, 4, (3, 1)))
    batches = [next(whole) for _ in range(10)]
    late = iter(StepSampler(10, 4, (3, 1), step=6))
    assert next(late) == batches[6]
    first = sorted(index for batch in batches for epoch, index in batch if epoch == 0)
    assert first == list(range(10))
    assert batches[0] != next(iter(StepSampler(10, 4, (4, 1))))


class FakeGroup:
    """Two processes, of which the other one always holds the same numbers."""

    def __init__(self, other):
        self.other = other

    def is_available(self):
        return True

    is_initialized = is_available

    def get_world_size(self):
        return 2

    def all_reduce(self, values):
        values += torch.full_like(values, self.other)


def test_tensors_become_the_processes_mean_in_one_exchange(monkeypatch):
    running, scale = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor(5.0)
    share([running, scale])  # one process: nothing happens
    assert scale == 5
    monkeypatch.setattr(ranks, "dist", FakeGroup(1.0))
    share([running, scale])
    assert running.tolist() == [[1.0, 1.5], [2.0, 2.5]]
    assert scale == 3


def test_the_buffers_shared_are_the_running_statistics():
    image = make_model(["source"]).networks.image
    norms = [module for module in image.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    found = {x.data_ptr() for x in float_buffers(image)}
    assert found == {x.data_ptr() for norm in norms for x in (norm.running_mean, norm.running_var)}


def test_the_turn_follows_the_mean_of_all_processes(monkeypatch):
    """Accuracies by which one process alone would go on to the auto-encoder."""
    stage = make_model([{"name": "pose", "steps": 9, "poses": 4, "fake_accuracy": 0.0, "real_accuracy": 0.0}]).stages[0]
    stage.turn = Turn(CRITIC, 1)
    monkeypatch.setattr(ranks, "dist", FakeGroup(-9.0))
    batch = {"motion": {"joints3d": torch.stack([wave(i) for i in range(2)])}}
    optimizers = stage.make_optimizers()
    stage.enter()
    for step in range(2):
        tools = Tools(optimizers, lambda loss: loss.backward(), Draws(torch.device("cpu"), step), step)
        stage.step(batch, tools)
    assert stage.turn.phase == CRITIC
    assert max(stage.turn.last[1:]) <= -4  # the mean of a share and of -9


class SameState(Callback):
    """Compares the processes' weights, buffers and turns after each step."""

    PHASES = (WARMUP, CRITIC, AUTOENCODER)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        turn = module.stages[0].turn.phase
        numbers = [x.detach().double().abs().sum() for x in module.state_dict().values()]
        everyone = module.all_gather(torch.stack([*numbers, torch.tensor(self.PHASES.index(turn)).double()]))
        assert torch.equal(everyone[0], everyone[1]), f"after step {module.iteration}"


@pytest.mark.slow
def test_two_processes_run_the_whole_chain_alike(tmp_path):
    torch.manual_seed(0)
    model = make_model([dict(stage) for stage in CHAIN])
    strategy = DDPStrategy(find_unused_parameters=True, start_method="fork", process_group_backend="gloo")
    trainer = make_trainer(tmp_path, devices=2, strategy=strategy, callbacks=[SameState()])
    trainer.fit(model, datamodule=make_data())
    assert model.iteration in (0, 16)  # the parent process of a fork keeps its own copy
    assert trainer.state.finished


@pytest.mark.slow
def test_two_processes_change_turns_and_statistics_together(tmp_path):
    """Few poses and a lax rule: each process by itself would change its turn at other steps than the other."""
    torch.manual_seed(0)
    rule = {"warmup_steps": 2, "cap": 50, "fake_accuracy": 0.5, "real_accuracy": 0.5, "fooled": 0.5}
    stages = [
        {"name": "pose", "steps": 24, "poses": 2, "lr": 1e-3, **rule},
        {"name": "source", "steps": 3, "lr": 1e-3},
        {"name": "adaptation", "steps": 3, "terms": ["lcr"], "statistics_steps": 2, "frames": 4},
    ]
    strategy = DDPStrategy(find_unused_parameters=True, start_method="fork", process_group_backend="gloo")
    trainer = make_trainer(tmp_path, devices=2, strategy=strategy, callbacks=[SameState()], limit_val_batches=0)
    trainer.fit(make_model(stages), datamodule=make_data(epoch_steps=30))
    assert trainer.state.finished


@pytest.mark.slow
def test_plain_ddp_is_refused(tmp_path):
    model = make_model([dict(stage) for stage in CHAIN])
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo")
    with pytest.raises(Exception, match="ddp_find_unused_parameters_true") as info:
        make_trainer(tmp_path, devices=2, strategy=strategy).fit(model, datamodule=make_data())
    assert UserError.__name__ in repr(info.value) or "find_unused" in str(info.value)
