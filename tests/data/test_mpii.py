import json
import shutil

import cv2
import lightning
import numpy as np
import pytest
import scipy.io
import torch

from posekit.callbacks.best import BestCheckpoint
from posekit.data import MPII, PersonAugmentation
from posekit.data.mpii_file import mat_split
from posekit.errors import UserError
from posekit.geometry import uncrop_points
from posekit.metrics import PCKh
from posekit.metrics.mpii_files import evaluate_mpii
from posekit.skeletons import MPII16
from posekit_hdm import HDM
from tests.data.test_coco_crops import assert_contract, samples
from tests.shared import SHARED, requires_shared

SHORT = ["rank", "rkne", "rhip", "lhip", "lkne", "lank", "pelv", "thor", "neck", "head", "rwri", "relb", "rsho",
         "lsho", "lelb", "lwri"]  # fmt: skip
RELEASE = "mpii_human_pose_v1_u12_1.mat"


def person(rng, image):
    """A row of HRNet's JSON: pixels from 1."""
    seen = np.ones(16, int)
    seen[[0, 5]] = 0
    joints = np.where(seen[:, None] > 0, np.round(rng.uniform((60, 60), (180, 170), (16, 2)), 2), -1.0)
    return {
        "image": image,
        "joints": joints.tolist(),
        "joints_vis": seen.tolist(),
        "center": [120.0, 110.0],
        "scale": round(float(rng.uniform(0.8, 0.9)), 6),
    }


def head_of(row):
    return [row["center"][0] - 10, row["center"][1] - 60, row["center"][0] + 20, row["center"][1] - 20]


def gt_of(rows):
    joints = np.array([r["joints"] for r in rows])
    heads = np.array([head_of(r) for r in rows]).reshape(-1, 2, 2)
    return {
        "headboxes_src": heads.transpose(1, 2, 0),
        "jnt_missing": 1 - np.array([r["joints_vis"] for r in rows]).T,
        "pos_gt_src": joints.transpose(1, 2, 0),
        "dataset_joints": np.array(SHORT, dtype=object)[None],
    }


def rect_of(row):
    """An annorect of the official .mat: joint 3 hidden, no is_visible for the head."""
    points = [
        {"id": k, "x": x, "y": y, "is_visible": np.zeros((0, 0)) if k in (8, 9) else int(k != 3)}
        for k, (x, y) in enumerate(row["joints"])
        if row["joints_vis"][k]
    ]
    x, y = row["center"]
    head = dict(zip(("x1", "y1", "x2", "y2"), head_of(row), strict=True))
    return head | {"annopoints": {"point": points}, "scale": row["scale"], "objpos": {"x": x, "y": y}}


def structs(rows):
    """A MATLAB struct array."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    array = np.empty((1, len(rows)), dtype=[(name, object) for name in names])
    for k, row in enumerate(rows):
        array[0, k] = tuple(row.get(name, np.zeros((0, 0))) for name in names)
    return array


def prepared(value):
    if isinstance(value, list):
        return structs([prepared(v) for v in value]) if value else np.zeros((0, 0))
    return {k: prepared(v) for k, v in value.items()} if isinstance(value, dict) else value


def save_release(path, pictures, training=None):
    """Writes the official file of ``{picture: [annorect]}``."""
    annolist = [{"image": {"name": name}, "annorect": rects} for name, rects in pictures.items()]
    training = [1] * len(annolist) if training is None else training
    release = {"annolist": prepared(annolist), "img_train": np.array([training], dtype=np.uint8), "version": "12"}
    scipy.io.savemat(path, {"RELEASE": release})


class Folder:
    """Six pictures, two people in the first; the same people as HRNet's JSON files."""

    def __init__(self, root):
        self.root = root
        rng = np.random.default_rng(1)
        (root / "annot").mkdir()
        (root / "images").mkdir()
        self.names = [f"{k:09d}.jpg" for k in (11, 12, 13, 14, 15, 26)]
        self.rows = [person(rng, name) for name in (self.names[0], *self.names)]
        for name in self.names:
            picture = cv2.resize(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8), (240, 220))
            cv2.imwrite(str(root / "images" / name), picture)
        for split in ("train", "valid"):
            self.write(self.rows, split)

    def file(self, split="train"):
        return self.root / "annot" / f"{split}.json"

    def write(self, content, split="train"):
        self.file(split).write_text(json.dumps(content))

    def edit(self, row=1, **fields):
        self.write([r | fields if k == row else r for k, r in enumerate(self.rows)])

    def use_mat(self, change=lambda pictures: None, name=RELEASE, **options):
        for split in ("train", "valid"):
            self.file(split).unlink(missing_ok=True)
        return self.write_mat(change, name, **options)

    def write_mat(self, change=lambda pictures: None, name=RELEASE, **options):
        pictures = {name: [rect_of(r) for r in self.rows if r["image"] == name] for name in self.names}
        change(pictures)
        save_release(self.root / name, pictures, **options)
        return self.root / name

    def write_gt(self, name="annot/gt_valid.mat", **changes):
        content = gt_of(self.rows) | changes
        scipy.io.savemat(self.root / name, {k: v for k, v in content.items() if v is not None})

    def module(self, **options):
        return MPII(str(self.root), **{"image_size": (96, 96), "batch_size": 2, **options})


@pytest.fixture
def mpii(tmp_path):
    (tmp_path / "mpii").mkdir()
    return Folder(tmp_path / "mpii")


# -- samples ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val"])
def test_batches_keep_the_contract(mpii, split):
    module = mpii.module()
    module.setup("fit")
    for batch in module.loader(split):
        assert_contract(batch, (96, 96), joints=16)
    assert len(module.dataset(split)) == 7
    assert module.collate() is None


def test_centre_scale_and_pixels_are_those_of_hrnet(mpii):
    module = mpii.module(image_size=(256, 256))
    for row, sample in zip(mpii.rows, samples(module, "val"), strict=True):
        c, s = np.array(row["center"]), row["scale"]
        c[1] += 15 * s  # as HRNet's mpii.py does it, in its order
        s = s * 1.25
        c = c - 1
        back = uncrop_points(torch.tensor([[[0.0, 0.0], [255.0, 255.0]]]), sample["affine"][None])[0].numpy()
        assert np.allclose(back, [c - 100 * s, c + 100 * s], atol=1e-3)
        assert np.allclose(sample["box"], [*(c - 80 * s), 160 * s, 160 * s], atol=1e-3)
        points = uncrop_points(sample["keypoints"][None], sample["affine"][None])[0].numpy()
        seen = np.array(row["joints_vis"]) > 0
        assert np.allclose(points[seen], np.array(row["joints"])[seen] - 1, atol=1e-3)
        assert (sample["visible"].numpy() == 2 * seen).all()
        assert sample["keypoints"][~torch.tensor(seen)].eq(0).all()


def test_sample_ids_are_rows_and_pictures_are_shared(mpii):
    found = samples(mpii.module(), "val")
    assert [int(s["sample_id"]) for s in found] == list(range(7))
    assert [int(s["image_id"]) for s in found] == [0, 0, 1, 2, 3, 4, 5]
    assert all(float(s["box_score"]) == 1 for s in found)


def test_joints_outside_the_crop_are_not_visible(mpii):
    joints = np.array(mpii.rows[1]["joints"])
    joints[2] = [2000.0, 5.0]
    mpii.edit(joints=joints.tolist())
    sample = mpii.module(augment=False).dataset("train")[1]
    assert sample["visible"].tolist() == [0, 2, 0, 2, 2, 0] + [2] * 10


def test_augmentation_moves_joints_along_and_swaps_sides(mpii):
    module, flips = mpii.module(), set()
    for epoch in range(12):
        sample = module.dataset("train")[(epoch, 3)]
        mirrored = bool(torch.linalg.det(sample["affine"][:, :2]) < 0)
        order = list(MPII16.flip_index) if mirrored else list(range(16))
        back = uncrop_points(sample["keypoints"][None], sample["affine"][None])[0].numpy()
        seen = sample["visible"].numpy() > 0
        assert seen.any()
        assert np.abs(back - (np.array(mpii.rows[3]["joints"])[order] - 1))[seen].max() < 1e-3
        flips.add(mirrored)
    assert flips == {True, False}
    assert set(MPII16.flip_pairs) == {(0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)}


def test_options_of_augmentation(mpii):
    recipe = mpii.module().augmentation
    assert (recipe.rotation, recipe.scale, recipe.flip, recipe.half_body) == (30, 0.25, 0.5, 0)
    assert mpii.module(augment=False).augmentation is None
    own = PersonAugmentation(flip=1)
    assert mpii.module(augmentation=own).augmentation is own
    still = mpii.module(augment=False)
    assert torch.equal(still.dataset("train")[(0, 1)]["image"], still.dataset("train")[(5, 1)]["image"])


def test_linked_values():
    assert MPII.linked_values({"image_size": (384, 384)}) == {"skeleton": "MPII16", "image_size": (384, 384)}
    assert MPII.linked_values({}) == {"skeleton": "MPII16", "image_size": (256, 256)}
    assert MPII().image_size == (256, 256)
    assert MPII().skeleton == "MPII16"


def test_limit_cuts_the_ground_truth(mpii):
    module = mpii.module(limit=1)
    assert len(module.dataset("val")) == 1
    targets = module.ground_truth("val")
    assert [len(t["area"]) for t in targets] == [1]


def test_files_of_other_names(mpii):
    mpii.file("valid").rename(mpii.root / "mine.json")
    (mpii.root / "images").rename(mpii.root / "pictures")
    module = mpii.module(train_annotations="mine.json", val_annotations="mine.json", images="pictures")
    module.setup("fit")
    assert len(module.dataset("train")) == 7


@requires_shared
def test_real_pictures():
    root = SHARED / "data/samples/mpii"
    module = MPII(
        str(root), train_annotations="test_mpii.json", val_annotations="test_mpii.json", images=".", batch_size=5
    )
    module.setup("fit")
    rows = json.loads((root / "test_mpii.json").read_text())
    (batch,) = module.val_dataloader()
    assert_contract(batch, (256, 256), joints=16)
    points = uncrop_points(batch["keypoints"], batch["affine"]).numpy()
    labels = np.array([r["joints_vis"] for r in rows])
    seen = batch["visible"].numpy() > 0
    assert (seen <= (labels > 0)).all()
    assert seen.sum() >= 0.95 * labels.sum()
    assert np.abs(points - (np.array([r["joints"] for r in rows]) - 1))[seen].max() < 1e-2
    assert all(np.isnan(v) for v in module.head_sizes("val").values())


# -- the official .mat ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [RELEASE, f"annot/{RELEASE}"])
def test_official_mat_holds_the_same_people(mpii, name):
    by_json = mpii.module().people("val")
    mpii.use_mat(name=name)
    module = mpii.module()
    parts = [module.people(split) for split in ("train", "val")]
    assert all(len(p.ids) for p in parts)
    assert set(parts[0].file_names).isdisjoint(parts[1].file_names)
    assert sorted(np.concatenate([p.ids for p in parts]).tolist()) == list(range(7))
    for part, split in zip(parts, ("train", "val"), strict=True):
        assert all(mat_split(name) == split for name in part.file_names)
        expected = by_json.keypoints[part.ids].copy()
        assert np.allclose(part.keypoints[..., :2], expected[..., :2])
        expected[:, 3, 2] = 1  # hidden
        assert np.array_equal(part.keypoints[..., 2], expected[..., 2])
        assert np.allclose(part.boxes, by_json.boxes[part.ids])
        ids = torch.from_numpy(part.ids)
        heads = np.array([head_of(mpii.rows[i]) for i in part.ids]) - 1
        assert np.allclose(module.head_targets(split, ids).head_boxes, heads)
    module.setup("fit")
    assert len(samples(module, "train")) + len(samples(module, "val")) == 7


def test_official_mat_is_not_taken_beside_json(mpii):
    mpii.write_mat()
    assert mpii.module().files["train"].annotations == mpii.file()
    assert mpii.module(train_annotations=RELEASE).files["val"].annotations == mpii.root / RELEASE
    assert mpii.module(val_annotations=RELEASE).files["train"].annotations == mpii.root / RELEASE
    with pytest.raises(UserError, match=r"must both be JSON or both the official \.mat"):
        mpii.module(train_annotations=RELEASE, val_annotations="annot/valid.json")
    mpii.file("valid").unlink()
    with pytest.raises(UserError, match=r"valid\.json of split val does not exist"):
        mpii.module().setup("fit")


def test_people_of_the_mat_without_joints_place_or_head(mpii, caplog):
    def change(pictures):
        bare, nowhere, _, test = mpii.names[:4]
        pictures[bare][0].pop("annopoints")
        pictures[nowhere][0].pop("objpos")
        for corner in ("x1", "y1", "x2", "y2"):
            pictures[mpii.names[4]][0].pop(corner)
        pictures[test] = []

    mpii.use_mat(change, training=[1, 1, 1, 1, 1, 1])
    module = mpii.module()
    everybody = np.concatenate([module.people("train").ids, module.people("val").ids])
    assert sorted(everybody.tolist()) == [0, 2, 3, 4]  # rows among the people with joints; 1 has no place
    assert "left out 1 of 5 people, who have no centre or scale" in caplog.text
    sizes = module.head_sizes("train") | module.head_sizes("val")
    assert sorted(i for i, size in sizes.items() if np.isnan(size)) == [3]


def test_test_pictures_of_the_mat_are_not_used(mpii):
    mpii.use_mat(training=[0, 1, 1, 1, 1, 1])
    module = mpii.module()
    assert mpii.names[0] not in module.people("train").file_names + module.people("val").file_names


# -- evaluation -------------------------------------------------------------------------------------------------------


def test_ground_truth_has_areas(mpii):
    module = mpii.module()
    targets = module.ground_truth("val")
    assert [len(t["area"]) for t in targets] == [2, 1, 1, 1, 1, 1]
    side = 200 * mpii.rows[2]["scale"]
    assert targets[1]["area"].tolist() == pytest.approx([0.53 * side**2])
    assert targets[1]["num_keypoints"].tolist() == [14]
    assert targets[1]["keypoints"].shape == (1, 16, 3)
    assert len(module.ground_truth("test")) == 6


@pytest.mark.parametrize("source", ["gt", "named", "official"])
def test_head_boxes_beside_json(mpii, source):
    if source == "official":
        mpii.write_mat()
    else:
        mpii.write_gt("annot/gt_valid.mat" if source == "gt" else "boxes.mat")
    module = mpii.module(val_head_boxes="boxes.mat" if source == "named" else None)
    module.setup("validate")
    assert module.head_sizes("val") == pytest.approx(dict.fromkeys(range(7), 0.6 * 50))
    ids = torch.tensor([4, 1])
    targets = module.head_targets("val", ids)
    for place, row in enumerate(ids.tolist()):
        assert targets.head_boxes[place].tolist() == pytest.approx([v - 1 for v in head_of(mpii.rows[row])])
        seen = torch.tensor(mpii.rows[row]["joints_vis"]) > 0
        assert torch.equal(targets.weight[place] > 0, seen)
        expected = torch.tensor(mpii.rows[row]["joints"], dtype=torch.float64) - 1
        assert torch.allclose(targets.joints[place][seen], expected[seen])


def test_pckh_equals_hrnet_evaluation(mpii):
    """Against the published rule, written out on pixels from 1."""
    missing = gt_of(mpii.rows)["jnt_missing"]
    missing[4, 2] = 1  # the evaluation's file has the last word
    mpii.write_gt(jnt_missing=missing)
    module, rng = mpii.module(), np.random.default_rng(5)
    gt = gt_of(mpii.rows)
    pred = gt["pos_gt_src"].transpose(2, 0, 1) + rng.normal(0, 12, (7, 16, 2))
    sizes = 0.6 * np.linalg.norm(gt["headboxes_src"][1] - gt["headboxes_src"][0], axis=0)
    error = np.linalg.norm(pred.transpose(1, 2, 0) - gt["pos_gt_src"], axis=1) / sizes
    kept, visible = [k for k in range(16) if k not in (6, 7)], 1 - missing
    expected = 100 * ((error <= 0.5) * visible)[kept].sum() / visible[kept].sum()
    metric = PCKh()
    for rows in ([0, 1, 2, 3], [4, 5, 6], [6, 0]):  # the last ones come twice
        ids = torch.tensor(rows)
        metric.update(torch.from_numpy(pred[rows] - 1), *module.head_targets("val", ids), ids)
    assert float(metric.compute()["PCKh"]) == pytest.approx(expected)
    assert 20 < expected < 95


def test_people_without_head_box_do_not_count(mpii, caplog):
    module = mpii.module()
    module.setup("validate")
    assert "so PCKh is NaN" in caplog.text
    targets = module.head_targets("val", torch.tensor([0, 3]))
    assert targets.weight.sum() == 0
    metric = PCKh()
    metric.update(targets.joints, *targets, torch.tensor([0, 3]))
    assert torch.isnan(metric.compute()["PCKh"])


def test_validation_and_the_command_leave_out_the_same_people(mpii, caplog, tmp_path):
    boxes = gt_of(mpii.rows)["headboxes_src"].astype(float)
    boxes[:, :, 0], boxes[0, 0, 3] = 5, np.nan
    mpii.write_gt(headboxes_src=boxes)
    module = mpii.module()
    module.setup("validate")
    text = "2 of 7 people have no head box of any size and do not count in PCKh"
    assert f"gt_valid.mat: {text}" in caplog.text
    pred = np.random.default_rng(0).normal(0, 12, (7, 16, 2)) + gt_of(mpii.rows)["pos_gt_src"].transpose(2, 0, 1)
    scipy.io.savemat(tmp_path / "pred.mat", {"preds": pred})
    with pytest.warns(UserWarning, match=text):
        found = evaluate_mpii(mpii.root / "annot/gt_valid.mat", tmp_path / "pred.mat").values
    ids = torch.arange(7)
    metric = PCKh()
    metric.update(torch.from_numpy(pred - 1), *module.head_targets("val", ids), ids)
    assert found["PCKh"] == pytest.approx(float(metric.compute()["PCKh"]))


def test_the_best_state_is_chosen_by_pckh_where_there_are_head_boxes(mpii, tmp_path):
    method = HDM(backbone="small", skeleton="MPII16", image_size=[96, 96], flip_test=False)
    assert method.monitor_for(mpii.module()) == "val/AP"
    mpii.write_gt()
    module = mpii.module(batch_size=8)
    assert method.monitor_for(module) == "val/PCKh"
    best = BestCheckpoint(method.monitor, method.monitor_mode)
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=1, callbacks=[best], logger=False, default_root_dir=tmp_path,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(method, datamodule=module)
    assert best.monitor == "val/PCKh"
    assert best.best_model_score == trainer.callback_metrics["val/PCKh"]
    assert "val/PCKh" in best.state_key
    asked = HDM(backbone="small", skeleton="MPII16", image_size=[96, 96], monitor="val/AP")
    assert asked.monitor_for(module) == "val/AP"
    assert HDM(backbone="small").monitor_for(module) == "val/AP"  # other joints than MPII's have no PCKh


# -- bad input --------------------------------------------------------------------------------------------------------


def refusal(module, stage="fit"):
    with pytest.raises(UserError) as caught:
        module.setup(stage)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_missing_places_name_the_source(mpii, tmp_path):
    assert "http://human-pose.mpi-inf.mpg.de" in refusal(MPII(str(tmp_path / "nowhere")))
    shutil.rmtree(mpii.root / "images")
    text = refusal(mpii.module())
    assert f"image folder {mpii.root / 'images'} of split train does not exist" in text
    assert "http://human-pose.mpi-inf.mpg.de" in text
    mpii.file().unlink()
    assert f"annotation file {mpii.file()} of split train does not exist" in refusal(mpii.module())
    (mpii.root / "images").mkdir()
    mpii.write(mpii.rows)
    assert "does not exist" in refusal(mpii.module(val_head_boxes="gone.mat", verify_images=False))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"joints": [[1.0, 2.0]] * 15}, "person 1 has 15 entries in joints, expected 16"),
        ({"joints": None}, "person 1 has no list joints, expected 16"),
        ({"joints_vis": [1] * 17}, "person 1 has 17 entries in joints_vis, expected 16"),
        ({"joints_vis": [3] * 16}, "person 1 has a joints_vis entry other than 0 or 1"),
        ({"joints": [[float("nan"), 2.0]] * 16}, "person 1 has joints that are not pairs of finite numbers"),
        ({"joints": [[1.0, 2.0, 3.0]] * 16}, "person 1 has joints that are not pairs of finite numbers"),
        ({"center": [float("nan"), 1.0]}, "person 1 has a center that is not two finite numbers: [nan, 1.0]"),
        ({"center": None}, "person 1 has a center that is not two finite numbers: None"),
        ({"scale": 0.0}, "person 1 has a scale of 0, but it must be positive"),
        ({"scale": -2}, "person 1 has a scale of -2, but it must be positive"),
        ({"scale": float("inf")}, "person 1 has a scale that is no finite number: inf"),
        ({"scale": "big"}, "person 1 has a scale that is no finite number: 'big'"),
        ({"image": None}, "person 1 has no image name"),
        ({"image": "../a.jpg"}, "person 1 has an image name that leads out of the image folder: '../a.jpg'"),
    ],
)
def test_faulty_people_are_named_or_skipped(mpii, fields, message, caplog):
    mpii.edit(**fields)
    text = refusal(mpii.module())
    assert str(mpii.file()) in text
    assert message in text
    assert text.endswith("on_bad_annotation=skip leaves them out.")
    module = mpii.module(on_bad_annotation="skip", augment=False)
    assert [int(s["sample_id"]) for s in samples(module, "train")] == [0, 2, 3, 4, 5, 6]
    assert message in caplog.text


def test_people_without_a_place_are_left_out(mpii, caplog):
    mpii.edit(center=[-1.0, -1.0], scale=-1.0)
    assert len(mpii.module().dataset("train")) == 6
    assert "left out 1 of 7 people, who have no centre or scale" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": []}, "is no MPII file: it holds a dict, not a list of people"),
        ([], "has no person with labelled joints (0 people)"),
        ([4], "person 0 is no object"),
    ],
)
def test_files_of_other_kinds(mpii, content, message):
    mpii.write(content)
    assert message in refusal(mpii.module())


def test_truncated_json(mpii):
    mpii.file().write_text(mpii.file().read_text()[:200])
    assert "truncated or no JSON" in refusal(mpii.module())


def test_broken_mat(mpii):
    path = mpii.use_mat()
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no mat file at all " * 20):
        path.write_bytes(content)
        assert f"annotation file {path} is truncated or no .mat file" in refusal(mpii.module())
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    assert "version 7.3" in refusal(mpii.module())
    scipy.io.savemat(path, {"other": 1})
    assert "has no variable RELEASE" in refusal(mpii.module())
    scipy.io.savemat(path, {"RELEASE": {"annolist": np.zeros((0, 0)), "img_train": [1]}})
    assert "is no MPII file" in refusal(mpii.module())


@pytest.mark.parametrize("kind", ["release", "heads"])
def test_mutated_mat_files(mpii, kind):
    if kind == "release":
        path = mpii.use_mat()
    else:
        mpii.write_gt()
        path = mpii.root / "annot/gt_valid.mat"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(150):
        content = bytearray(whole[: rng.integers(len(whole))] if trial % 10 == 0 else whole)
        for _ in range(int(rng.integers(1, 6))):
            if content:
                content[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(bytes(content))
        try:
            module = mpii.module(verify_images=False)
            module.people("val")
            module.head_sizes("val")
        except UserError as error:
            refused += 1
            assert "\n" not in str(error), error  # noqa: PT017
    assert 10 < refused < 150


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["annopoints"]["point"][0].update(id=16), "has a joint with id 16.0, expected 0 to 15"),
        (lambda r: r["annopoints"]["point"][0].update(x=np.nan), "has a joint 1 that is not two finite numbers"),
        (lambda r: r.update(scale=0.0), "has a scale of 0, but it must be positive"),
        (lambda r: r.update(scale=np.nan), "has a scale or objpos that is not finite"),
    ],
)
def test_faulty_people_of_the_mat(mpii, change, message):
    mpii.use_mat(lambda pictures: change(pictures[mpii.names[0]][1]))
    text = refusal(mpii.module())
    assert f"person 1 of image {mpii.names[0]} {message}" in text
    module = mpii.module(on_bad_annotation="skip")
    assert 1 not in [*module.people("train").ids, *module.people("val").ids]


def test_one_picture_in_the_mat(mpii):
    name = next(n for n in mpii.names if mat_split(n) == "train")
    mpii.names = [name]
    mpii.use_mat()
    assert len(mpii.module().people("train").file_names) == 1
    assert "has no person of split val with labelled joints" in refusal(mpii.module())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"headboxes_src": np.ones((2, 2, 5))},
            "headboxes_src is float64 of shape (2, 2, 5), expected numbers of shape",
        ),
        ({"jnt_missing": None}, "has no variable jnt_missing"),
        ({"jnt_missing": np.full((16, 7), 2)}, "jnt_missing of person [0] holds 2, not 0 or 1"),
        ({"jnt_missing": np.full((16, 7), np.nan)}, "jnt_missing of person [0] holds nan, not 0 or 1"),
        ({"pos_gt_src": np.full((16, 2, 7), np.nan)}, "pos_gt_src holds labelled joints that are not finite numbers"),
        ({"pos_gt_src": np.ones((16, 2, 7))}, "belongs to other people"),
        ({"dataset_joints": np.array(SHORT[::-1], dtype=object)[None]}, "dataset_joints are lwri lelb lsho"),
    ],
)
def test_faulty_head_boxes(mpii, changes, message):
    mpii.write_gt(**changes)
    text = refusal(mpii.module())
    assert str(mpii.root / "annot/gt_valid.mat") in text
    assert message in text


def test_broken_pictures(mpii, caplog):
    (mpii.root / "images" / mpii.names[1]).unlink()
    assert "1 of 6 images of split train are absent or broken" in refusal(mpii.module())
    module = mpii.module(on_broken_image="skip")
    module.setup("fit")
    assert [len(module.dataset(split)) for split in ("train", "val")] == [6, 6]
    assert len(module.ground_truth("val")) == 5
    assert mpii.names[1] in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "limit is 0"),
        ({"box_scale": 0}, "box_scale is 0"),
        ({"image_size": (8, 8)}, "image_size is"),
        ({"on_broken_image": "ignore"}, "on_broken_image of MPII"),
        ({"on_bad_annotation": "ignore"}, "on_bad_annotation of MPII"),
    ],
)
def test_bad_options(mpii, options, message):
    with pytest.raises(UserError, match=message):
        mpii.module(**options)
