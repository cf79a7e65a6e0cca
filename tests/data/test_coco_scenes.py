import json

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from posekit.data import COCOKeypoints, SceneAugmentation
from posekit.data.batch import SceneBatch
from posekit.data.collate import collate_scenes
from posekit.data.scenes import ignore_mask, scene_affine
from posekit.errors import UserError
from posekit.geometry import uncrop_points
from posekit.geometry.affine import apply_affine
from posekit.skeletons import COCO17
from tests.shared import SHARED, requires_shared


def assert_contract(batch, size):
    width, height = size
    count = len(batch["image"])
    assert set(batch) == SceneBatch.__required_keys__
    assert batch["image"].shape == (count, 3, height, width)
    assert batch["mask"].shape == (count, height, width)
    assert batch["mask"].dtype == torch.bool
    assert batch["affine"].shape == (count, 2, 3)
    assert batch["image_id"].shape == batch["sample_id"].shape == (count,)
    assert batch["image_id"].dtype == torch.int64
    for row in range(count):
        n = len(batch["area"][row])
        assert batch["keypoints"][row].shape == (n, 17, 2)
        assert batch["visible"][row].shape == (n, 17)
        assert batch["boxes"][row].shape == (n, 4)
        seen = batch["keypoints"][row][batch["visible"][row] > 0]
        assert ((seen >= 0) & (seen <= torch.tensor([width - 1, height - 1]))).all()
        assert (batch["area"][row] > 0).all()


@pytest.mark.parametrize("split", ["train", "val"])
def test_batches_keep_the_contract(coco, split):
    module = coco.module(view="scenes", image_size=(160, 128))
    module.setup("fit")
    for batch in module.loader(split):
        assert_contract(batch, (160, 128))


def test_masks_leave_out_crowds_unlabelled_people_and_padding(coco):
    module = coco.module(view="scenes", image_size=(160, 160))
    dataset = module.dataset("val")
    # Image 0's crowd covers nothing (an empty run length): only the padding above and below is masked.
    crowd, unlabelled = dataset[0]["mask"], dataset[1]["mask"]
    assert crowd[40:120].all()
    assert not crowd[:19].any()
    assert not crowd[-19:].any()
    # Image 1's unlabelled person is the polygon 50..170 x 30..230; the picture is halved and moved down by 20 px.
    inside = apply_affine(np.array([[60.0, 40.0], [160.0, 220.0]]), dataset[1]["affine"].numpy()).astype(int)
    assert not unlabelled[inside[0, 1] : inside[1, 1], inside[0, 0] : inside[1, 0]].any()
    assert unlabelled[40:130, 95:159].all()


def run_length(region):
    flat = region.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], changes, [len(flat)]]))
    return [0, *counts.tolist()] if flat[0] else counts.tolist()


@pytest.mark.parametrize("form", ["run lengths", "string", "polygon", "none", "broken", "other size"])
def test_crowd_regions_in_every_form(coco, form):
    region = np.zeros((240, 320), bool)
    region[30:230, 50:170] = True
    counts = run_length(region)
    if form == "string":
        from pycocotools import mask as coco_mask

        code = coco_mask.encode(np.asfortranarray(region.astype(np.uint8)))
        segmentation = {"size": [240, 320], "counts": code["counts"].decode()}
    else:
        segmentation = {
            "run lengths": {"size": [240, 320], "counts": counts},
            "polygon": [[50, 30, 170, 30, 170, 230, 50, 230]],
            "none": [],
            "broken": {"size": [240, 320], "counts": counts[:-1]},
            "other size": {"size": [24, 32], "counts": [24 * 32]},
        }[form]
    coco.edit(lambda c: c["annotations"][1].__setitem__("segmentation", segmentation), "val")
    sample = coco.module(view="scenes", image_size=(320, 240)).dataset("val")[0]
    assert torch.equal(sample["affine"], torch.eye(2, 3))
    assert (sample["mask"].numpy() != region).mean() > 0.99


def test_scenes_lead_back_to_the_annotated_joints(coco):
    content = json.loads(coco.file().read_text())
    joints = np.array(content["annotations"][0]["keypoints"]).reshape(17, 3)
    dataset = coco.module(view="scenes", image_size=(160, 160)).dataset("train")
    flips = 0
    for epoch in range(12):
        sample = dataset[(epoch, 0)]
        if not len(sample["area"]):
            continue
        mirrored = bool(torch.linalg.det(sample["affine"][:, :2]) < 0)
        flips += mirrored
        order = list(COCO17.flip_index) if mirrored else list(range(17))
        back = uncrop_points(sample["keypoints"], sample["affine"][None])[0].numpy()
        seen = sample["visible"][0].numpy() > 0
        assert np.abs(back - joints[order, :2])[seen].max() < 1e-3
        zoom = float(torch.linalg.det(sample["affine"][:, :2]).abs())
        assert float(sample["area"][0]) == pytest.approx(12000 * zoom, rel=1e-4)
    assert 0 < flips < 12


def test_recipe_of_random_views():
    augmentation = SceneAugmentation(flip=0, shift=0)
    for seed in range(200):
        affine, _ = augmentation.affine(np.random.default_rng(seed), (640, 480), (512, 512))
        side = 511 / np.sqrt(np.linalg.det(affine[:, :2]))
        assert 0.75 * 479 <= side <= 1.5 * 479
        assert abs(np.rad2deg(np.arctan2(affine[0, 1], affine[0, 0]))) <= 30
        assert np.allclose(apply_affine(np.array([[319.5, 239.5]]), affine), 255.5)
    shifted, _ = SceneAugmentation(flip=0).affine(np.random.default_rng(0), (640, 480), (512, 512))
    assert np.abs(apply_affine(np.array([[319.5, 239.5]]), shifted) - 255.5).max() <= 40
    with pytest.raises(UserError, match="scale"):
        SceneAugmentation(scale=(1.5, 0.75))


def test_fits():
    affine, size = scene_affine((640, 480), (512, 512))
    assert size == (512, 512)
    corners = apply_affine(np.array([[0.0, 0.0], [639.0, 479.0]]), affine)
    assert np.allclose(corners[:, 0], [0, 511])
    assert np.allclose(corners.mean(0), 255.5)
    _, size = scene_affine((640, 480), (512, 512), "short_side")
    assert size == (704, 512)
    _, size = scene_affine((480, 640), (500, 512), "short_side")
    assert size == (512, 704)


def test_images_of_free_size_come_one_by_one(coco):
    module = coco.module(view="scenes", image_size=(128, 128), scene_fit="short_side", val_batch_size=1)
    module.setup("validate")
    for batch in module.val_dataloader():
        assert_contract(batch, (192, 128))


def test_images_without_people(coco):
    coco.edit(lambda c: c.__setitem__("annotations", c["annotations"][:2]))
    coco.edit(lambda c: c.__setitem__("annotations", c["annotations"][:2]), "val")
    module = coco.module(view="scenes")
    assert len(module.dataset("train")) == 1
    assert len(module.dataset("val")) == 3
    empty = module.dataset("val")[2]
    assert empty["keypoints"].shape == (0, 17, 2)
    assert [len(t["area"]) for t in module.ground_truth("val")] == [2, 0, 0]
    assert_contract(collate_scenes([empty, module.dataset("val")[0]]), (96, 128))


COUNTS = coco_mask.encode(np.asfortranarray(np.pad(np.ones((20, 30), np.uint8), 10)))["counts"].decode()


@pytest.mark.parametrize(
    "segmentation",
    [
        [[float("nan")] * 8],
        [[float("inf")] * 8],
        [[1e9, 0, 1e9, 1e9, 0, 1e9]],
        [[10**30, 0, 1, 1, 0, 1]],
        [["1", 2, 3, 4, 5, 6]],
        {"size": [40, 50], "counts": ""},
        {"size": [40, 50], "counts": COUNTS[: len(COUNTS) // 2]},
        {"size": [40, 50], "counts": COUNTS + "1"},
        {"size": [40, 50], "counts": "!!!!"},
        {"size": [40, 50], "counts": "o" * 100},
        {"size": [40, 50], "counts": "P" * 40},
        {"size": [40, 50], "counts": [-5, 2005]},
        {"size": [40, 50], "counts": [0.5, 1999.5]},
        {"size": [40, 50], "counts": [10**30]},
        {"size": [40, 50], "counts": 7},
    ],
)
def test_a_crowds_faulty_segmentation_gives_way_to_its_box(coco, segmentation):
    people = coco.module().people("train")
    people.segmentations[0], people.boxes[0] = segmentation, [10, 10, 5, 5]
    mask = ignore_mask(people, [0], (50, 40))
    assert (mask == 0).sum() == 25
    assert not mask[10:15, 10:15].any()


def test_segmentations_of_any_form_are_drawn(coco):
    expected = np.full((40, 50), 255)
    expected[10:30, 10:40] = 0
    people = coco.module().people("train")
    runs = [10 * 40 + 10, *[20, 20] * 29, 20, 10 * 40 + 10]
    polygon = [[10, 10, 40, 10, 40, 30, 10, 30]]
    for segmentation in ({"size": [40, 50], "counts": COUNTS}, {"size": [40, 50], "counts": runs}, polygon):
        people.segmentations[0] = segmentation
        assert np.array_equal(ignore_mask(people, [0], (50, 40)), expected)


def test_limit_counts_people(coco):
    module = coco.module(view="scenes", limit=2)
    assert len(module.dataset("train")) == len(module.ground_truth("val")) == 2


def test_damaged_image_gives_a_sample_that_no_loss_counts(coco):
    path = coco.image(0)
    path.write_bytes(path.read_bytes()[:30] + b"\0" * 500 + b"\xff\xd9")
    blank = coco.module(view="scenes", on_broken_image="skip").dataset("train")[0]
    assert not blank["mask"].any()
    assert blank["boxes"].shape == (0, 4)
    with pytest.raises(UserError, match=r"000000000000\.jpg"):
        coco.module(view="scenes").dataset("train")[0]


def test_collation_refuses_mixed_samples(coco):
    sample = coco.module(view="scenes").dataset("val")[0]
    with pytest.raises(ValueError, match="different fields"):
        collate_scenes([sample, sample | {"extra": 1}])


@requires_shared
def test_real_photos_with_crowds():
    module = COCOKeypoints(str(SHARED / "data/coco_mini"), view="scenes", image_size=(256, 256), batch_size=5)
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    assert_contract(batch, (256, 256))
    assert len(module.dataset("val")) == 25
    crowds = [t["image_id"] for t in module.ground_truth("train") if t["iscrowd"].any()]
    assert len(crowds) == 3
