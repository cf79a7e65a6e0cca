"""Joint names of COCO-format files: the set's own in any spelling and order, none at all, and others."""

import logging

import numpy as np
import pytest

from posekit.data.coco_file import read_coco
from posekit.errors import UserError
from posekit.joint_names import match_joints, sets_of
from posekit.skeletons import COCO17, CROWDPOSE14, H36M17, MPII16, SKELETONS

SPELLINGS = {
    "title": lambda joint: joint.replace("_", " ").title(),
    "upper": str.upper,
    "dots": lambda joint: joint.replace("left_", "L. ").replace("right_", "R. "),
    "letters": lambda joint: joint.replace("left_", "L_").replace("right_", "r-"),
    "humps": lambda joint: "".join(word.title() for word in joint.split("_")),
    "behind": lambda joint: "-".join((*joint.split("_")[1:], joint.split("_")[0])) if "t_" in joint else joint,
    "joined": lambda joint: joint.replace("left_", "l").replace("right_", "r"),
    "closed": lambda joint: joint.replace("_", ""),
    "counted": lambda joint: f"{len(joint)}_{joint}",
    "counted behind": lambda joint: f"{joint}_{len(joint)}",
    "begun alike": lambda joint: f"kp_{joint}",
    "ended alike": lambda joint: f"{joint} point",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", [name for name in SKELETONS if name != "SPIN49"])
def test_spelling_does_not_matter_and_order_is_found(name, spelling):
    skeleton = SKELETONS[name]
    names = [SPELLINGS[spelling](joint) for joint in skeleton.joints]
    assert match_joints(names, skeleton) == (None, "", "")
    order = np.random.default_rng(0).permutation(len(names)).tolist()
    match = match_joints([names[k] for k in order], skeleton)
    assert [order[k] for k in match.order] == list(range(len(names)))
    assert name in sets_of(names)


def test_names_of_the_trunk_that_differ_among_data_sets():
    limbs = list(CROWDPOSE14.joints[:12])
    assert match_joints([*limbs, "head", "neck"], CROWDPOSE14) == (None, "", "")  # the official files
    assert match_joints(["neck", "head", *limbs], CROWDPOSE14).order == [*range(2, 14), 1, 0]
    names = ["root" if joint == "pelvis" else joint for joint in MPII16.joints]
    assert match_joints(names, MPII16) == (None, "", "")


@pytest.mark.parametrize("names", [[f"kp_{k}" for k in range(17)], [str(k) for k in range(17)], ["nariz", "ojo"] * 8])
def test_joints_without_a_known_name_are_taken_by_their_places(coco, caplog, names):
    names = [*names, "x"][:17]
    coco.edit(lambda c: c["categories"][0].__setitem__("keypoints", names))
    with caplog.at_level(logging.WARNING):
        people = read_coco(coco.file(), COCO17)
    assert caplog.text.count(f"joints {', '.join(names[:3])}, … are taken by their places, as nose, left_eye") == 1
    assert people.keypoints[0].ravel().tolist() == first_keypoints(coco)


def first_keypoints(coco):
    content = {}
    coco.edit(content.update)
    return content["annotations"][0]["keypoints"]


def test_a_file_in_another_order_is_put_in_the_sets(coco, caplog):
    order = np.random.default_rng(1).permutation(17)
    straight = read_coco(coco.file(), COCO17).keypoints

    def change(content):
        content["categories"][0]["keypoints"] = [COCO17.joints[k].replace("_", " ").title() for k in order]
        for annotation in content["annotations"]:
            annotation["keypoints"] = np.reshape(annotation["keypoints"], (17, 3))[order].ravel().tolist()

    coco.edit(change)
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(read_coco(coco.file(), COCO17).keypoints, straight)
    assert "put in the order of COCO17, which results have, too" in caplog.text


WRONG = {
    "another set": (
        H36M17.joints,
        r"pelvis, spine, thorax, neck, head_top are not of it \(they are H36M17's: COCO",
    ),
    "posetrack": (("nose", "head_bottom", "head_top", *COCO17.joints[3:]), r"head_bottom, head_top are not of it"),
    "feet": ((*COCO17.joints[:15], "left_foot", "right_foot"), r"left_foot, right_foot are not of it \(--data.ann"),
    "own words": ((*COCO17.joints[:16], "tail"), "tail is not of it"),
    "numbers elsewhere": (("1", *COCO17.joints[:16]), "1 is not of it"),
    "twice": (("nose", *COCO17.joints[:16]), "nose is named twice"),
}


@pytest.mark.parametrize("case", WRONG)
def test_names_of_other_joints_are_refused(coco, case):
    names, message = WRONG[case]
    coco.edit(lambda c: c["categories"][0].__setitem__("keypoints", list(names)))
    with pytest.raises(UserError, match="joints are not those of skeleton COCO17: .*" + message) as error:
        read_coco(coco.file(), COCO17, "skip")
    assert str(coco.file()) in str(error.value)
    assert "\n" not in str(error.value)


def test_another_number_of_joints_names_the_set_they_are_of(coco):
    coco.edit(lambda c: c["categories"][0].__setitem__("keypoints", list(MPII16.joints)))
    with pytest.raises(UserError, match=r"16 joints, skeleton COCO17 has 17 .*--data.annotated_skeleton MPII16"):
        read_coco(coco.file(), COCO17)


def test_numbers_beside_names_in_their_places_are_taken(coco, caplog):
    coco.edit(lambda c: c["categories"][0].__setitem__("keypoints", [*COCO17.joints[:15], "15", "16"]))
    read_coco(coco.file(), COCO17)
    assert "joints 15, 16 are taken by their places, as left_ankle, right_ankle of COCO17" in caplog.text
