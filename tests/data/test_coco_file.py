import json
import logging

import pytest

from posekit.data.coco_file import escapes_folder, read_coco
from posekit.errors import UserError
from posekit.skeletons import COCO17, MPII16


def first(content):
    return content["annotations"][0]


def setter(key, value):
    return lambda content: first(content).__setitem__(key, value)


FAULTS = {
    "no keypoints": (lambda c: first(c).pop("keypoints"), "annotation 1 has no keypoints field"),
    "short": (lambda c: first(c)["keypoints"].pop(), "annotation 1 has 50 keypoint numbers, expected 51"),
    "text": (setter("keypoints", "abc"), "annotation 1 has 0 keypoint numbers, expected 51"),
    "nan": (lambda c: first(c)["keypoints"].__setitem__(4, float("nan")), "annotation 1 .*not finite.*NaN"),
    "inf": (lambda c: first(c)["keypoints"].__setitem__(4, float("inf")), "annotation 1 .*not finite"),
    "huge": (lambda c: first(c)["keypoints"].__setitem__(4, 10**400), "annotation 1 .*not finite"),
    "null": (lambda c: first(c)["keypoints"].__setitem__(4, None), "annotation 1 .*not finite"),
    "visibility": (lambda c: first(c)["keypoints"].__setitem__(2, 7), "annotation 1 .*visibility other than"),
    "flat box": (setter("bbox", [10, 10, 0, 40]), "annotation 1 has a box of zero size"),
    "box elsewhere": (setter("bbox", [900, 10, 20, 40]), "annotation 1 has a box wholly outside its image of"),
    "negative box": (setter("bbox", [10, 10, 20, -4]), "annotation 1 has a box of zero size"),
    "nan box": (setter("bbox", [10, 10, float("nan"), 40]), "annotation 1 has a bbox that is not four finite numbers"),
    "no box": (lambda c: first(c).pop("bbox"), "annotation 1 has no bbox"),
    "short box": (setter("bbox", [1, 2, 3]), "annotation 1 has a bbox that is not four"),
    "stranger": (setter("image_id", 999), "annotation 1 belongs to image 999, which is not listed"),
    "no image": (lambda c: first(c).pop("image_id"), "annotation 1 belongs to image None"),
    "twice": (lambda c: c["annotations"].append(first(c)), "annotation 1 is listed twice"),
    "no id": (lambda c: first(c).pop("id"), "annotation number 0 of the list has no integer id"),
    "area": (setter("area", float("nan")), "annotation 1 has an area that is no finite number"),
    "category": (setter("category_id", "1"), "annotation 1 belongs to category '1', which is not listed"),
    "crowd": (setter("iscrowd", "0"), "annotation 1 has an iscrowd other than 0 or 1: '0'"),
    "no object": (lambda c: c["annotations"].insert(0, 7), "annotation number 0 of the list is no object"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_annotation_is_named_in_one_line_or_skipped(coco, caplog, name):
    change, message = FAULTS[name]
    coco.edit(change)
    with pytest.raises(UserError, match=message) as error:
        read_coco(coco.file(), COCO17)
    assert "\n" not in str(error.value)
    assert str(coco.file()) in str(error.value)
    with caplog.at_level(logging.WARNING):
        people = read_coco(coco.file(), COCO17, "skip")
    assert people.skipped == 1
    assert "left out 1 faulty annotation" in caplog.text


def test_many_faults_are_counted(coco):
    coco.edit(lambda c: [a.pop("keypoints") for a in c["annotations"]])
    with pytest.raises(UserError, match=r"6 faulty annotations: .*annotation 3 .*; and 3 more"):
        read_coco(coco.file(), COCO17)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [', "is truncated or no JSON"),
        ("", "is truncated or no JSON"),
        ("[]", "holds a list, not an object"),
        ("{}", "no list images, annotations, categories"),
        ('{"images": [], "annotations": []}', "no list categories"),
        ('{"images": [], "annotations": {}, "categories": []}', "no list annotations"),
        ('{"images": [], "annotations": [], "categories": []}', "category named 'person'"),
        ("[" * 100_000, "nested too deeply|truncated"),
    ],
)
def test_files_that_are_no_coco_files(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_coco(path, COCO17)
    assert str(path) in str(error.value)


def test_truncated_binary_and_absent_files(coco):
    text = coco.file().read_text()
    coco.file().write_text(text[: len(text) // 2])
    with pytest.raises(UserError, match=r"truncated or no JSON: .* at line 1 column"):
        read_coco(coco.file(), COCO17)
    coco.file().write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="it is not text"):
        read_coco(coco.file(), COCO17)
    coco.file().unlink()
    with pytest.raises(UserError, match="does not exist"):
        read_coco(coco.file(), COCO17)


@pytest.mark.parametrize(
    "name", ["../a.jpg", "/etc/a.jpg", "x/../../a.jpg", "C:\\a.jpg", "..\\a.jpg", "\\\\host\\a.jpg"]
)
def test_file_names_stay_in_the_image_folder(coco, name):
    assert escapes_folder(name)
    coco.edit(lambda c: c["images"][0].__setitem__("file_name", name))
    with pytest.raises(UserError, match="image 0 has a file_name that leads out of the image folder"):
        read_coco(coco.file(), COCO17, "skip")


def test_names_in_sub_folders_are_fine():
    assert not escapes_folder("train2017/0001.jpg")
    assert not escapes_folder("a..b.jpg")


def test_image_sizes_beyond_64_bits_count_as_unknown(coco):
    def change(content):
        content["images"][0]["width"] = 10**30

    coco.edit(change)
    assert read_coco(coco.file(), COCO17).image_sizes[0].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"].append(c["images"][0]), "image 0 is listed twice"),
        (lambda c: c["images"][1].pop("file_name"), "image 1 has no file_name"),
        (lambda c: c["images"][1].__setitem__("id", "x"), "image x has no integer id"),
    ],
)
def test_faulty_image_entries(coco, change, message):
    coco.edit(change)
    with pytest.raises(UserError, match=message):
        read_coco(coco.file(), COCO17)


def test_the_joint_set_must_fit(coco):
    with pytest.raises(UserError, match="17 joints, skeleton MPII16 has 16"):
        read_coco(coco.file(), MPII16)
    coco.edit(lambda c: c["categories"][0].__setitem__("keypoints", list(COCO17.joints[::-1])))
    with pytest.raises(UserError, match="in another order"):
        read_coco(coco.file(), COCO17)


def test_missing_area_and_flat_unlabelled_boxes_are_warned_about(coco, caplog):
    def change(content):
        first(content).pop("area")
        content["annotations"][1]["bbox"] = [5, 5, 10, 0]

    coco.edit(change)
    with caplog.at_level(logging.WARNING):
        people = read_coco(coco.file(), COCO17)
    assert people.area[0] == pytest.approx(0.53 * 120 * 200)
    assert "1 annotations have no area" in caplog.text
    assert "box of zero size: annotation 2" in caplog.text
    assert len(people.ids) == 6


def test_other_categories_are_left_out(coco):
    def change(content):
        content["categories"].append({"id": 7, "name": "dog"})
        content["annotations"].append({"id": 99, "image_id": 0, "category_id": 7, "bbox": [0, 0, 0, 0]})

    coco.edit(change)
    assert 99 not in read_coco(coco.file(), COCO17).ids


def test_fields(coco):
    content = json.loads(coco.file().read_text())
    people = read_coco(coco.file(), COCO17)
    assert people.keypoints.shape == (6, 17, 3)
    assert people.keypoints[0].ravel().tolist() == first(content)["keypoints"]
    assert people.labelled.tolist() == [True, False] * 3
    assert people.iscrowd.tolist() == [False, True, False, False, False, False]
    assert set(people.segmentations) == {1, 3, 5}
