import json
import shutil

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from posekit.callbacks import PoseTrackWriter
from posekit.data.clip_windows import Window
from posekit.data.posetrack import PoseTrack
from posekit.data.posetrack_results import write_posetrack_results
from posekit.errors import UserError
from posekit.metrics import PoseTrackAP, evaluate_posetrack
from posekit.metrics.posetrack_files import read_sequence
from posekit.posetrack import SLOTS_2018
from posekit.skeletons import POSETRACK15
from tests.data.posetrack_made import edit, joints_of, make_2017, make_2018, write_frames
from tests.shared import SHARED, requires_shared

SAMPLE = SHARED / "data" / "samples" / "posetrack18"


@pytest.fixture(params=["2017", "2018"])
def made(request, tmp_path):
    (make_2017 if request.param == "2017" else make_2018)(tmp_path)
    return tmp_path


def module(root, **options):
    return PoseTrack(str(root), **{"image_size": (48, 64), "batch_size": 2, **options})


def samples(datamodule, split="val"):
    dataset = datamodule.dataset(split)
    return [dataset[(0, index)] for index in range(len(dataset))]


def as_predictions(found):
    """Ground-truth people of clips as predictions in original px."""
    rows = []
    for sample in found:
        key = int(sample["key"])
        affine = sample["affine"][key].double()
        points = torch.linalg.solve(affine[:, :2], (sample["keypoints"][key].double() - affine[:, 2]).T).T
        score = torch.where(sample["visible"][key] > 0, 1.0, float("nan"))
        rows.append(torch.cat([points, score[:, None]], 1))
    return {
        "keypoints": torch.stack(rows),
        "scores": torch.ones(len(rows)),
        "image_id": torch.stack([s["image_id"][s["key"]] for s in found]),
        "sample_id": torch.stack([s["sample_id"] for s in found]),
        "track_id": torch.arange(len(rows)) % 2,
    }


# -- reading ----------------------------------------------------------------------------------------------------------


def test_labelled_frames_are_keys_and_their_neighbours_are_read(made):
    found = samples(module(made))
    assert len(found) == 10
    first = made / "images"
    start = 1 if (first / "bonn").is_dir() else 0
    by_frame = {}
    for sample in found:
        key = int(sample["frame"][1]) - start
        by_frame.setdefault(key, []).append(sample)
        real = [f for f in (key - 1, key, key + 1) if 0 <= f < 6]
        assert sample["valid"].tolist() == [key - 1 >= 0, True, key + 1 < 6]
        assert (sample["frame"][sample["valid"]] - start).tolist() == real
        assert torch.equal(sample["affine"][0], sample["affine"][2])
        assert sample["margin"].tolist() == [1 if key else 0, 1]
        grey = [float(sample["image"][step].max()) for step in range(3)]
        assert grey == sorted(grey)  # the pictures grow brighter with their number
    assert {frame: len(group) for frame, group in by_frame.items()} == {0: 4, 2: 4, 3: 2}
    # Frame 2 of person 0 sees labels in frame 3, person 1 was not annotated there.
    labelled = sorted(int((s["visible"][2] > 0).any()) for s in by_frame[2])
    assert labelled == [0, 0, 1, 1]
    assert all(s["visible"][0].sum() == 0 for s in by_frame[2])


def test_joints_and_boxes(made):
    data = module(made, box_scale=1.3)
    found = samples(data)
    start = data.sequences("val").numbers.min()
    for sample, person in ((found[0], 0), (found[3], 1)):
        frame = int(sample["frame"][1] - start)
        expected = joints_of(person, frame)
        affine = sample["affine"][1].double().numpy()
        points = expected @ affine[:, :2].T + affine[:, 2]
        assert np.allclose(sample["keypoints"][1], points, atol=1e-3)
        assert sample["visible"][1].tolist() == [2] * 15
        low, high = expected.min(0), expected.max(0)
        if start == 1:  # made of the joints: 15 % on every side
            low, high = low - 0.15 * (high - low), high + 0.15 * (high - low)
        assert np.allclose(sample["box"][1], np.concatenate([low, expected.max(0) * 0 + high - low]), atol=1e-3)


def test_five_frames_and_strides(made):
    found = samples(module(made, num_support=2))[0]
    assert found["image"].shape == (5, 3, 64, 48)
    assert found["valid"].tolist() == [False, False, True, True, True]
    assert found["margin"].tolist() == [0, 2]
    apart = samples(module(made, stride=2))[0]
    assert (apart["frame"] - apart["frame"][1]).tolist() == [0, 0, 2]


def test_neighbours_that_only_the_disk_has(tmp_path):
    make_2018(tmp_path, listed=(0, 2, 3))
    found = samples(module(tmp_path))
    assert found[0]["valid"].tolist() == [False, True, True]
    assert found[0]["image_id"][2] == -1
    (tmp_path / "images/val/000001_a/000001.jpg").unlink()
    found = samples(module(tmp_path))
    assert found[0]["valid"].tolist() == [False, True, False]
    assert torch.equal(found[0]["image"][2], found[0]["image"][1])


@pytest.mark.parametrize("count", [15, 17])
def test_joints_are_taken_by_name(tmp_path, count):
    names = ["neck" if n == "head_bottom" else n for n in SLOTS_2018 if count == 17 or "ear" not in n]
    names = names[::-1]
    make_2018(tmp_path, names=names)
    assert np.allclose(module(tmp_path).sequences("val").joints[0, :, :2], joints_of(0, 0))


def test_annotated_with_visibility_0_is_hidden_and_all_zeros_absent(tmp_path):
    folder = make_2018(tmp_path)

    def change(content):
        content["annotations"][0]["keypoints"][:6] = [30.0, 40.0, 0, 0, 0, 0]

    edit(folder / "000001_a.json", change)
    joints = module(tmp_path).sequences("val").joints[0]
    assert joints[POSETRACK15.index("nose")].tolist() == [30, 40, 1]
    assert joints[POSETRACK15.index("head_bottom"), 2] == 0


def test_regions_heads_and_tracks(made):
    people = module(made).sequences("val")
    assert people.regions[0][0].tolist() == [[150, 0], [159, 0], [159, 9]]
    assert np.allclose(people.heads[0], [*joints_of(0, 0)[14], 20, 24])
    assert people.track_ids.tolist() == [0, 1, 0, 1, 0] * 2
    assert people.labelled.tolist() == [True, False, True, True, False, False] * 2
    tracks = module(made).dataset("val").tracks
    assert len(tracks) == 4
    assert tracks[0].name.endswith(", person 0")


def test_a_second_person_of_a_track_in_a_frame_is_apart(tmp_path):
    folder = make_2018(tmp_path, sequences=("000001_a",))
    edit(folder / "000001_a.json", lambda c: c["annotations"][1].update(track_id=0))
    data = module(tmp_path)
    assert data.sequences("val").track_ids.tolist() == [0, -1, 0, 1, 0]
    assert len(data.dataset("val")) == 5


def test_other_windows_and_joint_sets(made):
    data = module(made, window=Window.pool(2, 1, min_frames=2), clip_box="frame", skeleton="SPIN49")
    found = samples(data)
    # Person 0: frames 2 and 3; person 1 has only frames 0 and 2, which are evenly spaced in their way.
    steps = {s["track_id"].item(): (s["frame"] - s["frame"][0]).tolist() for s in found}
    assert steps == {0: [0, 1], 1: [0, 2], 2: [0, 1], 3: [0, 2]}
    assert found[0]["keypoints"].shape == (2, 49, 2)
    assert int((found[0]["visible"][0] > 0).sum()) == 15
    crops = module(made, view="crops")
    assert crops.dataset("val")[(0, 0)]["image"].shape == (3, 64, 48)
    assert len(crops.ground_truth("val")) == 12


def test_training_draws_one_view_a_clip(tmp_path):
    make_2018(tmp_path, "train")
    make_2018(tmp_path / "other", "val")
    shutil.move(tmp_path / "other/annotations/val", tmp_path / "annotations/val")
    shutil.move(tmp_path / "other/images/val", tmp_path / "images/val")
    data = module(tmp_path)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (2, 3, 3, 64, 48)
    assert torch.equal(batch["affine"][:, 0], batch["affine"][:, 2])
    still = data.dataset("val")[(0, 0)]
    assert not torch.equal(data.dataset("train")[(0, 0)]["affine"], still["affine"])
    assert module(tmp_path, augment=False).dataset("train")[(0, 0)]["affine"].allclose(still["affine"])
    assert len(module(tmp_path, limit=1).dataset("train")) == 5


# -- detections -------------------------------------------------------------------------------------------------------


def detections(root, data, **changes):
    frames = data.sequences("val")
    boxes = [
        {"category_id": 1, "bbox": [30, 20, 40, 80], "score": score, "image_id": int(i), **changes}
        for i in frames.image_ids[:4]
        for score in (0.9, 0.1, 0.5)
    ]
    (root / "found.json").write_text(json.dumps(boxes))
    return boxes


def test_detected_boxes(made):
    detections(made, module(made))
    found = samples(module(made, detections="found.json"))
    assert len(found) == 6  # three labelled frames of the four, two boxes above 0.2 each
    assert {round(float(s["box_score"]), 2) for s in found} == {0.9, 0.5}
    assert all(s["visible"].sum() == 0 for s in found)
    assert len({int(s["sample_id"]) for s in found}) == 6
    assert {int(s["track_id"]) for s in found} == {-1}
    assert found[0]["valid"].tolist() == [False, True, True]
    assert len(samples(module(made, detections="found.json", key_frames="all"))) == 8
    crops = module(made, detections="found.json", view="crops").dataset("val")
    assert len(crops) == 6
    default_collate(found)


def test_detected_boxes_by_name(tmp_path):
    make_2017(tmp_path)
    box = {"bbox": [30, 20, 40, 80], "score": 0.9, "image_name": "images/bonn/000002/00000003.jpg"}
    (tmp_path / "found.json").write_text(json.dumps([box]))
    found = samples(module(tmp_path, detections="found.json"))
    assert [int(s["image_id"][1]) for s in found] == [8]


def test_detected_boxes_of_frames_in_floats(tmp_path):
    make_2018(tmp_path)
    boxes = [box | {"image_id": float(box["image_id"])} for box in detections(tmp_path, module(tmp_path))]
    (tmp_path / "found.json").write_text(json.dumps(boxes))
    assert len(samples(module(tmp_path, detections="found.json"))) == 6


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"bbox": [1, 2, 0, 4]}, "box number 0 has a box of zero size"),
        ({"image_id": 0.5}, "box number 0 has neither an integer image_id nor a file_name"),
        ({"score": None}, "box number 0 has no finite score"),
        ({"category_id": 3}, "no box of a person: 12 boxes are of category_id 3, people's is 1"),
        ({"image_id": 5000}, "no person box of score 0.2 or more in the listed frames"),
    ],
)
def test_wrong_detections(tmp_path, change, text):
    make_2018(tmp_path)
    detections(tmp_path, module(tmp_path), **change)
    with pytest.raises(UserError, match=text):
        module(tmp_path, detections="found.json").dataset("val")


# -- evaluation and results -------------------------------------------------------------------------------------------


def test_ids_agree_with_the_metric(made):
    data = module(made)
    metric = PoseTrackAP(data.posetrack_annotations("val"))
    metric.update(as_predictions(samples(data)))
    assert metric.compute()["AP"] == pytest.approx(100.0)
    shuffled = as_predictions(samples(data))
    shuffled["image_id"][:] = shuffled["image_id"][0]
    metric.reset()
    metric.update(shuffled)
    assert metric.compute()["AP"] < 100


@pytest.mark.parametrize("form", ["auto", "2017", "2018"])
def test_written_ground_truth_scores_100(made, form, tmp_path):
    data = module(made)
    found = as_predictions(samples(data))
    files = data.posetrack_annotations("val")
    written = write_posetrack_results(found, files, tmp_path / "out", form)
    assert [p.name for p in written] == [p.name for p in files]
    assert evaluate_posetrack(files, tmp_path / "out")["AP"] == pytest.approx(100.0)
    content = json.loads(written[0].read_text())
    own = "2017" if "annolist" in json.loads(files[0].read_text()) else "2018"
    assert ("annolist" in content) == ((own if form == "auto" else form) == "2017")
    assert list((tmp_path / "out").iterdir()) == [p for p in (tmp_path / "out").iterdir() if p.suffix == ".json"]


def test_the_2017_form_to_the_letter(made, tmp_path):
    data = module(made)
    point = np.full((1, 15, 3), np.nan)
    point[0, 3] = 10.12346, 20, 0.5
    image_id = int(data.sequences("val").image_ids[1])
    found = {
        "keypoints": point,
        "scores": np.array([0.75]),
        "image_id": np.array([image_id]),
        "track_id": np.array([4]),
    }
    files = data.posetrack_annotations("val")
    first, second = write_posetrack_results(found, files, tmp_path / "out", "2017")
    annolist = json.loads(first.read_text())["annolist"]
    assert [len(frame["annorect"]) for frame in annolist] == [0, 1, 0, 0, 0, 0]
    assert annolist[1]["annorect"][0] == {
        "annopoints": [{"point": [{"id": [3], "x": [10.1235], "y": [20.0], "score": [0.5]}]}],
        "score": [0.75],
        "track_id": [4],
    }
    assert annolist[1]["image"][0]["name"] == data.sequences("val").names[1]
    assert all(frame["annorect"] == [] for frame in json.loads(second.read_text())["annolist"])


def test_the_2018_form_to_the_letter(made, tmp_path):
    data = module(made)
    point = np.full((1, 15, 3), np.nan)
    point[0, POSETRACK15.index("nose")] = 10, 20, 0.5
    image_id = int(data.sequences("val").image_ids[1])
    found = {"keypoints": point, "image_id": image_id}
    first, _ = write_posetrack_results(found, data.posetrack_annotations("val"), tmp_path / "out", "2018")
    content = json.loads(first.read_text())
    (entry,) = content["annotations"]
    assert entry["keypoints"] == [10, 20, 1] + [0] * 48
    assert entry["scores"] == [0.5] + [0] * 16
    assert entry["image_id"] == image_id
    assert [image["id"] for image in content["images"]] == data.sequences("val").image_ids[:6].tolist()
    assert content["categories"][0]["keypoints"] == list(SLOTS_2018)


@pytest.mark.parametrize("form", ["2017", "2018"])
def test_dcposes_dummy_is_one_false_ankle(made, form, tmp_path):
    data = module(made)
    files = data.posetrack_annotations("val")
    write_posetrack_results([], files, tmp_path / "none", form)
    write_posetrack_results([], files, tmp_path / "dummy", form, dcpose_compat_dummy=True)
    none, dummy = (evaluate_posetrack(files, tmp_path / name) for name in ("none", "dummy"))
    assert none["AP"] == dummy["AP"] == 0
    found = as_predictions([s for s in samples(data) if s["image_id"][1] != data.sequences("val").image_ids[3]])
    write_posetrack_results(found, files, tmp_path / "a", form)
    write_posetrack_results(found, files, tmp_path / "b", form, dcpose_compat_dummy=True)
    a, b = (evaluate_posetrack(files, tmp_path / name) for name in ("a", "b"))
    assert b["precision/right_ankle"] < a["precision/right_ankle"] == 100
    assert a["AP"] == pytest.approx(b["AP"])  # it ranks last


def test_predictions_of_strange_frames_are_refused(made, tmp_path):
    found = {"keypoints": np.zeros((1, 15, 3)), "image_id": 77}
    with pytest.raises(UserError, match="1 predictions are for frames that the PoseTrack annotations lack"):
        write_posetrack_results(found, module(made).posetrack_annotations("val"), tmp_path / "out")
    with pytest.raises(ValueError, match="needed is"):
        write_posetrack_results({"keypoints": np.zeros((1, 14, 3)), "image_id": 0}, made / "annotations/val", tmp_path)


def test_repeated_samples_are_written_once(made, tmp_path):
    data = module(made)
    found = as_predictions(samples(data))
    files = data.posetrack_annotations("val")
    write_posetrack_results([found, found], files, tmp_path / "out")
    assert evaluate_posetrack(files, tmp_path / "out")["precision"] == 100


def test_people_of_a_frame_are_in_the_order_of_their_samples(made, tmp_path):
    data = module(made)
    found = as_predictions(samples(data))
    files = data.posetrack_annotations("val")
    write_posetrack_results(found, files, tmp_path / "one")
    backwards = {name: value.flip(0) for name, value in found.items()}  # as another process may have had them
    write_posetrack_results([{n: v[part] for n, v in backwards.items()} for part in (slice(0, 3), slice(3, 10))], files,
                            tmp_path / "other")  # fmt: skip
    for path in files:
        assert (tmp_path / "one" / path.name).read_text() == (tmp_path / "other" / path.name).read_text()
    del found["sample_id"]  # they stay as they came
    write_posetrack_results(found, files, tmp_path / "none")
    assert (tmp_path / "one" / files[0].name).read_text() == (tmp_path / "none" / files[0].name).read_text()


class Trainer:
    """What a callback looks at."""

    def __init__(self, datamodule):
        self.datamodule = datamodule
        self.world_size = 1
        self.is_global_zero = True


def test_the_writer_of_a_prediction_run(made, tmp_path):
    data = module(made)
    found = as_predictions(samples(data, "predict"))
    writer, trainer = PoseTrackWriter(str(tmp_path / "out"), form="2018"), Trainer(data)
    writer.on_predict_start(trainer, None)
    for rows in (slice(0, 4), slice(4, 10)):
        part = {name: value[rows] for name, value in found.items()}
        writer.on_predict_batch_end(trainer, None, part, None, 0)
    writer.on_predict_end(trainer, None)
    assert evaluate_posetrack(data.posetrack_annotations("val"), tmp_path / "out")["AP"] == pytest.approx(100)
    with pytest.raises(UserError, match="which NoneType does not predict"):
        writer.on_predict_batch_end(trainer, None, {"joints3d": 1}, None, 0)
    with pytest.raises(UserError, match="needs data of PoseTrack, not NoneType"):
        writer.on_predict_start(Trainer(None), None)


# -- bad input --------------------------------------------------------------------------------------------------------


def test_a_sequence_of_one_frame(tmp_path):
    folder = make_2018(tmp_path, sequences=("000001_a",), listed=(0,))
    shutil.rmtree(tmp_path / "images/val/000001_a")
    write_frames(tmp_path / "images/val/000001_a", 0, 6, count=1)
    found = samples(module(tmp_path, num_support=2))
    assert [s["valid"].tolist() for s in found] == [[False, False, True, False, False]] * 2
    assert folder.is_dir()


def test_people_without_head_box_train_and_the_metric_names_them(made):
    path = module(made).posetrack_annotations("val")[0]

    def change(content):
        if "annolist" in content:
            del content["annolist"][2]["annorect"][1]["x1"]
        else:
            del content["annotations"][3]["bbox_head"]

    edit(path, change)
    data = module(made)
    found = samples(data)
    assert len(found) == 10
    metric = PoseTrackAP(data.posetrack_annotations("val"))
    metric.update(as_predictions(found))
    with pytest.raises(UserError, match=r"0000\d+.jpg: annotated person 1 has no head box"):
        metric.compute()


@pytest.mark.parametrize("nothing", [None, [], {}, [None]])
def test_a_head_box_without_a_value_is_a_missing_one(tmp_path, nothing):
    folder = make_2017(tmp_path)
    edit(folder / "000001_a_relpath_5sec.json", lambda c: c["annolist"][2]["annorect"][1].update(x1=nothing))
    data = module(tmp_path)
    found = samples(data)
    assert len(found) == 10
    metric = PoseTrackAP(data.posetrack_annotations("val"))
    metric.update(as_predictions(found))
    with pytest.raises(UserError, match=r"00000003.jpg: annotated person 1 has no head box"):
        metric.compute()


def _single_structs(content):
    for frame in content["annolist"]:
        frame["image"], region = frame["image"][0], frame["ignore_regions"][0]
        frame["ignore_regions"] = {"point": region["point"][0]}
        for rect in frame["annorect"]:
            rect["annopoints"] = rect["annopoints"][0]


def test_structs_that_lack_their_list_are_read_alike_by_the_metric(tmp_path):
    folder = make_2017(tmp_path)
    edit(folder / "000001_a_relpath_5sec.json", _single_structs)
    data = module(tmp_path)
    assert data.sequences("val").regions[0][0].tolist() == [[150, 0]]
    metric = PoseTrackAP(data.posetrack_annotations("val"))
    assert metric.frames[0].regions[0].tolist() == [[150, 0]]
    assert metric.frames[0].name == data.sequences("val").names[0]
    metric.update(as_predictions(samples(data)))
    assert metric.compute()["AP"] == pytest.approx(100)


def test_upper_neck_is_the_neck_for_the_metric_too(tmp_path):
    make_2018(tmp_path)
    names = ["upper_neck" if name == "head_bottom" else name for name in SLOTS_2018]
    for path in (tmp_path / "annotations/val").glob("*.json"):
        edit(path, lambda c: c["categories"][0].update(keypoints=names))
    data = module(tmp_path)
    metric = PoseTrackAP(data.posetrack_annotations("val"))
    metric.update(as_predictions(samples(data)))
    assert metric.compute()["AP"] == pytest.approx(100)


def test_missing_and_broken_pictures(tmp_path, caplog):
    make_2018(tmp_path)
    folder = tmp_path / "images/val/000001_a"
    (folder / "000003.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"1 of 6 images of split val are absent or broken: .*000003.jpg is empty"):
        module(tmp_path).dataset("val")
    data = module(tmp_path, on_broken_image="skip")
    found = samples(data)
    assert len(found) == 9
    # Frame 2's next neighbour is frame 3: it is the key frame again.
    broken = [s for s in found if s["frame"][1] == 2 and not s["valid"][2]]
    assert len(broken) == 2
    assert "000003.jpg" in caplog.text
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="does not exist"):
        module(tmp_path).dataset("val")


def _drop_names(content):
    content["categories"][0]["keypoints"] = [f"joint {k}" for k in range(17)]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c["annotations"][0].update(keypoints=[0] * 45), "has 45 keypoint numbers, expected 51"),
        (lambda c: c["annotations"][0].update(image_id=5), "belongs to image 5, which is not listed"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), "bbox that is not four finite numbers"),
        (lambda c: c["images"][0].update(file_name="../x.jpg"), "leads out of the folder"),
        (lambda c: c["images"][0].update(id="a"), r"images\[0\] has no integer id"),
        (lambda c: c["images"][1].update(id=c["images"][0]["id"]), "which another has"),
        (lambda c: c.pop("images"), "is no PoseTrack file"),
        (_drop_names, "has 17 names and lacks right_ankle"),
        (lambda c: c["images"][0].update(id=10**30), r"images\[0\] has no integer id"),
        (lambda c: c["categories"][0].update(keypoints=True), "an entry is not of PoseTrack's 2018 form"),
        (
            lambda c: c["images"][1].update(ignore_regions_x=1.5),
            r"images\[1\] has ignore_regions_x or _y that is no list",
        ),
        (
            lambda c: c["images"][1].update(ignore_regions_x=[["x"]], ignore_regions_y=[[1]]),
            r"images\[1\] has ignore_reg",
        ),
        (lambda c: c["annotations"][1].update(image_id=[]), r"belongs to image \[\], which is not listed"),
    ],
)
def test_faulty_files_2018(tmp_path, change, text):
    folder = make_2018(tmp_path)
    edit(folder / "000001_a.json", change)
    with pytest.raises(UserError, match=text) as error:
        module(tmp_path).dataset("val")
    assert "000001_a.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_id_in_two_files_names_both(tmp_path):
    folder = make_2018(tmp_path)
    first = json.loads((folder / "000001_a.json").read_text())["images"][0]["id"]
    edit(folder / "000002_b.json", lambda c: c["images"][1].update(id=first))
    with pytest.raises(
        UserError, match=rf"000002_b\.json: images\[1\] has the id {first}, which \S*000001_a\.json has"
    ):
        PoseTrack(str(tmp_path)).sequences("val")


def test_numbers_beyond_64_bits_are_no_tracks_and_no_ids(tmp_path):
    folder = make_2018(tmp_path)
    edit(folder / "000001_a.json", lambda c: c["annotations"][0].update(track_id=10**30, id=10**30))
    assert len(module(tmp_path).dataset("val")) > 0


def _corner(content):
    return content["annolist"][0]["ignore_regions"][0]["point"][0]


def _point(content):
    return content["annolist"][0]["annorect"][0]["annopoints"][0]["point"][0]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: _point(c).update(id=[15]), "frame 0 .* person 0 has a point id 15, known are 0 to 14"),
        (lambda c: _point(c).update(x=["a"]), "has a point whose id, x or y is no finite number"),
        (lambda c: c["annolist"][0].update(image=[]), "frame 0 of annolist has no file name"),
        (lambda c: c["annolist"][0].update(image=3), "frame 0 of annolist has an image that is neither a struct nor"),
        (
            lambda c: c["annolist"][1].update(ignore_regions=7),
            r"frame 1 \(.*2.jpg\) has an ignore_regions that is neither",
        ),
        (lambda c: _corner(c).update(x=["a"]), r"frame 0 \(.*1.jpg\) has an ignore region with a corner whose x or y"),
        (
            lambda c: c["annolist"][0]["annorect"][1].update(x1=["a"]),
            r"person 1 has a head box \(x1, y1, x2, y2\) that",
        ),
    ],
)
def test_faulty_files_2017(tmp_path, change, text):
    folder = make_2017(tmp_path)
    edit(folder / "000001_a_relpath_5sec.json", change)
    with pytest.raises(UserError, match=text):
        module(tmp_path).dataset("val")


def test_faulty_people_can_be_skipped(tmp_path, caplog):
    folder = make_2017(tmp_path)
    edit(folder / "000001_a_relpath_5sec.json", lambda c: _point(c).update(id=[15]))
    assert len(module(tmp_path, on_bad_annotation="skip").dataset("val")) == 9
    assert "left out 1 faulty annotation" in caplog.text


def test_faulty_regions_can_be_left_out(tmp_path, caplog):
    folder = make_2017(tmp_path)
    path = folder / "000001_a_relpath_5sec.json"
    edit(path, lambda c: _corner(c).update(x=[], y=[]))  # as MATLAB's export leaves a corner empty
    assert len(module(tmp_path).dataset("val")) == 10
    edit(path, lambda c: _corner(c).update(x=["a"], y=[1]))
    assert len(module(tmp_path, on_bad_annotation="skip").dataset("val")) == 10
    assert "left out 1 faulty ignore region" in caplog.text
    with pytest.warns(UserWarning, match="leaves out 1 faulty ignore region: .* has an ignore region"):
        first, *_ = read_sequence(path, scored=False, on_bad_annotation="skip")
    assert first.regions == ()


def _regions_of(x, y):
    return lambda c: c["images"][1].update(ignore_regions_x=x, ignore_regions_y=y)


@pytest.mark.parametrize(
    ("make", "change", "count", "text"),
    [
        (make_2018, _regions_of([[1, 2, 3]], [[1, 2]]), 0, r"images\[1\] has ignore_regions_x and _y of different le"),
        (make_2018, _regions_of([[1, 2, 3], [4]], [[1, 2, 3]]), 0, "of different lengths: 2 and 1 regions"),
        (make_2018, _regions_of([[1, 2, 3], [4]], [[1, 2, 3], 5]), 1, r"with a region that is no list: \[\[4\], 5\]"),
        (make_2018, _regions_of(1.5, [[1]]), 0, r"or _y that is no list: \[1.5, \[\[1\]\]\]"),
        (
            make_2017,
            lambda c: c["annolist"][1]["ignore_regions"][0].update(point=3),
            0,
            r"frame 1 \(.*2.jpg\) has an ignore region with a point that is neither a struct nor .*: 3",
        ),
        (make_2017, lambda c: c["annolist"][1].update(ignore_regions=7), 0, "an ignore_regions that is neither .*: 7"),
        (
            make_2017,
            lambda c: c["annolist"][1]["ignore_regions"].append("a"),
            1,
            "ignore region that is no struct: 'a'",
        ),
    ],
)
def test_every_fault_of_a_region_leaves_out_that_region(tmp_path, caplog, make, change, count, text):
    path = sorted(make(tmp_path).glob("*.json"))[0]
    edit(path, change)
    with pytest.raises(UserError, match=rf"{text}.*--data.on_bad_annotation=skip leaves them out"):
        module(tmp_path).sequences("val")
    data = module(tmp_path, on_bad_annotation="skip")
    assert len(data.sequences("val").regions.get(1, ())) == count
    assert "left out 1 faulty ignore region" in caplog.text
    with pytest.warns(UserWarning, match=rf"leaves out 1 faulty ignore region: .*{text}"):
        assert len(read_sequence(path, False, "skip")[1].regions) == count
    assert len(read_sequence(path)[1].regions) == count  # of predictions they do not matter


def test_forms_and_versions(tmp_path):
    folder = make_2018(tmp_path)
    with pytest.raises(UserError, match="is of PoseTrack's 2018 form, but version is 2017"):
        module(tmp_path, version="2017").dataset("val")
    assert len(module(tmp_path, version="21").dataset("val")) == 10
    other = make_2017(tmp_path / "other")
    shutil.copy(other / "000001_a_relpath_5sec.json", folder / "000003.json")
    with pytest.raises(
        UserError, match=r"000003.json is of PoseTrack's 2017 form, the files before it are of the 2018"
    ):
        module(tmp_path).dataset("val")


def test_posetrack21s_folders(tmp_path):
    make_2018(tmp_path)
    shutil.move(tmp_path / "annotations", tmp_path / "posetrack_data")
    assert len(module(tmp_path).dataset("val")) == 10


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"view": "scenes"}, "unknown view of PoseTrack 'scenes'"),
        ({"version": "2019"}, "unknown version of PoseTrack '2019'"),
        ({"key_frames": "some"}, "unknown key_frames of PoseTrack 'some'"),
        ({"clip_augmentation": "posetrack"}, "Did you mean pose_track"),
        ({"skeleton": "POSETRACK17"}, "unknown skeleton 'POSETRACK17'"),
        ({"detections": "x.json", "clip_box": "frame"}, "clips of them need clip_box key"),
        ({"detections": "x.json"}, "detections file .*x.json of split val does not exist"),
        ({"images": "pictures"}, "image folder .*pictures of split val does not exist"),
        ({"val_annotations": "annotations/vall"}, "annotations .*vall of split val do not exist"),
    ],
)
def test_options_are_checked(tmp_path, options, text):
    make_2018(tmp_path)
    with pytest.raises(UserError, match=text):
        module(tmp_path, **options).setup("validate")


def test_a_missing_root(tmp_path):
    with pytest.raises(UserError, match=r"data root .*nowhere does not exist"):
        module(tmp_path / "nowhere").setup("fit")


# -- real frames ------------------------------------------------------------------------------------------------------


@requires_shared
def test_the_real_sample_reads_as_it_is(tmp_path):
    data = PoseTrack(str(SAMPLE), num_support=2)
    data.setup("validate")
    assert data.image_size == (288, 384)
    found = samples(data)
    assert len(found) == 14
    assert all(s["valid"].tolist() == [False, False, True, False, False] for s in found)
    metric = PoseTrackAP(data.posetrack_annotations("val"))
    predicted = as_predictions(found)
    metric.update(predicted)
    assert metric.compute()["AP"] == pytest.approx(100.0)
    write_posetrack_results(predicted, data.posetrack_annotations("val"), tmp_path)
    assert evaluate_posetrack(data.posetrack_annotations("val"), tmp_path)["AP"] == pytest.approx(100.0)
    merged = PoseTrack(str(SAMPLE), val_annotations="annotations/test_posetrack18_val.json")
    assert len(merged.dataset("val")) == 14
    assert len(merged.sequences("val").sequence_names) == 3
    boxes = "annotations/test_posetrack18_human_detections.json"
    detected = PoseTrack(str(SAMPLE), detections=boxes)
    listed = json.loads((SAMPLE / boxes).read_text())
    assert len(detected.dataset("val")) == sum(box["score"] >= 0.2 for box in listed)
