"""Mistakes in COCO files: one line that names the file and the entry."""

import copy
import json

import pytest

from posekit.cli.evaluate import run
from posekit.errors import UserError
from posekit.metrics import evaluate_coco_keypoints
from posekit.skeletons import COCO17
from tests.metrics.coco_made import NAMES, difference, made, official


@pytest.fixture
def content():
    return made(1, ties=False)


def check(gt, results, match):
    with pytest.raises(UserError, match=match) as caught:
        evaluate_coco_keypoints(gt, results)
    assert "\n" not in str(caught.value)


def test_missing_truncated_and_foreign_files(tmp_path, content):
    gt, results = content
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "dt.json").write_text(json.dumps(results))
    (tmp_path / "cut.json").write_text(json.dumps(results)[:-40])
    (tmp_path / "bad.json").write_text("{'a': 1}")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00\x81")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    good = evaluate_coco_keypoints(str(tmp_path / "gt.json"), tmp_path / "dt.json")
    assert difference(good, official(gt, results)) < 1e-12
    check(tmp_path / "no.json", results, "no.json does not exist")
    check(gt, tmp_path / "cut.json", "cut.json is truncated or no JSON")
    check(tmp_path / "bad.json", results, "line 1 column 2")
    check(tmp_path / "bytes.json", results, "bytes.json is no JSON: it is not text")
    check(tmp_path / "deep.json", results, "deep.json is no JSON that can be read: it is nested too deeply")
    check(tmp_path, results, "is a folder")
    check(tmp_path / "dt.json", results, "no COCO annotation file")
    check(gt, tmp_path / "gt.json", "no COCO results file")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda r: r.update(image_id=12345), r"result \[3\] has image_id 12345"),
        (lambda r: r.update(keypoints=r["keypoints"][:-1]), r"result \[3\].*50 numbers, needed are 51"),
        (lambda r: r.pop("score"), r"result \[3\].*no 'score'"),
        (lambda r: r.update(score=float("nan")), r"result \[3\].*score holds NaN"),
        (lambda r: r["keypoints"].__setitem__(4, float("nan")), r"result \[3\].*keypoints holds NaN"),
        (lambda r: r["keypoints"].__setitem__(4, "x"), r"result \[3\].*no number"),
        (lambda r: r.update(score="high"), r"result \[3\].*no number"),
        (lambda r: r.update(keypoints=7), r"result \[3\].*keypoints has 7"),
    ],
)
def test_wrong_results(content, change, match):
    gt, results = content
    change(results[3])
    check(gt, results, match)


def test_wrong_annotations(content):
    gt, results = content

    def changed(**fields):
        other = copy.deepcopy(gt)
        other["annotations"][2].update(fields)
        return other

    check(changed(id=1), results, "annotation id 1 is given 2 times")
    check(changed(keypoints=[1.0] * 42), results, r"annotations\[2\] \(id 3\): keypoints has 42 numbers")
    missing = changed()
    del missing["annotations"][2]["keypoints"]
    check(missing, results, r"annotations\[2\] \(id 3\) has no 'keypoints'")
    check(changed(area=float("inf")), results, r"area holds NaN or infinity")


def test_entries_of_another_form_are_named(content):
    gt, results = content
    check({**gt, "images": [3]}, results, r"images\[0\] has no id")
    check({**gt, "annotations": [3]}, results, r"annotations\[0\] is no object")


def test_categories_and_first_box(content):
    gt, results = content
    check(gt, [{**r, "category_id": 9} for r in results], "category_id 9")
    results[0]["bbox"] = [0.0, 0.0, 5.0, 5.0]
    check(gt, results, r"result \[1\].*no 'bbox', but the first result has one")


def test_results_of_a_category_without_people_are_told(content, recwarn):
    gt, results = content
    gt["categories"] = [{**gt["categories"][0], "id": 0}, {"id": 1, "name": "ball"}]
    for entry in gt["annotations"]:
        entry["category_id"] = 0
    evaluate_coco_keypoints(gt, [{**r, "category_id": 0} for r in results])
    evaluate_coco_keypoints(gt, [{**results[0], "category_id": 0}, *results[1:]])
    evaluate_coco_keypoints(gt, [])
    assert not recwarn
    line = r"all results are of categories \[1\], of which the ground truth has no labelled people; those .* \[0\]"
    with pytest.warns(UserWarning, match=line):
        assert evaluate_coco_keypoints(gt, results)["AP"] == 0


def test_what_other_categories_have_is_left_alone(content):
    gt, results = content
    expected = evaluate_coco_keypoints(gt, results)
    first = gt["annotations"][0]
    image, box = first["image_id"], first["bbox"]
    people = {**gt["categories"][0], "keypoints": list(COCO17.joints)}
    gt["categories"] = [people, {"id": 7, "name": "ball"}, {"id": 8, "name": "horse", "keypoints": ["nose", "tail"]}]
    ball = {"id": 9001, "image_id": image, "category_id": 7, "bbox": box}
    horse = {**ball, "id": 9002, "category_id": 8, "keypoints": [1, 1, 2, 5, 5, 2], "area": 9}
    gt["annotations"] += [ball, horse]
    assert evaluate_coco_keypoints(gt, results) == expected
    with pytest.warns(UserWarning, match=r"all results are of categories \[7\]"):
        assert evaluate_coco_keypoints(gt, [{**r, "category_id": 7} for r in results])["AP"] == 0
    with pytest.raises(UserError, match="keypoints has 6 numbers"):
        evaluate_coco_keypoints(gt, [{**results[0], "category_id": 8}])
    gt["categories"] = [{"id": n, "name": str(n)} for n in (1, 7, 8)]
    with pytest.raises(UserError, match=r"id 9001\) has no 'keypoints'"):
        evaluate_coco_keypoints(gt, results)


def test_ap_by_joint_is_that_of_a_file_with_the_joint_alone(content):
    gt, results = content
    found = evaluate_coco_keypoints(gt, results, groups={"nose": [0], "none": []})
    assert found["AP/none"] == -1
    for entry in gt["annotations"]:
        entry["keypoints"][3:] = [0.0] * 48
        entry["num_keypoints"] = int(entry["keypoints"][2] > 0)
    assert found["AP/nose"] == pytest.approx(official(gt, results)["AP"], abs=1e-12)


def test_entries_that_would_be_lost_or_counted_twice(content):
    gt, results = content
    twice = [*gt["categories"], gt["categories"][0]]
    check({**gt, "categories": twice}, results, "two categories have one id")
    check({**gt, "images": [*gt["images"], gt["images"][0]]}, results, "image id 0 is given more than once")
    check(gt, [{**results[0], "image_id": []}], "has a wrong image_id")
    check(gt, [{**results[0], "score": [0.5]}], "score holds something that is no number")
    other = copy.deepcopy(gt)
    other["annotations"][1]["num_keypoints"] = "x"
    check(other, results, "num_keypoints holds something that is no number")
    other["annotations"][1].update(num_keypoints=3, iscrowd="0")
    check(other, results, "an iscrowd other than 0 or 1")
    other["annotations"][1].update(iscrowd=0, category_id=7)
    with pytest.warns(UserWarning, match="1 annotations of categories \\[7\\] are left out"):
        got = evaluate_coco_keypoints(other, results)
    assert difference(got, official(other, results)) < 1e-12


def test_warnings(content):
    gt, results = content
    with pytest.warns(UserWarning, match="results repeat another one"):
        got = evaluate_coco_keypoints(gt, [*results, results[0]])
    assert difference(got, official(gt, [*results, results[0]])) < 1e-12
    gt["annotations"].append({**gt["annotations"][0], "id": 999, "image_id": 777})
    with pytest.warns(UserWarning, match="1 annotations belong to images that the file does not list"):
        evaluate_coco_keypoints(gt, results)


def test_joints_in_another_order_than_the_set_s_are_told(content, recwarn):
    gt, results = content
    gt = copy.deepcopy(gt)
    gt["categories"][0]["keypoints"] = list(COCO17.joints)
    evaluate_coco_keypoints(gt, results)
    assert not [w for w in recwarn if "another order" in str(w.message)]
    gt["categories"][0]["keypoints"] = [joint.title() for joint in COCO17.joints[::-1]]
    with pytest.warns(UserWarning, match="its joints stand in another order than COCO17's"):
        evaluate_coco_keypoints(gt, results)


def test_optional_fields_and_no_results(content):
    gt, results = content
    assert evaluate_coco_keypoints(gt, [])["AP"] == 0
    want = official(gt, results)
    for a in gt["annotations"]:
        del a["num_keypoints"]
        if not a["iscrowd"]:
            del a["iscrowd"]
    assert difference(evaluate_coco_keypoints(gt, results), want) < 1e-12


def test_command(tmp_path, content, capsys):
    gt, results = content
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "dt.json").write_text(json.dumps(results))
    out = tmp_path / "out.json"
    run(["coco", str(tmp_path / "gt.json"), str(tmp_path / "dt.json"), "--json", str(out)])
    assert difference(json.loads(out.read_text()), official(gt, results)) < 1e-12
    printed = capsys.readouterr().out
    assert "0.50:0.95" in printed
    by_joint = [f"AP/{joint}" for joint in COCO17.joints]
    assert list(json.loads(out.read_text())) == [*NAMES, *by_joint]
    assert "by joint" in printed
    assert set(COCO17.joints) <= set(printed.split())
    for argv in (["coco"], ["nonsense", "a", "b"], [], ["coco", "a", "b"], ["coco", "a", "b", "--skeleton", "COCO18"]):
        with pytest.raises(UserError):
            run(argv)
    run(["coco", str(tmp_path / "gt.json"), str(tmp_path / "dt.json"), "--json", str(tmp_path / "new" / "o.json")])
    assert (tmp_path / "new" / "o.json").exists()
