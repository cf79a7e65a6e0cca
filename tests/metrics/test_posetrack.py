"""PoseTrack AP: all recorded cases of poseval, files of both formats, the torchmetrics class, mistakes in files."""

import json

import numpy as np
import pytest
import torch

from posekit.cli.evaluate import run
from posekit.data.posetrack_file import read_posetrack
from posekit.errors import UserError
from posekit.metrics import PoseTrackAP, evaluate_posetrack
from posekit.metrics.posetrack_ap import COLUMNS, evaluate_posetrack_files, strictly_inside
from posekit.metrics.posetrack_files import read_sequence
from posekit.posetrack import SLOTS_2018
from tests.shared import SHARED

GOLDEN = SHARED / "golden" / "poseval"
CASES = sorted(p for p in GOLDEN.glob("*.json") if p.name != "index.json")


def written(case, folder):
    for side in ("gt", "pred"):
        (folder / side).mkdir(parents=True)
        for name, content in case[side].items():
            (folder / side / name).write_text(json.dumps(content))
    return folder / "gt", folder / "pred"


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_recorded_cases(path, tmp_path):
    case = json.loads(path.read_text())
    gt, pred = written(case, tmp_path)
    want = case["expected"]
    if "error" in want:
        with pytest.raises(UserError, match="head box"):
            evaluate_posetrack(gt, pred)
        return
    arrays = evaluate_posetrack_files(gt, pred)
    result = arrays.as_dict()
    number = lambda v: np.nan if v is None else v  # noqa: E731
    for values, total, name in ((arrays.ap, result["AP"], "ap"), (arrays.precision, result["precision"], "precision"),
                                (arrays.recall, result["recall"], "recall")):  # fmt: skip
        expected = np.array([number(v) for v in want[name]], float)
        assert np.array([*values, total]) == pytest.approx(expected, abs=1e-9, nan_ok=True), name
    for column in COLUMNS:
        assert result[column] == pytest.approx(number(want["table"][column]), abs=1e-9, nan_ok=True)
    assert arrays.people.tolist() == want["n_gt_per_joint"]
    assert arrays.frames == want["n_frames_evaluated"]


def first_case(name):
    path = GOLDEN / f"{name}.json"
    if not path.exists():
        pytest.skip("the shared folder of recorded numbers is absent")
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    "content",
    [
        {"annolist": [3]},
        {"annolist": [{"image": 3, "annorect": []}]},
        {"images": [3], "annotations": []},
        {"images": [{"id": "x", "frame_id": []}], "annotations": []},
    ],
)
def test_entries_of_another_form_get_one_line(content, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"a\.json") as caught:
        read_sequence(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["random_basic", "random_ignore", "random_empty_frames", "posetrack18_format"])
def test_class_equals_the_files(name, tmp_path):
    case = first_case(name)
    gt, pred = written(case, tmp_path)
    want = evaluate_posetrack(gt, pred)
    metric = PoseTrackAP(gt)
    rows = []
    for number, (key, frame) in enumerate(zip(metric.frames, frames_of(pred), strict=True)):
        del number
        people = frame.people
        points = np.concatenate([people.xy, people.score[..., None]], -1)
        points[~people.present] = np.nan
        rows += [(key, p) for p in points]
    order = np.random.default_rng(0).permutation(len(rows))
    for part in (order[::2], order[1::2], order[:3]):  # the last repeats samples
        entry = {"keypoints": torch.tensor(np.array([rows[i][1] for i in part])).reshape(-1, 15, 3)}
        entry |= {"image_id": torch.tensor([rows[i][0] for i in part]), "sample_id": torch.tensor(part)}
        metric.update(entry)
    got = {k: v.item() for k, v in metric.compute().items()}
    assert got.keys() == want.keys()
    assert list(got.values()) == pytest.approx(list(want.values()), abs=1e-9, nan_ok=True)
    with pytest.raises(UserError, match="424242"):
        metric.update({"keypoints": torch.zeros(1, 15, 3), "image_id": 424242})
    with pytest.raises(ValueError, match="15 or 17"):
        metric.update({"keypoints": torch.zeros(1, 14, 3), "image_id": 0})
    metric.update({"keypoints": torch.zeros(0, 15, 3), "image_id": torch.zeros(0)})
    wide = torch.zeros(1, len(SLOTS_2018), 3)
    metric.update({"keypoints": wide, "image_id": next(iter(metric.frames))})


def frames_of(folder):
    return [frame for path in sorted(folder.glob("*.json")) for frame in read_sequence(path)]


def test_mistakes(tmp_path):
    case = first_case("random_basic")
    gt, pred = written(case, tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        evaluate_posetrack(tmp_path / "nothing", pred)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \.json"):
        evaluate_posetrack(gt, tmp_path / "empty")
    files = sorted(gt.glob("*.json"))
    assert evaluate_posetrack(files, sorted(pred.glob("*.json"))) == pytest.approx(evaluate_posetrack(gt, pred))
    content = json.loads((pred / files[0].name).read_text())

    def check(change, match):
        other = json.loads(json.dumps(content))
        change(other)
        (pred / files[0].name).write_text(json.dumps(other))
        with pytest.raises(UserError, match=match) as caught:
            evaluate_posetrack(gt, pred)
        assert "\n" not in str(caught.value)

    check(lambda c: c["annolist"].pop(), "frames in the ground truth")
    check(lambda c: c.pop("annolist"), "no PoseTrack file")
    point = lambda c: c["annolist"][0]["annorect"][0]["annopoints"][0]["point"][0]  # noqa: E731
    check(lambda c: point(c).update(id=[40]), "point id 40")
    check(lambda c: point(c).pop("x"), "has no 'x'")
    check(lambda c: point(c).update(x=["far"]), "no finite number: x is \\['far'\\]")
    (pred / files[0].name).unlink()
    with pytest.raises(UserError, match=files[0].name):
        evaluate_posetrack(gt, pred)


def test_mistakes_in_the_2018_format(tmp_path):
    case = first_case("posetrack18_format")
    gt, pred = written(case, tmp_path)
    file = next(pred.glob("*.json"))
    content = json.loads(file.read_text())
    content["annotations"][1]["keypoints"].pop()
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"annotation 2 has 50 keypoint numbers, expected 51"):
        evaluate_posetrack(gt, pred)


def test_command(tmp_path, capsys):
    gt, pred = written(first_case("random_basic"), tmp_path)
    run(["posetrack", str(gt), str(pred), "--json", str(tmp_path / "o.json")])
    written_values = json.loads((tmp_path / "o.json").read_text())
    assert written_values["AP"] == pytest.approx(evaluate_posetrack(gt, pred)["AP"])
    assert "Total" in capsys.readouterr().out


def test_polygons():
    concave = np.array([[0.0, 0], [4, 0], [4, 4], [2, 1], [0, 4]])
    points = np.array([[1.0, 1], [2, 2], [2, 0.5], [0, 2], [2, 1], [3, 2.4], [9, 9], [-1, 0]])
    assert strictly_inside(points, concave).tolist() == [True, False, True, False, False, True, False, False]
    assert strictly_inside(points, concave[::-1]).tolist() == strictly_inside(points, concave).tolist()
    assert not strictly_inside(points, concave[:2]).any()


def test_two_files_with_frames_of_the_same_id(tmp_path):
    categories = [{"keypoints": list(SLOTS_2018)}]
    for name in ("a", "b"):
        images = [{"id": 7, "file_name": f"{name}/7.jpg"}]
        content = {"categories": categories, "images": images, "annotations": []}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"a\.json and .*b\.json both have a frame of the id 7"):
        PoseTrackAP(tmp_path)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_score_of_zero_is_a_score(tmp_path, wrapped):
    def person(x, score=None):
        point = {"id": [0], "x": [x], "y": [10.0]}
        point |= {} if score is None else {"score": [score] if wrapped else score}
        return {"x1": [0], "y1": [0], "x2": [20], "y2": [20], "annopoints": [{"point": [point]}]}

    for side, people in (("gt", [person(10.0)]), ("pred", [person(10.0, 0.0), person(500.0, -1.0)])):
        (tmp_path / side).mkdir()
        content = {"annolist": [{"image": [{"name": "a.jpg"}], "annorect": people}]}
        (tmp_path / side / "a.json").write_text(json.dumps(content))
    assert evaluate_posetrack(tmp_path / "gt", tmp_path / "pred")["right_ankle"] == 100


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda a: a.update(keypoints=[float("nan")] * 51), "annotation 1 has keypoints that are not finite numbers"),
        (lambda a: a.update(image_id=5), "annotation 1 belongs to image 5, which is not listed"),
        (lambda a: a.update(bbox_head=[1, 2, None, 4]), "annotation 1 has a bbox_head that is not four finite numbers"),
        (lambda a: a.update(bbox_head=[1, 2]), r"1 has a bbox_head that is not four finite numbers: \[1, 2\]"),
    ],
)
def test_faulty_people_can_be_left_out(tmp_path, change, text):
    gt, _ = written(first_case("posetrack18_format"), tmp_path)
    path = next(gt.glob("*.json"))
    content = json.loads(path.read_text())
    change(next(entry for entry in content["annotations"] if entry["id"] == 1))
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=text):
        PoseTrackAP(gt)
    with pytest.warns(UserWarning, match=f"PoseTrack's AP leaves out 1 faulty annotation: .*{text}"):
        metric = PoseTrackAP(gt, on_bad_annotation="skip")
    kept = read_posetrack([path], on_bad_annotation="skip")
    assert sum(len(frame.people.xy) for frame in metric.frames.values()) == len(kept.ids)
    assert len(kept.ids) == len(content["annotations"]) - 1
    with pytest.raises(UserError, match="unknown on_bad_annotation of PoseTrackAP 'drop'"):
        PoseTrackAP(gt, on_bad_annotation="drop")


def test_scores_of_annotations_and_boxes_of_predictions_do_not_matter(tmp_path):
    gt, pred = written(first_case("posetrack18_format"), tmp_path)
    want = evaluate_posetrack(gt, pred)
    for folder, fields in (
        (gt, {"scores": [1], "bbox": [1, 2, 3]}),
        (pred, {"bbox": [1, 2, 3, 4, 0.5], "bbox_head": [1]}),
    ):
        path = next(folder.glob("*.json"))
        content = json.loads(path.read_text())
        for entry in content["annotations"]:
            entry.update(fields)
        path.write_text(json.dumps(content))
    assert evaluate_posetrack(gt, pred) == pytest.approx(want, nan_ok=True)
