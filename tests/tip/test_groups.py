"""Part groups and slots."""

import pytest
import torch

from posekit.errors import UserError
from posekit.posetrack import SLOTS_2018
from posekit.skeletons import COCO17, POSETRACK15, SKELETONS
from posekit_tip.groups import coco_rows, default_groups, resolve_groups, slot_indices


def test_posetrack_has_a_head_and_four_limbs_of_three():
    groups = default_groups(POSETRACK15)
    assert list(groups) == ["head", "left_arm", "right_arm", "left_leg", "right_leg"]
    assert set(groups["head"]) == {"nose", "head_bottom", "head_top"}
    assert groups["right_leg"] == ["right_hip", "right_knee", "right_ankle"]
    slots = {name: sorted(SLOTS_2018.index(j) for j in joints) for name, joints in groups.items()}
    page = {"head": [0, 1, 2], "left_arm": [5, 7, 9], "right_arm": [6, 8, 10]}
    assert slots == page | {"left_leg": [11, 13, 15], "right_leg": [12, 14, 16]}


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_every_joint_set_is_divided_and_a_flip_swaps_the_sides(skeleton):
    named = default_groups(skeleton)
    groups = dict(zip(named, resolve_groups(None, skeleton), strict=True))
    assert sorted(j for group in groups.values() for j in group) == list(range(len(skeleton)))
    mirrored = {name: {skeleton.flip_index[j] for j in group} for name, group in groups.items()}
    for name, group in mirrored.items():
        other = name.replace("left", "\0").replace("right", "left").replace("\0", "right")
        assert group == set(groups[other])


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        ({"all": ["nose"]}, "no group has right_ankle"),
        ({"a": list(POSETRACK15.joints), "b": ["nose"]}, "nose is in more than one"),
        ({"a": ["nos"]}, "nose"),
        ({"a": []}, "at least one"),
        ({"a": "nose"}, "lists"),
        ({}, "lists"),
    ],
)
def test_groups_that_do_not_divide_the_joints_are_refused(groups, text):
    with pytest.raises(UserError, match=text) as caught:
        resolve_groups(groups, POSETRACK15)
    assert "\n" not in str(caught.value)


def test_slots_are_found_by_name():
    assert slot_indices(POSETRACK15, None) is None
    assert slot_indices(POSETRACK15, 15) is None
    assert slot_indices(COCO17, 17) is None
    # The method page's map of 17 slots to poseval's 15 ids.
    assert slot_indices(POSETRACK15, 17) == (16, 14, 12, 11, 13, 15, 10, 8, 6, 5, 7, 9, 1, 0, 2)
    for skeleton, number in ((POSETRACK15, 16), (COCO17, 15)):
        with pytest.raises(UserError, match="num_slots"):
            slot_indices(skeleton, number)


def test_a_coco_head_is_fitted_by_name():
    head = {
        "final_layer.weight": torch.arange(17.0)[:, None],
        "final_layer.bias": torch.arange(17.0),
        "x": torch.ones(17),
    }
    fitted = coco_rows(head, POSETRACK15, 15)
    names = [COCO17.joints[int(i)] for i in fitted["final_layer.bias"]]
    assert names == [{"head_bottom": "left_eye", "head_top": "right_eye"}.get(j, j) for j in POSETRACK15.joints]
    assert fitted["final_layer.weight"].shape == (15, 1)
    assert fitted["x"].shape == (17,)
    assert coco_rows(head, POSETRACK15, 17)["final_layer.bias"] is head["final_layer.bias"]
    other = {"final_layer.bias": torch.zeros(15)}
    assert torch.equal(coco_rows(other, POSETRACK15, 15)["final_layer.bias"], other["final_layer.bias"])
