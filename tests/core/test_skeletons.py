import numpy as np
import pytest

from posekit.errors import UserError
from posekit.skeletons import COCO17, H36M17, MPII16, SKELETONS, SPIN49, get_skeleton


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_flip_is_an_involution_and_swaps_sides(skeleton):
    flip = np.array(skeleton.flip_index)
    assert (flip[flip] == np.arange(len(skeleton))).all()
    for i, j in skeleton.flip_pairs:
        assert {skeleton.joints[i].count("left"), skeleton.joints[j].count("left")} == {0, 1}


@pytest.mark.parametrize("skeleton", [s for s in SKELETONS.values() if s.parents], ids=lambda s: s.name)
def test_parents_form_one_tree(skeleton):
    assert sum(p < 0 for p in skeleton.parents) == 1
    for joint in range(len(skeleton)):
        seen = set()
        while joint >= 0:
            assert joint not in seen
            seen.add(joint)
            joint = skeleton.parents[joint]


def test_sizes_and_official_values():
    assert [len(s) for s in SKELETONS.values()] == [17, 16, 15, 17, 14, 14, 24, 49, 17]
    assert COCO17.sigmas[0] == 0.026
    assert COCO17.flip_pairs == ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16))
    assert MPII16.joints[6:8] == ("pelvis", "thorax")
    assert SPIN49.joints[25] == "right_ankle"


def test_map_between_sets_is_by_name():
    index = COCO17.map_to(H36M17)
    assert index[H36M17.index("left_wrist")] == COCO17.index("left_wrist")
    assert index[H36M17.index("spine")] == -1


def test_unknown_names_get_one_line_with_the_nearest():
    with pytest.raises(UserError, match="COCO17") as caught:
        get_skeleton("COCO18")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="left_wrist"):
        COCO17.index("left_wirst")
