"""Two processes train as one, and a strategy that cannot is refused."""

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.strategies import DDPStrategy

from posekit.errors import UserError
from posekit_nlrd.loaders import StepSampler
from tests.nlrd.conftest import CHAIN, make_data, make_model, make_trainer


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


class SameWeights(Callback):
    """Compares the processes' weights after each stage."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        total = torch.stack([p.detach().double().abs().sum() for p in module.parameters()])
        everyone = module.all_gather(total)
        assert torch.equal(everyone[0], everyone[1])


@pytest.mark.slow
def test_two_processes_run_the_whole_chain_alike(tmp_path):
    torch.manual_seed(0)
    model = make_model([dict(stage) for stage in CHAIN])
    strategy = DDPStrategy(find_unused_parameters=True, start_method="fork", process_group_backend="gloo")
    trainer = make_trainer(tmp_path, devices=2, strategy=strategy, callbacks=[SameWeights()])
    trainer.fit(model, datamodule=make_data())
    assert model.iteration in (0, 16)  # the parent process of a fork keeps its own copy
    assert trainer.state.finished


@pytest.mark.slow
def test_plain_ddp_is_refused(tmp_path):
    model = make_model([dict(stage) for stage in CHAIN])
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo")
    with pytest.raises(Exception, match="ddp_find_unused_parameters_true") as info:
        make_trainer(tmp_path, devices=2, strategy=strategy).fit(model, datamodule=make_data())
    assert UserError.__name__ in repr(info.value) or "find_unused" in str(info.value)
