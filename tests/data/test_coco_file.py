import json
import logging
import re

import pytest

from posekit.data.coco_file import escapes_folder, outside_fault, read_coco
from posekit.errors import UserError
from posekit.json_file import whole
from posekit.skeletons import COCO17, MPII16


def first(content):
    return content["annotations"][0]


def setter(key, value):
    return lambda content: first(content).__setitem__(key, value)


FAULTS = {
    "short": (lambda c: first(c)["keypoints"].pop(), "annotation 1 has 50 keypoint numbers, expected 51"),
    "text": (setter("keypoints", "abc"), "annotation 1 has 0 keypoint numbers, expected 51"),
    "nan": (lambda c: first(c)["keypoints"].__setitem__(4, float("nan")), "annotation 1 .*not finite.*NaN"),
    "inf": (lambda c: first(c)["keypoints"].__setitem__(4, float("inf")), "annotation 1 .*not finite"),
    "huge": (lambda c: first(c)["keypoints"].__setitem__(4, 10**400), "annotation 1 .*not finite"),
    "null": (lambda c: first(c)["keypoints"].__setitem__(4, None), "annotation 1 .*not finite"),
    "visibility": (lambda c: first(c)["keypoints"].__setitem__(2, 7), "annotation 1 .*visibility other than"),
    "flat box": (setter("bbox", [10, 10, 0, 40]), "annotation 1 has a box of zero size"),
    "box elsewhere": (
        setter("bbox", [900, 10, 20, 40]),
        r"annotation 1 with box \[900, 10, 20, 40\] lies wholly outside the \d+ x \d+ px of its image",
    ),
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


@pytest.mark.parametrize("edge", [-3.2, 99.7])
@pytest.mark.parametrize("axis", [0, 1])
def test_boxes_that_touch_a_picture_by_half_a_pixel_are_not_outside(axis, edge):
    box = [5, 5, 3, 3]
    box[axis] = edge
    assert outside_fault(box, (100, 100), "it") is None
    box[axis] += 0.4 * (1 if edge > 0 else -1)
    assert outside_fault(box, (100, 100), "it").endswith("lies wholly outside the 100 x 100 px of it")
    assert outside_fault(box, (0, 0), "it") is None
    assert outside_fault(box, None, "it") is None


def test_many_faults_are_counted(coco):
    coco.edit(lambda c: [a.pop("bbox") for a in c["annotations"]])
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


NAMES = [str(k) for k in range(17)]
CATEGORIES = {
    "roboflow": [{"id": 0, "name": "people"}, {"id": 1, "name": "pose", "keypoints": NAMES}],
    "capitals": [{"id": 1, "name": "Person"}, {"id": 2, "name": "car"}],
    "joints": [{"id": 7, "name": "dog", "keypoints": NAMES}, {"id": 1, "name": "human", "keypoints": NAMES}],
    "alone": [{"id": 1, "name": "swimmer"}],
    "exact": [{"id": 1, "name": "person"}, {"id": 2, "name": "people"}],
}


@pytest.mark.parametrize("kind", CATEGORIES)
def test_the_peoples_category_is_found(coco, caplog, kind):
    coco.edit(lambda c: c.__setitem__("categories", CATEGORIES[kind]))
    people = read_coco(coco.file(), COCO17)
    assert (people.category, len(people.ids)) == (1, 6)
    assert "people are those of" not in caplog.text


def test_people_of_a_category_without_joints_beside_one_with_joints(coco, caplog):
    def change(content):
        content["categories"] = CATEGORIES["roboflow"]
        first(content)["category_id"] = 0

    coco.edit(change)
    assert len(read_coco(coco.file(), COCO17).ids) == 5
    assert "people are those of category 'pose' (id 1), which has keypoints, not of category 'people' (id 0)" in (
        caplog.text
    )


@pytest.mark.parametrize(
    ("categories", "there"),
    [
        ([{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}], "'cat' (id 1), 'dog' (id 2)"),
        ([{"id": 1, "name": "People"}, {"id": 2, "name": "pedestrian"}], "'People' (id 1), 'pedestrian' (id 2)"),
        ([{"name": "person"}], "none"),
    ],
)
def test_several_or_no_categories_of_people(coco, categories, there):
    coco.edit(lambda c: c.__setitem__("categories", categories))
    with pytest.raises(UserError, match=f"named 'person' .*there are: {re.escape(there)}"):
        read_coco(coco.file(), COCO17)


@pytest.mark.parametrize("absent", [None, []])
def test_people_without_keypoints_are_unlabelled(coco, caplog, absent):
    def change(content):
        first(content)["keypoints"] = absent
        content["annotations"][1].pop("keypoints")

    coco.edit(change)
    people = read_coco(coco.file(), COCO17)
    assert people.labelled.tolist() == [False, False, True, False, True, False]
    assert people.num_keypoints[0] == 0
    assert people.skipped == 0
    assert 0 in people.segmentations  # bottom-up losses leave it out
    assert "2 people without keypoints, taken as unlabelled" in caplog.text


def test_whole_numbers_written_as_floats(coco):
    def change(content):
        for image in content["images"]:
            image |= {"id": float(image["id"]), "width": 320.0}
        for annotation in content["annotations"]:
            annotation |= {key: float(annotation[key]) for key in ("id", "image_id", "category_id", "num_keypoints")}

    straight = read_coco(coco.file(), COCO17)
    coco.edit(change)
    people = read_coco(coco.file(), COCO17)
    for name in ("image_ids", "image_sizes", "ids", "image_rows", "num_keypoints"):
        assert getattr(people, name).tolist() == getattr(straight, name).tolist(), name
    assert [whole(v) for v in (785.0, 785, 1.5, 1e17, float("inf"), float("nan"), True, "1")] == [785, 785, *[None] * 6]
    coco.edit(lambda c: first(c).__setitem__("id", 1.5))
    with pytest.raises(UserError, match=r"annotation 1\.5 has no integer id"):
        read_coco(coco.file(), COCO17)


def test_fields(coco):
    content = json.loads(coco.file().read_text())
    people = read_coco(coco.file(), COCO17)
    assert people.keypoints.shape == (6, 17, 3)
    assert people.keypoints[0].ravel().tolist() == first(content)["keypoints"]
    assert people.labelled.tolist() == [True, False] * 3
    assert people.iscrowd.tolist() == [False, True, False, False, False, False]
    assert set(people.segmentations) == {1, 3, 5}
