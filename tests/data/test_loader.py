"""The order of training samples."""

from types import SimpleNamespace

import pytest
from torch.utils.data import Dataset, DistributedSampler

from posekit.data.datamodule import PoseDataModule


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
