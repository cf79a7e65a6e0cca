import numpy as np
import pytest

from posekit.data.mocap.asf_amc import read_amc, read_asf
from posekit.data.mocap.bvh import read_bvh
from posekit.data.mocap.expmap import CMU_UNIT, expmap_points, read_expmap_skeleton
from posekit.data.mocap.sequence import z_up
from posekit.errors import UserError
from tests.shared import SHARED, requires_shared

ASF = """# a skeleton of three bones
:version 1.10
:units
  mass 1.0
  length 0.5
  angle deg
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
  begin
     id 1
     name lhipjoint
     direction 1 0 0
     length 2
     axis 0 0 0 XYZ
  end
  begin
     id 2
     name lfemur
     direction 0 -2 0
     length 4
     axis 0 0 90 XYZ
    dof rx ry rz
    limits (-160.0 20.0)
           (-70.0 70.0)
           (-60.0 70.0)
  end
  begin
     id 3
     name ltibia
     direction 0 -1 0
     length 3
     axis 0 0 0 XYZ
    dof rx
  end
:hierarchy
  begin
    root lhipjoint
    lhipjoint lfemur
    lfemur ltibia
  end
"""
AMC = """#!OML:ASF
:FULLY-SPECIFIED
:DEGREES
1
root 1 2 3 0 0 0
lfemur 0 0 0
ltibia 0
2
root 1 2 3 0 90 0
lfemur 0 90 0
ltibia 0
"""
UNIT = 0.0254 / 0.5


@pytest.fixture
def skeleton(tmp_path):
    (tmp_path / "1.asf").write_text(ASF)
    return tmp_path / "1.asf"


def test_asf_amc_by_hand(tmp_path, skeleton):
    (tmp_path / "1_1.amc").write_text(AMC)
    points = read_amc(tmp_path / "1_1.amc", read_asf(skeleton)) / UNIT
    root, hip, knee, ankle = points[0]
    # y up becomes z up: (x, y, z) -> (x, -z, y).
    np.testing.assert_allclose(root, [1, -3, 2], atol=1e-9)
    np.testing.assert_allclose(hip - root, [2, 0, 0], atol=1e-9)
    np.testing.assert_allclose(knee - hip, [0, 0, -4], atol=1e-9)  # the direction's length does not matter
    np.testing.assert_allclose(ankle - knee, [0, 0, -3], atol=1e-9)
    # Frame 2: the root turns by 90 degrees about y: x -> -z (of the file). The femur's own y axis is the file's -x (its
    # frame is turned by 90 degrees about z), so its 90 degrees take -y to +z of the hip's frame, and +z to +x outside.
    root, hip, knee, ankle = points[1]
    np.testing.assert_allclose(hip - root, [0, 2, 0], atol=1e-9)
    np.testing.assert_allclose(knee - hip, [4, 0, 0], atol=1e-9)
    np.testing.assert_allclose(ankle - knee, [3, 0, 0], atol=1e-9)


def test_a_motion_without_frames(tmp_path, skeleton):
    (tmp_path / "1_1.amc").write_text(":FULLY-SPECIFIED\n:DEGREES\n")
    assert read_amc(tmp_path / "1_1.amc", read_asf(skeleton)).shape == (0, 4, 3)


def test_radians(tmp_path, skeleton):
    (tmp_path / "1_1.amc").write_text(AMC.replace("DEGREES", "RADIANS").replace("90", str(np.pi / 2)))
    (tmp_path / "1_2.amc").write_text(AMC)
    asf = read_asf(skeleton)
    np.testing.assert_allclose(read_amc(tmp_path / "1_1.amc", asf), read_amc(tmp_path / "1_2.amc", asf), atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("", ""), None),
        (("lfemur 0 90 0", "lfemur 0 90"), r"line 10 \(frame 2\): bone 'lfemur' has 2 numbers, expected 3"),
        (("lfemur 0 90 0", "lfemur 0 x 0"), "line 10 has 'x' where a number belongs"),
        (("\n2\n", "\n3\n"), "line 8 has frame '3', expected 2"),
        (("lfemur 0 90 0\n", ""), "frame 2 is cut short: it lacks bone lfemur"),
        (("ltibia 0\n2", "rtibia 0\n2"), r"bone 'rtibia' is no moving bone of its skeleton"),
        (("\n1\n", "\n"), "line 4 has frame .* expected 1|no frame number before the first bone|frame '2', expected 1"),
        ((AMC, "nothing"), "is no AMC file|line 1"),
        ((AMC, ""), "is empty"),
    ],
)
def test_faults_of_a_motion_are_named(tmp_path, skeleton, change, message):
    path = tmp_path / "1_1.amc"
    path.write_text(AMC.replace(*change) if change[0] else AMC)
    if message is None:
        assert len(read_amc(path, read_asf(skeleton))) == 2
        return
    with pytest.raises(UserError, match=message) as raised:
        read_amc(path, read_asf(skeleton))
    assert "1_1.amc" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("length 0.5", "length 0"), "units length is 0, but must be positive"),
        (("angle deg", "angle grad"), "units angle is 'grad'"),
        (("   axis XYZ", "   axis"), "root has axis '', expected an order of x, y and z"),
        (("   axis XYZ", "   axis XYA"), "root has axis 'xya'"),
        (("direction 0 -1 0\n", ""), "bone ltibia has no direction"),
        (("direction 0 -1 0", "direction 0 0 0"), "bone ltibia has a direction of length 0"),
        (("lfemur ltibia", "lfemur lfoot"), "names bone 'lfoot', which is not in bonedata"),
        (("root lhipjoint\n", ""), "names bone 'lhipjoint' as a parent before it has one itself"),
        (("dof rx\n", "dof rq\n"), "dof 'rq'"),
        ((":hierarchy", ":other"), "is no ASF file: it has no section :hierarchy"),
        (("length 3", "length long"), "bone ltibia has length 'long', expected 1 finite numbers"),
        (("name ltibia\n", ""), "has no name of its own"),
    ],
)
def test_faults_of_a_skeleton_are_named(tmp_path, change, message):
    path = tmp_path / "1.asf"
    path.write_text(ASF.replace(*change))
    with pytest.raises(UserError, match=message) as raised:
        read_asf(path)
    assert "1.asf" in str(raised.value)


BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation
  JOINT LeftUpLeg
  {
    OFFSET 2 0 0
    CHANNELS 3 Zrotation Yrotation Xrotation
    JOINT LeftLeg
    {
      OFFSET 0 -4 0
      CHANNELS 3 Zrotation Yrotation Xrotation
      End Site
      {
        OFFSET 0 -3 0
      }
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.0333333
1 2 3 0 0 0 0 0 0 0 0 0
1 2 3 90 0 0 0 0 90 0 0 0
"""


def test_bvh_by_hand(tmp_path):
    (tmp_path / "a.bvh").write_text(BVH)
    motion = read_bvh(tmp_path / "a.bvh")
    assert [joint.name for joint in motion.joints] == ["Hips", "LeftUpLeg", "LeftLeg", "LeftLeg_end"]
    assert motion.fps == pytest.approx(30, abs=1e-3)
    points = motion.points()
    np.testing.assert_allclose(points[0], [[1, 2, 3], [3, 2, 3], [3, -2, 3], [3, -5, 3]], atol=1e-9)
    # The root turns about z: x -> y, and -y -> x; the leg then about its own x: -y -> -z, which z leaves alone.
    np.testing.assert_allclose(points[1], [[1, 2, 3], [1, 4, 3], [1, 4, -1], [1, 4, -4]], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("Frame Time: 0.0333333", "Frame Time: 0"),
            "Frame Time is 0 s, but must be positive: its frame rate is not known",
        ),
        (("Frame Time: 0.0333333\n", ""), "line 23 should say Frame Time"),
        (("Frames: 2", "Frames: 3"), "has 2 frames, but says Frames: 3"),
        (("1 2 3 90 0 0 0 0 90 0 0 0", "1 2 3 90"), "line 25 has 4 numbers, expected 12"),
        (("CHANNELS 3 Zrotation Yrotation Xrotation", "CHANNELS 3 Zrotation Yrotation"), "CHANNELS '3 Zrotation"),
        (("OFFSET 2 0 0", "OFFSET 2 0"), "an OFFSET that is not three finite numbers"),
        (("MOTION", "MOVES"), "'MOVES', which cannot stand there"),
        (("}\nMOTION", "MOTION"), "before the hierarchy is closed"),
        (("HIERARCHY", "hello"), "is no BVH file"),
        ((BVH[BVH.index("MOTION") :], ""), "is cut short: it has no MOTION"),
    ],
)
def test_faults_of_a_bvh_are_named(tmp_path, change, message):
    path = tmp_path / "a.bvh"
    path.write_text(BVH.replace(*change))
    with pytest.raises(UserError, match=message):
        read_bvh(path)


@pytest.mark.parametrize(
    "text",
    [
        BVH.replace("\n{", " {").replace("\n  {", " {").replace("\n    {", "{").replace("\n      {", " {"),
        BVH.replace("OFFSET 0 -3 0\n      }\n    }", "OFFSET 0 -3 0 } }"),
        "\ufeff" + BVH,
        "\n  \n" + BVH,
    ],
    ids=["brace on the joint's line", "closing braces on one line", "byte order mark", "blank lines first"],
)
def test_other_layouts_of_a_bvh(tmp_path, text):
    assert text != BVH
    for name, content in (("a.bvh", BVH), ("b.bvh", text)):
        (tmp_path / name).write_text(content, encoding="utf-8")
    plain, other = (read_bvh(tmp_path / name) for name in ("a.bvh", "b.bvh"))
    assert other.joints == plain.joints
    np.testing.assert_array_equal(other.values, plain.values)


def test_lines_of_a_bvh_are_counted_from_the_file_s_first(tmp_path):
    (tmp_path / "a.bvh").write_text("\n" + BVH.replace("OFFSET 2 0 0", "OFFSET 2 0"))
    with pytest.raises(UserError, match="line 9 has an OFFSET"):
        read_bvh(tmp_path / "a.bvh")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1"])
def test_names_of_an_asf_and_amc_in_either_encoding(tmp_path, encoding):
    for name, content in (("1.asf", ASF), ("1_1.amc", AMC)):
        (tmp_path / name).write_text(content.replace("lfemur", "hüfte"), encoding=encoding)
    skeleton = read_asf(tmp_path / "1.asf")
    assert [bone.name for bone in skeleton.bones] == ["root", "lhipjoint", "hüfte", "ltibia"]
    assert read_amc(tmp_path / "1_1.amc", skeleton).shape == (2, 4, 3)


def test_z_up_is_a_rotation():
    turn = z_up(np.eye(3)).T
    np.testing.assert_allclose(turn @ turn.T, np.eye(3))
    assert np.linalg.det(turn) == pytest.approx(1)
    np.testing.assert_allclose(z_up(np.array([0.0, 1, 0])), [0, 0, 1])


# -- the real files ---------------------------------------------------------------------------------------------------

CMU = SHARED / "data" / "cmu_asf_amc"
ARCHIVE = SHARED / "data" / "cmu_mocap"


@requires_shared
@pytest.mark.parametrize(("subject", "trial"), [("02", "01"), ("03", "01")])
def test_bones_of_real_subjects_do_not_change_and_are_their_own(subject, trial):
    skeleton = read_asf(CMU / f"{subject}.asf")
    points = read_amc(CMU / f"{subject}_{trial}.amc", skeleton)
    parents = np.array([max(bone.parent, 0) for bone in skeleton.bones])
    lengths = np.linalg.norm(points - points[:, parents], axis=-1)
    np.testing.assert_allclose(
        lengths, np.tile([np.linalg.norm(b.offset) for b in skeleton.bones], (len(points), 1)), atol=1e-9
    )
    thigh = lengths[0, [b.name for b in skeleton.bones].index("lfemur")]
    assert thigh == pytest.approx({"02": 0.4286, "03": 0.4035}[subject], abs=1e-3)


@requires_shared
def test_the_two_formats_of_one_recording_agree():
    """CMU's 02_01 is the archive's walking_1 on a skeleton without the thorax's bone."""
    skeleton = read_asf(CMU / "02.asf")
    raw = read_amc(CMU / "02_01.amc", skeleton)
    common = read_expmap_skeleton(ARCHIVE / "skeleton.npz")
    with np.load(ARCHIVE / "train_120hz.npz") as archive:
        other = expmap_points(common, archive["walking_1"])
    np.testing.assert_allclose(other[:, 0], raw[:, 0], atol=1e-5)
    names = [bone.name for bone in skeleton.bones]
    bones = {
        "lfemur": ("lhipjoint", "LeftUpLeg", "LeftLeg"), "rtibia": ("rfemur", "RightLeg", "RightFoot"),
        "lfoot": ("ltibia", "LeftFoot", "LeftToeBase"), "lhumerus": ("lclavicle", "LeftArm", "LeftForeArm"),
        "rradius": ("rhumerus", "RightForeArm", "RightHand"), "head": ("upperneck", "Head", "Head_end"),
        "lclavicle": ("thorax", "LeftShoulder", "LeftArm"), "upperback": ("lowerback", "Spine", "Spine1"),
    }  # fmt: skip
    for bone, (start, first, second) in bones.items():
        mine = raw[:, names.index(bone)] - raw[:, names.index(start)]
        theirs = other[:, common.names.index(second)] - other[:, common.names.index(first)]
        np.testing.assert_allclose(np.linalg.norm(mine, axis=-1), np.linalg.norm(theirs, axis=-1), atol=1e-6)
        cosine = (mine * theirs).sum(-1) / np.linalg.norm(mine, axis=-1) / np.linalg.norm(theirs, axis=-1)
        assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 1.0, bone
    assert pytest.approx(0.056444, abs=1e-6) == CMU_UNIT
