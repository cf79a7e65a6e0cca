import numpy as np
import pytest

from posekit.data.body3d.human36m_files import JOINTS17, JOINTS32
from posekit.data.body3d.mpi_inf_3dhp import TEST_JOINTS, TRAIN_JOINTS
from posekit.data.body3d.penn_action import JOINTS as PENN
from posekit.data.body3d.threedpw import _JOINTS2D
from posekit.data.joint_maps import JointSource, source_of
from posekit.skeletons import COCO17, H36M17, LIMB17, LSP14, MPII16, SKELETONS, SMPL24, SPIN49, get_skeleton
from tests.shared import SHARED, requires_shared


def rows(source, skeleton):
    matrix = source.map_to(skeleton).matrix
    return np.where(matrix.any(1), matrix.argmax(1), -1)


@requires_shared
@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("mpii3d", TRAIN_JOINTS),
        ("mpii3d_test", TEST_JOINTS),
        ("coco", source_of(COCO17)),
        ("mpii", source_of(MPII16)),
        ("common", source_of(LSP14)),
    ],
)
def test_maps_to_spin_are_the_official_ones(name, source):
    with np.load(SHARED / "golden" / "maed" / "data.npz") as golden:
        np.testing.assert_array_equal(rows(source, SPIN49), golden[f"map_{name}_to_spin"])


@requires_shared
def test_3dpw_adds_eyes_and_ears_to_the_official_map():
    with np.load(SHARED / "golden" / "maed" / "data.npz") as golden:
        official = golden["map_3dpw_to_spin"]
    found = rows(_JOINTS2D, SPIN49)
    more = {"left_eye", "right_eye", "left_ear", "right_ear"}
    assert {SPIN49.joints[k] for k in np.flatnonzero(found != official)} == more


@requires_shared
def test_human36m_means_the_same_joints_as_the_official_map():
    with np.load(SHARED / "golden" / "maed" / "data.npz") as golden:
        official, names = golden["map_h36m_to_spin"], golden["names_h36m"].tolist()
    # The official file lists the left leg first, and calls joints by SPIN's names.
    ours = {"neck": "thorax", "head": "Head (H36M)", "spine": "Spine (H36M)"}
    for joint, row, own in zip(SPIN49.joints, official, rows(JOINTS17, SPIN49), strict=True):
        assert (row < 0) == (own < 0), joint
        if row >= 0:
            short = names[row].replace("hip", "pelvis") if names[row] == "hip" else names[row]
            mine = JOINTS17.joints[own]
            side, _, part = mine.partition("_")
            label = side[0] + part if side in ("left", "right") else mine.replace("_", "")
            expected = {"neck": "thorax", "Head (H36M)": "head", "Spine (H36M)": "spine"}.get(short, short)
            assert label == expected, (joint, ours)


def test_nlrd_joints_of_human36m():
    # The page's list, with its 16 as 13 (they coincide) and 9 for the left foot; the pelvis is the middle of the hips.
    expected = [13, 25, 26, 27, 17, 18, 19, 15, 1, 2, 3, 4, 6, 7, 8, 9]
    matrix = JOINTS32.map_to(LIMB17).matrix
    np.testing.assert_array_equal(matrix[1:].argmax(1), expected)
    np.testing.assert_array_equal(np.flatnonzero(matrix[0]), [1, 6])
    assert rows(JOINTS32, H36M17).tolist() == [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]


def test_nlrd_joints_of_the_other_sets():
    np.testing.assert_array_equal(
        rows(TRAIN_JOINTS, LIMB17)[1:], [5, 14, 15, 16, 9, 10, 11, 7, 23, 24, 25, 26, 18, 19, 20, 21]
    )
    np.testing.assert_array_equal(rows(TEST_JOINTS, LIMB17)[1:], [1, 2, 3, 4, 5, 6, 7, 0, 8, 9, 10, -1, 11, 12, 13, -1])
    np.testing.assert_array_equal(
        rows(source_of(SMPL24), LIMB17)[1:], [12, 17, 19, 21, 16, 18, 20, 15, 2, 5, 8, 11, 1, 4, 7, 10]
    )
    np.testing.assert_array_equal(
        rows(source_of(H36M17), LIMB17)[1:], [8, 14, 15, 16, 11, 12, 13, 10, 1, 2, 3, -1, 4, 5, 6, -1]
    )


@pytest.mark.parametrize("name", ["LIMB17", "LSP14", "CROWDPOSE14", "POSETRACK15", "MPII16", "SPIN49", "SMPL24"])
def test_human36m_s_neck_is_no_other_set_s(name):
    own = get_skeleton(name)
    neck = next((joint for joint in ("neck", "head_bottom", "thorax") if joint in own.joints), "")
    thorax, face = (rows(source_of(own), H36M17)[H36M17.index(joint)] for joint in ("thorax", "neck"))
    assert own.joints[thorax] == neck
    assert face == (own.index("head") if name == "SPIN49" else -1)
    assert rows(source_of(H36M17), own)[own.index(neck)] == H36M17.index("thorax")


def test_the_face_is_no_pivot_of_the_skull():
    for own, other in ((SPIN49, SMPL24), (SMPL24, SPIN49)):
        assert rows(source_of(own), other)[other.index("head")] == -1
        assert rows(source_of(own), other)[other.index("left_knee")] >= 0


@pytest.mark.parametrize("source", [JOINTS32, JOINTS17, TRAIN_JOINTS, TEST_JOINTS, PENN, _JOINTS2D])
@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_maps_keep_sides_and_sum_to_one(source, skeleton):
    matrix = source.map_to(skeleton).matrix
    assert set(matrix.sum(1)) <= {0.0, 1.0}
    for joint, row in zip(skeleton.joints, matrix, strict=True):
        own = {source.joints[k].split("_")[0] for k in np.flatnonzero(row)}
        side = joint.removeprefix("op_").split("_")[0]
        if side in ("left", "right"):
            assert own <= {side}, joint


def test_a_set_maps_to_itself():
    for skeleton in SKELETONS.values():
        if skeleton is not LIMB17:
            np.testing.assert_array_equal(source_of(skeleton).map_to(skeleton).matrix, np.eye(len(skeleton)))


def test_weight_of_a_mean_is_the_least_and_unlabelled_points_do_not_leak():
    source = JointSource("test", ("left_hip", "right_hip", "neck"))
    points = np.array([[[0.0, 0, 0], [2, 0, 0], [np.nan, np.nan, np.nan]]])
    mapped = source.map_to(LIMB17)(points, np.array([[1.0, 0.5, 0.0]]))
    np.testing.assert_allclose(mapped.points[0, LIMB17.index("pelvis")], [1, 0, 0])
    assert mapped.weight[0, LIMB17.index("pelvis")] == 0.5
    assert mapped.weight[0, LIMB17.index("neck")] == 0
    assert (mapped.points[0, LIMB17.index("neck")] == 0).all()
    assert mapped.weight[0, LIMB17.index("left_foot")] == 0
    assert np.isfinite(mapped.points).all()
