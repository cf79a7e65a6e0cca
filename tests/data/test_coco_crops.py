import json
import pickle

import cv2
import numpy as np
import pytest
import torch

from posekit.data import COCOKeypoints, PersonAugmentation
from posekit.data.transforms import denormalize_image
from posekit.errors import UserError
from posekit.geometry import uncrop_points
from posekit.skeletons import COCO17
from tests.shared import SHARED, requires_shared


def assert_contract(batch, size, joints=17):
    width, height = size
    rows = len(batch["image"])
    expected = {
        "image": ((3, height, width), torch.float32),
        "keypoints": ((joints, 2), torch.float32),
        "visible": ((joints,), torch.int64),
        "affine": ((2, 3), torch.float32),
        "box": ((4,), torch.float32),
        "box_score": ((), torch.float32),
        "image_id": ((), torch.int64),
        "sample_id": ((), torch.int64),
    }
    assert set(batch) == set(expected)
    for name, (shape, dtype) in expected.items():
        assert batch[name].shape == (rows, *shape), name
        assert batch[name].dtype == dtype, name
    assert batch["image"].min() > -2.2
    assert batch["image"].max() < 2.7
    assert set(batch["visible"].unique().tolist()) <= {0, 1, 2}
    seen = batch["keypoints"][batch["visible"] > 0]
    assert (seen >= 0).all()
    assert (seen <= torch.tensor([width - 1, height - 1])).all()


def samples(module, split):
    dataset = module.dataset(split)
    return [dataset[(0, index)] for index in range(len(dataset))]


@pytest.mark.parametrize("split", ["train", "val"])
def test_batches_keep_the_contract(coco, split):
    module = coco.module()
    module.setup("fit")
    for batch in module.loader(split):
        assert_contract(batch, (96, 128))
    assert module.collate() is None
    assert module.image_size == (96, 128)


def test_crops_lead_back_to_the_annotated_joints(coco):
    content = json.loads(coco.file().read_text())
    by_id = {a["id"]: np.array(a["keypoints"]).reshape(17, 3) for a in content["annotations"]}
    module = coco.module(augmentation=PersonAugmentation(scale=0.2))
    for epoch in range(10):
        for index in range(3):
            sample = module.dataset("train")[(epoch, index)]
            joints = by_id[int(sample["sample_id"])]
            mirrored = torch.linalg.det(sample["affine"][:, :2]) < 0
            order = list(COCO17.flip_index) if mirrored else list(range(17))
            back = uncrop_points(sample["keypoints"][None], sample["affine"][None])[0].numpy()
            seen = sample["visible"].numpy() > 0
            assert np.abs(back - joints[order, :2])[seen].max() < 1e-3
            assert np.array_equal(sample["visible"].numpy()[seen], joints[order, 2][seen])


def test_augmentation_depends_on_seed_epoch_and_index_alone(coco):
    def first_epochs(**options):
        module = coco.module(batch_size=3, **options)
        module.setup("fit")
        loader = module.train_dataloader()
        found = {}
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            for batch in loader:
                rows = zip(batch["affine"], batch["image"], strict=True)
                found |= {(epoch, int(i)): row for i, row in zip(batch["sample_id"], rows, strict=True)}
        return found

    one, many = first_epochs(num_workers=0), first_epochs(num_workers=2)
    assert one.keys() == many.keys()
    assert all(torch.equal(a, b) for key in one for a, b in zip(one[key], many[key], strict=True))
    assert not torch.equal(one[0, 1][0], one[1, 1][0])
    assert not torch.equal(one[0, 1][0], first_epochs(seed=1)[0, 1][0])


def test_evaluation_and_unaugmented_training_are_still(coco):
    module = coco.module(augment=False)
    for split in ("train", "val"):
        a, b = module.dataset(split)[(0, 0)], module.dataset(split)[(7, 0)]
        assert torch.equal(a["image"], b["image"])
    assert torch.equal(module.dataset("val")[0]["image"], module.dataset("val")[(0, 0)]["image"])
    with pytest.raises(IndexError):
        module.dataset("val")[3]


def test_ground_truth_is_the_whole_file(coco):
    module = coco.module()
    targets = module.ground_truth("val")
    assert [t["image_id"] for t in targets] == [0, 1, 2]
    assert [len(t["area"]) for t in targets] == [2, 2, 2]
    assert targets[0]["iscrowd"].tolist() == [False, True]
    assert targets[0]["keypoints"].dtype == torch.float64
    assert targets[0]["num_keypoints"].tolist() == [17, 0]
    assert len(module.ground_truth("test")) == len(module.ground_truth("predict")) == 3


def test_limit_and_validation_on_training_people(coco):
    places = {"val_annotations": "annotations/person_keypoints_train2017.json", "val_images": "train2017"}
    module = coco.module(limit=2, augment=False, **places)
    train, val = samples(module, "train"), samples(module, "val")
    assert [int(s["sample_id"]) for s in train] == [int(s["sample_id"]) for s in val] == [1, 3]
    assert torch.equal(train[0]["image"], val[0]["image"])
    assert [t["image_id"] for t in module.ground_truth("val")] == [0, 1]


def test_limited_ground_truth_has_nobody_that_is_not_predicted(coco):
    def change(content):
        content["annotations"].append(content["annotations"][0] | {"id": 50})

    coco.edit(change, "val")
    module = coco.module(limit=1)
    (target,) = module.ground_truth("val")
    assert (target["num_keypoints"] > 0).sum() == 1
    assert len(module.dataset("val")) == 1


def test_named_places(coco):
    (coco.root / "val2017").rename(coco.root / "pictures")
    coco.file("val").rename(coco.root / "people.json")
    module = coco.module(val_annotations="people.json", val_images="pictures")
    module.setup("validate")
    assert len(module.dataset("val")) == len(module.dataset("test")) == 3
    files = {"test_annotations": "annotations/person_keypoints_train2017.json", "test_images": "train2017"}
    module = coco.module(val_annotations="people.json", val_images="pictures", **files)
    module.setup("test")
    assert module.files["test"].images.name == module.files["predict"].images.name == "train2017"
    assert len(module.dataset("predict")) == len(module.dataset("test"))
    assert list(module.frames.values()) == module.people("test").file_names


def write_detections(coco, entries):
    (coco.root / "boxes.json").write_text(json.dumps(entries))


def test_detections_of_data_whose_people_have_another_category(coco):
    def renumber(content):
        for entry in content["annotations"]:
            entry["category_id"] = 0
        content["categories"][0]["id"] = 0

    coco.edit(renumber, "val")
    write_detections(coco, [box(0, category=0), box(1, category=1)])
    module = coco.module(detections="boxes.json")
    assert [int(s["image_id"]) for s in samples(module, "val")] == [0]
    assert module.people_category == 0  # of results


def box(image_id=0, score=0.9, bbox=(50, 30, 120, 200), category=1):
    return {"image_id": image_id, "category_id": category, "bbox": list(bbox), "score": score}


def test_detections(coco, caplog):
    entries = [box(2.0, 0.5), box(0, 0.9), box(0, 0.1), box(1, 0.9, category=3), box(777)]
    write_detections(coco, entries)
    module = coco.module(detections="boxes.json", detection_threshold=0.3)
    found = samples(module, "val")
    assert [int(s["image_id"]) for s in found] == [0, 2]
    assert [int(s["sample_id"]) for s in found] == [1, 0]
    assert [float(s["box_score"]) for s in found] == pytest.approx([0.9, 0.5])
    assert all((s["visible"] == 0).all() for s in found)
    assert "left out 1 boxes" in caplog.text
    assert len(module.ground_truth("val")) == 3
    assert len(module.dataset("train")) == 3  # training keeps the annotated boxes
    assert_contract(next(iter(module.val_dataloader())), (96, 128))
    assert len(samples(coco.module(detections="boxes.json", limit=1), "test")) == 1


def test_detections_are_looked_for_under_root_and_here(coco, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "boxes.json").write_text(json.dumps([box(0)]))
    assert [int(s["image_id"]) for s in samples(coco.module(detections="boxes.json"), "val")] == [0]
    write_detections(coco, [box(1)])  # those that stand with the data come first
    assert [int(s["image_id"]) for s in samples(coco.module(detections="boxes.json"), "val")] == [1]
    with pytest.raises(UserError, match=r"none\.json of split val does not exist \(looked for under root, and under"):
        coco.module(detections="none.json").setup("validate")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"a": 1}, "holds a dict, not a list"),
        ([], "no person box of score 0 or more"),
        ([box(score=float("nan"))], "box number 0 has no finite score"),
        ([box(), box(bbox=(1, 2, 0, 4))], "box number 1 has a box of zero size"),
        ([box(), {"bbox": [1, 2, 3, 4], "score": 1.0}], "box number 1 has no integer image_id"),
        ([7], "box number 0 is no object"),
        ([box(image_id=1.5)], "box number 0 has no integer image_id"),
        ([box(category=3), box(category=0)], r"no box of a person: 2 boxes are of category_id 0, 3, people's is 1"),
    ],
)
def test_faulty_detections(coco, entries, message):
    write_detections(coco, entries)
    with pytest.raises(UserError, match=message):
        coco.module(detections="boxes.json").setup("validate")


def test_missing_places_are_named_before_anything_is_read(coco, tmp_path):
    with pytest.raises(UserError, match=r"data root .*nowhere does not exist .*cocodataset.org"):
        COCOKeypoints(str(tmp_path / "nowhere")).prepare_data()
    with pytest.raises(UserError, match=r"detections file .*no.json of split val does not exist"):
        coco.module(detections="no.json").setup("fit")
    coco.file("val").unlink()
    with pytest.raises(UserError, match=r"annotation file .*val2017.json of split val does not exist"):
        coco.module().setup("fit")
    with pytest.raises(UserError, match=r"image folder .*elsewhere of split train does not exist"):
        coco.module(train_images="elsewhere").setup("fit")
    with pytest.raises(UserError, match="does not exist"):
        coco.module().dataset("val")


def test_nobody_with_keypoints(coco):
    coco.edit(lambda c: c.__setitem__("annotations", []))
    with pytest.raises(UserError, match=r"no person with keypoints \(3 images, 0 annotations\)"):
        coco.module().setup("fit")


def test_no_annotation_has_keypoints(coco):
    coco.edit(lambda c: [a.pop("keypoints") for a in c["annotations"]])
    with pytest.raises(UserError, match=r"no person with keypoints \(3 images, 6 annotations\)"):
        coco.module().setup("fit")


def break_absent(path):
    path.unlink()


def break_empty(path):
    path.write_bytes(b"")


def break_short(path):
    path.write_bytes(path.read_bytes()[:2000])


def break_text(path):
    path.write_text("no picture")


BREAKS = {
    "does not exist": break_absent,
    "is empty": break_empty,
    "is cut short": break_short,
    "no picture": break_text,
}


@pytest.mark.parametrize("reason", BREAKS)
def test_broken_images_are_refused_or_left_out(coco, caplog, reason):
    for split in ("train", "val"):
        BREAKS[reason](coco.image(1, split))
    with pytest.raises(UserError, match=f"1 of 3 images of split train are absent or broken: .*{reason}") as error:
        coco.module().setup("fit")
    assert str(coco.image(1)) in str(error.value)
    module = coco.module(on_broken_image="skip")
    module.setup("fit")
    assert caplog.text.count("left out 1 of 3 images") == 2
    assert [int(s["image_id"]) for s in samples(module, "train")] == [0, 2]
    assert [t["image_id"] for t in module.ground_truth("val")] == [0, 2]
    scenes = coco.module(view="scenes", on_broken_image="skip")
    assert [int(s["image_id"]) for s in samples(scenes, "val")] == [0, 2]
    assert [t["image_id"] for t in scenes.ground_truth("val")] == [0, 2]


def test_all_images_broken(coco):
    for number in range(3):
        coco.image(number).unlink()
    for policy in ("error", "skip"):
        with pytest.raises(UserError, match="3 of 3 images"):
            coco.module(on_broken_image=policy).dataset("train")


def test_damage_that_shows_only_when_decoding(coco, caplog):
    path = coco.image(0)
    path.write_bytes(path.read_bytes()[:30] + b"\0" * 500 + b"\xff\xd9")
    with pytest.raises(UserError, match=r"000000000000\.jpg"):
        samples(coco.module(), "train")
    blank = samples(coco.module(on_broken_image="skip"), "train")[0]
    assert (blank["visible"] == 0).all()
    assert blank["box_score"] == 0
    assert int(blank["sample_id"]) == 1
    assert "skipped: image" in caplog.text
    batch = torch.utils.data.default_collate([blank, samples(coco.module(on_broken_image="skip"), "train")[1]])
    assert_contract(batch, (96, 128))
    (coco.root / "val2017" / path.name).write_bytes(path.read_bytes())
    assert len(coco.module(on_broken_image="skip").ground_truth("val")) == 2


def test_images_of_another_size_than_annotated(coco):
    coco.edit(lambda c: c["images"][0].__setitem__("width", 640), "val")
    with pytest.raises(UserError, match="is 320 x 240 px, the annotations say 640 x 240"):
        samples(coco.module(), "val")
    assert len(coco.module(on_broken_image="skip").ground_truth("val")) == 2


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_images_of_another_size_are_found_at_the_start(coco, suffix):
    picture = cv2.imread(str(coco.image(1)))
    cv2.imwrite(str(coco.image(1).with_suffix(suffix)), picture[:200])
    coco.edit(lambda c: c["images"][1].__setitem__("file_name", coco.image(1).with_suffix(suffix).name))
    said = rf"1 of 3 images of split train .*{suffix} is 320 x 200 px, the annotations say 320 x 240. --data.on_brok"
    for view in ("crops", "scenes"):
        with pytest.raises(UserError, match=said):
            coco.module(view=view).setup("fit")
        assert len(coco.module(view=view, on_broken_image="skip").dataset("train")) == 2
    assert len(coco.module(verify_images=False).dataset("train")) == 3


def test_images_need_not_be_verified(coco):
    break_empty(coco.image(0))
    module = coco.module(verify_images=False)
    assert len(module.dataset("train")) == 3
    break_absent(coco.image(1))
    with pytest.raises(UserError, match=r"1 of 3 .*does not exist"):
        coco.module(verify_images=False).dataset("train")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"view": "clips"}, "unknown view 'clips'"),
        ({"limit": 0}, "limit is 0"),
        ({"box_scale": -1.0}, "box_scale is -1"),
        ({"image_size": (4, 4)}, "image_size"),
        ({"on_broken_image": "ignore"}, "on_broken_image"),
        ({"view": "scenes", "detections": "x.json"}, "view is 'scenes'"),
        ({"view": "scenes", "scene_fit": "short_side"}, "val_batch_size 1"),
    ],
)
def test_wrong_options(coco, options, message):
    with pytest.raises(UserError, match=message):
        coco.module(**options)


def test_data_sets_travel_to_other_processes(coco):
    dataset = coco.module().dataset("val")
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(dataset[0]["image"], again[0]["image"])


@requires_shared
def test_real_photos():
    module = COCOKeypoints(str(SHARED / "data/coco_mini"), batch_size=9)
    module.setup("fit")
    assert (len(module.dataset("train")), len(module.dataset("val"))) == (27, 16)
    assert len(module.ground_truth("val")) == 25
    assert sum(len(t["area"]) for t in module.ground_truth("val")) == 44
    assert_contract(next(iter(module.train_dataloader())), (192, 256))
    sample = module.dataset("val")[0]
    assert denormalize_image(sample["image"]).std() > 10


@requires_shared
def test_official_detections_on_real_photos():
    places = {"val_annotations": "test_coco.json", "val_images": ".", "detections": "test_coco_det_AP_H_56.json"}
    module = COCOKeypoints(str(SHARED / "data/samples/coco"), detection_threshold=0.5, **places)
    module.setup("validate")
    assert len(module.dataset("val")) == 18
    assert_contract(next(iter(module.val_dataloader())), (192, 256))
