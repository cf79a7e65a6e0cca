"""The order of training samples."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import Dataset, DistributedSampler

from posekit.data.datamodule import PoseDataModule
from posekit.errors import UserError
from tests.cli.toys import Toy, ToyData


class Numbers(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, key):
        return key[1]


class NumberData(PoseDataModule):
    def make_dataset(self, split):
        return Numbers()


def order(epoch=0, split="train", **options):
    loader = NumberData(batch_size=16, **options).loader(split)
    loader.sampler.set_epoch(epoch)
    return [int(number) for batch in loader for number in batch]


@pytest.fixture(autouse=True)
def run_seed(monkeypatch):
    def put(seed):
        monkeypatch.setenv("PL_GLOBAL_SEED", str(seed))

    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    return put


def test_order_follows_epoch_data_seed_and_run_seed(run_seed):
    plain = order()
    assert sorted(plain) == list(range(64))
    run_seed(0)
    assert order() == plain
    orders = [plain, order(epoch=1), order(seed=1)]
    run_seed(1)
    orders += [order(), order(epoch=1), order(seed=1)]
    assert len({tuple(numbers) for numbers in orders}) == 4  # the data's seed 1 shifts the epochs by one
    assert order() == orders[3]


def test_evaluation_keeps_the_order(run_seed):
    run_seed(5)
    assert order(split="val", epoch=3) == list(range(64))


def test_an_epoch_cut_short_does_not_move_the_next():
    loader = NumberData(batch_size=16).loader("train")
    cut = {"batches": 2, "epoch": 0}  # limit_train_batches ended it there
    loader.load_state_dict(cut)
    loader.sampler.set_epoch(1)
    assert [int(number) for batch in loader for number in batch] == order(epoch=1)
    loader.load_state_dict(cut)
    loader.sampler.set_epoch(0)
    assert [int(number) for batch in loader for number in batch] == order()[32:]


def test_processes_share_predictions_and_repeat_none(monkeypatch):
    data = NumberData(batch_size=7)
    shares = []
    for rank in range(3):
        data.trainer = SimpleNamespace(world_size=3, global_rank=rank)
        loader = data.loader("predict")
        shares.append([int(number) for batch in loader for number in batch])
        assert sum(1 for _ in loader) == len(loader)
    assert sorted(number for share in shares for number in share) == list(range(64))
    data.trainer = SimpleNamespace(world_size=100, global_rank=99)  # nobody stays without a batch
    assert len(data.loader("predict")) == 1


@pytest.mark.parametrize(("world", "batch_size"), [(2, 3), (3, 7), (3, 21), (3, 22), (5, 64), (7, 2), (60, 8)])
def test_processes_share_evaluations_in_as_many_batches_and_repeat_none(world, batch_size):
    data, shares = NumberData(batch_size=batch_size), []
    for rank in range(world):
        data.trainer = SimpleNamespace(world_size=world, global_rank=rank)
        loader = data.loader("val")
        assert isinstance(loader.sampler, DistributedSampler)  # else Lightning would share its batches once more
        shares.append([batch.tolist() for batch in loader])
        assert len(loader) == len(shares[0]) == len(shares[-1])
        assert all(0 < len(batch) <= batch_size for batch in shares[-1])
    assert sorted(number for share in shares for batch in share for number in batch) == list(range(64))


@pytest.mark.parametrize(("world", "batch_size", "batches"), [(3, 1, 22), (100, 4, 1)])
def test_a_share_too_small_for_the_batches_repeats_a_sample(world, batch_size, batches):
    data, given = NumberData(batch_size=batch_size), []
    for rank in range(world):
        data.trainer = SimpleNamespace(world_size=world, global_rank=rank)
        own = [batch.tolist() for batch in data.loader("test")]
        assert len(own) == batches
        given += own
    assert {number for batch in given for number in batch} == set(range(64))


class Watch(Callback):
    """Remembers the training batches, and keeps the state after the fourth step."""

    def __init__(self, path):
        self.batches, self.path = [], path

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.batches.append(batch["image"])

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == 4 and not self.path.exists():
            trainer.save_checkpoint(self.path)


def overfitted(folder, epochs=3, path=None):
    """Fits the toy to the first three of its four batches."""
    torch.manual_seed(0)
    model, watch = Toy(schedule="constant"), Watch(folder / "four.ckpt")
    trainer = Trainer(
        accelerator="cpu", max_epochs=epochs, overfit_batches=3, callbacks=[watch], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, ToyData(batch_size=4), ckpt_path=path, weights_only=None if path is None else True)
    return model, watch.batches, trainer


def test_overfit_batches_repeats_the_same_samples_and_resumes_exactly(tmp_path, recwarn):
    model, batches, trainer = overfitted(tmp_path)
    assert len(batches) == 9
    assert all(torch.equal(batch, batches[number % 3]) for number, batch in enumerate(batches))
    assert torch.cat(batches[:3])[:, 2].tolist() == [index / 16 for index in range(12)]
    assert "val/loss" in trainer.callback_metrics  # on its first batches, of keys as well
    assert not any("shuffling" in str(warning.message) for warning in recwarn)
    resumed, rest, _ = overfitted(tmp_path, path=tmp_path / "four.ckpt")
    assert len(rest) == 5
    assert torch.equal(resumed.net.weight, model.net.weight)


def test_overfit_batches_of_processes_share_and_repeat():
    data, shares = NumberData(batch_size=16), []
    for rank in range(2):
        data.trainer = SimpleNamespace(world_size=2, global_rank=rank, overfit_batches=1)
        loader = data.loader("train")
        passes = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            passes.append([int(number) for batch in loader for number in batch])
        assert passes[0] == passes[1]
        shares += passes[0]
    assert sorted(shares) == list(range(64))


def test_overfit_batches_needs_the_data_module():
    data = ToyData()
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, overfit_batches=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"overfit_batches.*datamodule=data"):
        trainer.fit(Toy(schedule="constant"), data.train_dataloader())


def test_without_a_stage_fit_is_set_up():
    for arguments in ((), (None,), ("fit",)):
        data = NumberData()
        data.setup(*arguments)
        assert set(data._datasets) == {"train", "val"}
    with pytest.raises(UserError, match="unknown stage 'fitt'; known: fit, predict, test, validate"):
        NumberData().setup("fitt")
