from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, SequentialSampler

from posekit.cli.run import build_from_config
from posekit.data import ClipDataset, Mixture, MixturePart, SyntheticPeople, Track, Window
from posekit.data.datamodule import PoseDataModule
from posekit.errors import UserError
from posekit.skeletons import get_skeleton


class Clips(PoseDataModule):
    """Clips whose pictures tell the part and the sample."""

    def __init__(self, count, level, frames=3, skeleton="SPIN49", body=False, size=(16, 24), **kwargs):
        super().__init__(skeleton, **kwargs)
        self.count, self.level, self.frames, self.body, self.image_size = count, level, frames, body, size

    def make_dataset(self, split):
        joints = len(get_skeleton(self.skeleton))
        rows = np.arange(self.count * self.frames)
        points = np.concatenate([np.full((len(rows), joints, 2), 20.0), np.full((len(rows), joints, 1), 2)], -1)
        labels = (
            {"joints3d": np.ones((len(rows), joints, 3)), "body_pose": np.ones((len(rows), 24, 3))} if self.body else {}
        )
        track = Track(
            "toy", lambda row: np.full((48, 40, 3), self.level, np.uint8), rows, rows, rows, rows,
            np.tile([5.0, 5, 30, 40], (len(rows), 1)), np.ones(len(rows)), points, np.ones(len(rows), bool), **labels,
        )  # fmt: skip
        window = Window.chunk(self.frames)
        return ClipDataset([track], get_skeleton(self.skeleton), self.image_size, window, train=split == "train")

    def ground_truth(self, split):
        return [self.level]

    def extra(self):
        return self.level


class Crops(Dataset):
    def __init__(self, data, count):
        self.data, self.count = data, count

    def __len__(self):
        return self.count

    def __getitem__(self, key):
        epoch, index = key
        clip = self.data.dataset("train")[(epoch, index)]
        crop = {n: clip[n][0] for n in ("image", "keypoints", "visible", "affine", "box", "image_id")}
        crop |= {n: clip[n] for n in ("box_score", "sample_id")}
        return crop | ({"joints3d": clip["joints3d"][0]} if "joints3d" in clip else {})


class Images(Clips):
    """The same as crops."""

    def __init__(self, count, level, **kwargs):
        super().__init__(count, level, frames=1, **kwargs)

    def make_dataset(self, split):
        return Crops(Clips(self.count, self.level, 1, self.skeleton, self.body, self.image_size), self.count)


def parts(**modules):
    return {name: MixturePart(*(value if isinstance(value, tuple) else (value,))) for name, value in modules.items()}


def epoch_of(mixture, epoch=0):
    loader = mixture.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def picks_of(mixture, epoch=0):
    loader = mixture.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader.sampler)


def test_a_kind_that_does_not_train_needs_no_batch_size():
    mixture = Mixture(
        parts(a=(Clips(4, 2), 0.0)), parts(c=Images(8, 0)), clip_batch_size=0, image_batch_size=4, evaluate="a"
    )
    assert mixture.batch_sizes == {"images": 4}
    assert mixture.batch_size == 4


def test_a_batch_size_from_elsewhere_is_refused():
    mixture = Mixture(parts(a=Clips(4, 2), c=Images(8, 0)), clip_batch_size=1, image_batch_size=2)
    mixture.batch_size = 6  # as Lightning's search for one sets it
    with pytest.raises(
        UserError, match="batch_size was set to 6, but a batch is made of 1 clips: set clip_batch_size and image"
    ):
        mixture.loader("train")


def test_batches_have_clips_and_images():
    mixture = Mixture(
        parts(a=(Clips(12, 60, body=True), 3.0), b=(Clips(40, 120), 4.0)), parts(c=Images(30, 200)),
        clip_batch_size=7, image_batch_size=4, epoch=5,
    )  # fmt: skip
    batches = epoch_of(mixture)
    assert len(batches) == 5
    for batch in batches:
        assert set(batch) == {"clips", "images"}
        assert batch["clips"]["image"].shape == (7, 3, 3, 24, 16)
        assert batch["images"]["image"].shape == (4, 1, 3, 24, 16)
        assert batch["images"]["valid"].tolist() == [[True]] * 4
        levels = batch["clips"]["image"][:, 0, 0, 12, 8]
        assert int((levels < -0.5).sum()) == 3  # of part a in every batch
        weight = batch["clips"]["joints3d_weight"].sum((1, 2))
        assert torch.equal(weight > 0, levels < -0.5)
        assert torch.equal(batch["clips"]["body_weight"].sum(1) > 0, levels < -0.5)
        assert batch["clips"]["body_pose"].shape == (7, 3, 24, 3)
        assert "joints3d" not in batch["images"]
    assert set(batches[0]["clips"]) == {
        "image", "keypoints", "visible", "affine", "box", "box_score", "frame", "valid", "key", "image_id",
        "sample_id", "margin", "joints3d", "joints3d_weight", "body_pose", "body_weight",
    }  # fmt: skip


def test_images_with_3d_labels_get_weights():
    mixture = Mixture(None, parts(a=Images(4, 60, body=True), b=Images(4, 90)), image_batch_size=4, epoch=1)
    (batch,) = epoch_of(mixture)
    assert sorted(batch["images"]["joints3d_weight"].sum((1, 2)).tolist()) == [0, 0, 49, 49]


def test_ratios_hold_in_every_stretch():
    mixture = Mixture(
        parts(a=(Clips(50, 0), 1.0), b=(Clips(50, 0), 2.0), c=(Clips(50, 0), 7.0)), clip_batch_size=5, epoch=40
    )
    names = [pick.part for pick in picks_of(mixture)]
    for start in range(0, 200, 17):
        stretch = names[start : start + 50]
        for name, share in (("a", 0.1), ("b", 0.2), ("c", 0.7)):
            assert abs(stretch.count(name) - share * len(stretch)) <= 2


def test_nothing_comes_twice_before_all_came_once():
    mixture = Mixture(parts(a=Clips(10, 0), b=Clips(6, 0)), clip_batch_size=4, epoch=3)
    picks = [pick for epoch in range(5) for pick in picks_of(mixture, epoch)]
    for name, size in (("a", 10), ("b", 6)):
        own = [pick.key for pick in picks if pick.part == name]
        assert len(own) == 30
        for turn in range(30 // size):
            some = own[turn * size : (turn + 1) * size]
            assert sorted(some) == [(turn, index) for index in range(size)]
        assert [index for _, index in own[:size]] != [index for _, index in own[size : 2 * size]]


def test_order_depends_on_seed_and_epoch_alone():
    def make(**options):
        return Mixture(parts(a=Clips(10, 0), b=Clips(6, 0)), parts(c=Images(9, 0)), epoch=3, **options)

    assert picks_of(make(), 2) == picks_of(make(), 2)
    assert picks_of(make(), 2) != picks_of(make(), 3)
    assert picks_of(make(), 2) != picks_of(make(seed=1), 2)


def test_processes_share_one_order():
    class Trainer:
        world_size, global_rank = 2, 0

    def run(rank, world):
        mixture = Mixture(
            parts(a=Clips(40, 0), b=Clips(40, 0)), parts(c=Images(40, 0)), epoch=4,
            clip_batch_size=6 // world, image_batch_size=4 // world,
        )  # fmt: skip
        trainer = Trainer()
        trainer.world_size, trainer.global_rank = world, rank
        mixture.trainer = trainer
        return picks_of(mixture, 1)

    alone, first, second = run(0, 1), run(0, 2), run(1, 2)
    assert len(first) == len(second) == 20
    for step in range(4):
        whole = alone[step * 10 : step * 10 + 10]
        halves = [half[step * 5 : step * 5 + 5] for half in (first, second)]
        assert halves[0][:3] + halves[1][:3] == whole[:6]
        assert halves[0][3:] + halves[1][3:] == whole[6:]


def test_the_length_of_an_epoch():
    def steps(**options):
        mixture = Mixture(
            parts(a=(Clips(12, 0), 1.0), b=(Clips(40, 0), 3.0)), parts(c=Images(100, 0)), clip_batch_size=4, **options
        )
        assert len(mixture.train_dataloader()) == mixture.steps()
        return mixture.steps()

    assert steps() == 13
    assert steps(epoch=7) == 7
    assert steps(epoch="a") == 12  # one of its clips in every batch
    assert steps(epoch="b") == 13
    assert steps(epoch="c", image_batch_size=10) == 10
    assert Mixture(None, parts(c=Images(10, 0)), image_batch_size=4).steps() == 2


def test_a_run_goes_on_where_it_stopped():
    def make():
        return Mixture(parts(a=Clips(20, 0)), parts(c=Images(20, 0)), clip_batch_size=2, image_batch_size=2, epoch=6)

    whole = epoch_of(make(), 1)
    mixture = make()
    loader = mixture.train_dataloader()
    loader.sampler.set_epoch(1)
    batches = iter(loader)
    for _ in range(4):
        next(batches)
    resumed = make()
    resumed.load_state_dict(mixture.state_dict())
    rest = list(resumed.train_dataloader())
    assert len(rest) == 2
    for kind in ("clips", "images"):
        assert torch.equal(rest[0][kind]["sample_id"], whole[4][kind]["sample_id"])


def test_joints_are_mapped_by_name():
    mixture = Mixture(
        parts(a=Clips(4, 0, body=True)), parts(c=Images(4, 0, skeleton="COCO17")), image_batch_size=2, epoch=1
    )
    (batch,) = epoch_of(mixture)
    spin = get_skeleton("SPIN49")
    visible = batch["images"]["visible"][0, 0]
    assert visible[spin.index("left_wrist")] == 2
    assert visible[spin.index("head_top")] == 0
    assert int((visible > 0).sum()) == 17
    held = (Clips(4, 0, skeleton="LSP14"), 0.0)
    other = Mixture(parts(a=Clips(4, 0, body=True), held=held), evaluate="held", epoch=1, skeleton="LSP14")
    (batch,) = epoch_of(other)
    assert batch["clips"]["joints3d"].shape[-2:] == (14, 3)
    assert batch["clips"]["joints3d_weight"].min() == 1


def test_evaluation_is_one_parts():
    mixture = Mixture(
        parts(a=Clips(4, 1), held=(Clips(6, 2, val_batch_size=3), 0.0)), parts(c=Images(4, 3)), evaluate="held", epoch=1
    )
    mixture.setup("fit")
    assert len(mixture.dataset("val")) == 6
    assert [len(b["image"]) for b in mixture.val_dataloader()] == [3, 3]
    assert mixture.ground_truth("val") == [2]
    assert mixture.extra() == 2
    assert not hasattr(mixture, "frames_per_second")
    assert {pick.part for pick in picks_of(mixture)} == {"a", "c"}


def test_parts_as_a_notebook_writes_them():
    clips = Clips(4, 1)
    mixture = Mixture({"a": clips}, {"b": {"data": Images(4, 2), "ratio": 2}})
    assert mixture.parts["a"] == MixturePart(clips, 1.0)
    assert mixture.parts["b"].ratio == 2
    assert mixture.evaluated is clips
    assert len(epoch_of(mixture)) == 1


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Mixture(), "no part of clips or images has a ratio above 0"),
        (lambda: Mixture(parts(a=(Clips(4, 0), -1.0))), "the ratio of part a is -1.0"),
        (
            lambda: Mixture(parts(a=(Clips(4, 0), "2"))),
            "the ratio of part a is '2', but must be a number of at least 0",
        ),
        (lambda: Mixture([Clips(4, 0)]), "clips must be a dict of parts by name, not list"),
        (
            lambda: Mixture({"a": {"data": Clips(4, 0), "rate": 1}}),
            "unknown key in part a .*'rate'; known: data, ratio",
        ),
        (lambda: Mixture({"a": {"ratio": 1}}), "the data of part a must be a data module, not NoneType"),
        (lambda: Mixture({"a": MixturePart("ThreeDPW")}), "the data of part a must be a data module, not str"),
        (lambda: Mixture(images={"a": 3}), "part a must be a MixturePart or a data module, not int"),
        (lambda: Mixture(parts(a=Clips(4, 0)), parts(a=Images(4, 0))), "both have a part named a"),
        (lambda: Mixture(parts(abc=Clips(4, 0)), evaluate="abd"), "unknown part in evaluate of Mixture 'abd'.*abc"),
        (lambda: Mixture(parts(a=Clips(4, 0)), epoch="b"), "unknown part in epoch of Mixture 'b'"),
        (lambda: Mixture(parts(a=Clips(4, 0)), epoch=0), "epoch is 0, but must be at least 1 step"),
        (lambda: Mixture(parts(a=Clips(4, 0)), clip_batch_size=0), "clip_batch_size is 0"),
        (
            lambda: Mixture(parts(a=Clips(4, 0)), skeleton="LSP14"),
            "part a, which evaluation uses, has skeleton SPIN49, the mixture LSP14",
        ),
        (
            lambda: Mixture(parts(a=Clips(4, 0), b=Clips(4, 0, frames=2))).dataset("train"),
            "a gives 3 frames of 16 x 24 px, b 2 frames of 16 x 24 px",
        ),
        (
            lambda: Mixture(parts(a=Clips(4, 0)), parts(b=Images(4, 0, size=(8, 8)))).dataset("train"),
            r"image_size is \[16, 24\], but the parts of images give pictures of 8 x 8 px",
        ),
        (
            lambda: Mixture(None, parts(a=Clips(4, 0))).dataset("train"),
            "images are clips of one frame, but part a gives 3",
        ),
    ],
)
def test_bad_input(make, text):
    with pytest.raises(UserError, match=text):
        make()


CONFIG = """
model: {class_path: HDM, init_args: {backbone: small}}
data:
  class_path: Mixture
  init_args:
    images:
      easy:
        data: {class_path: COCOKeypoints, init_args: {root: ROOT, image_size: [48, 64]}}
      hard:
        data: {class_path: SyntheticPeople, init_args: {train_size: 4, difficulty: hard, image_size: [48, 64], seed: 1}}
        ratio: 3
    image_batch_size: 4
"""


def test_short_names_work_in_nested_configs(tmp_path, mini_coco):
    path = tmp_path / "mixture.yaml"
    config = CONFIG.replace("ROOT", str(mini_coco))
    path.write_text(config)
    model, data = build_from_config(["--config", str(path), "--data.seed", "5"])
    assert isinstance(data, Mixture)
    assert isinstance(data.parts["hard"].data, SyntheticPeople)
    assert data.parts["hard"].ratio == 3
    assert data.parts["hard"].data.seed == 1
    assert data.evaluated is data.parts["easy"].data
    assert (model.skeleton.name, model.image_size) == ("COCO17", (48, 64))
    path.write_text(config.replace("SyntheticPeople", "SyntheticPeopl"))
    with pytest.raises(UserError) as error:
        build_from_config(["--config", str(path)])
    assert "SyntheticPeopl" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_synthetic_and_real_crops_in_one_batch(tmp_path, mini_coco):
    path = tmp_path / "mixture.yaml"
    path.write_text(CONFIG.replace("ROOT", str(mini_coco)))
    _, data = build_from_config(["--config", str(path)])
    (batch,) = epoch_of(data)
    assert batch["images"]["image"].shape == (4, 1, 3, 64, 48)
    assert batch["images"]["joints3d"].shape == (4, 1, 17, 3)
    assert sorted(batch["images"]["joints3d_weight"].sum((1, 2)).tolist()) == [0, 17, 17, 17]


def test_overfit_batches_draws_the_same_samples_in_each_epoch():
    mixture = Mixture(parts(a=Clips(12, 1), b=Clips(5, 2)), parts(c=Images(8, 0)), clip_batch_size=2, epoch=3)
    mixture.trainer = SimpleNamespace(world_size=1, global_rank=0, overfit_batches=0)
    drawn = [picks_of(mixture, epoch) for epoch in range(2)]
    assert drawn[0] != drawn[1]
    mixture.trainer.overfit_batches = 1
    assert isinstance(mixture.train_dataloader().sampler, SequentialSampler)  # Lightning's own would know no parts
    assert picks_of(mixture, 0) == picks_of(mixture, 1) == drawn[0]
