import numpy as np
import pytest

from posekit.data import Human36M
from posekit.data.body3d.human36m_files import JOINTS17, JOINTS32, Camera, read_cameras
from posekit.data.mocap.euler import euler_matrix
from posekit.errors import UserError
from posekit.skeletons import H36M17, LIMB17, SPIN49
from tests.data3d.cdf_made import write_cdf
from tests.data3d.made import INTRINSICS, brightness, handedness, points_of, project, write_pictures, write_video

h5py = pytest.importorskip("h5py")
FRAMES = 6
CAMERA = "60457274"


def poses():
    points = points_of(JOINTS32.joints, FRAMES)
    return points, project(points)


def write_official(root, subject="S1", action="Walking 1", camera=CAMERA, pictures="video", change=None):
    points, pixels = poses()
    arrays = {"D3_Positions_mono": 1000 * points, "D2_Positions": pixels}
    if change is not None:
        change(arrays)
    for kind, array in arrays.items():
        path = root / subject / "MyPoseFeatures" / kind / f"{action}.{camera}.cdf"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_cdf(path, array.reshape(1, len(array), -1).astype(np.float32), wide=False, row_major=False)
    if pictures == "video":
        write_video(root / subject / "Videos" / f"{action}.{camera}.mp4", FRAMES, (1000, 1002), 50.0)
    elif pictures:
        name = f"{subject}_{action.replace(' ', '_')}.{camera}"
        write_pictures(root / "images" / subject / name, name + "_%06d.jpg", FRAMES, (1000, 1002), 1)
    return root


def data(root, **options):
    return Human36M(
        str(root), **{"augmentation": "none", "image_size": (64, 64), "frames": 3, "window": "chunk", **options}
    )


def test_official_files(tmp_path):
    write_official(tmp_path)
    clips = data(tmp_path, skeleton="LIMB17").dataset("train")
    (track,) = clips.tracks
    assert track.fps == 50
    assert track.name == "S1, Walking 1, camera 60457274"
    assert (track.joints3d_weight == 1).all()
    np.testing.assert_allclose(
        project(track.joints3d)[:, 1:], track.joints[:, 1:, :2], atol=0.05
    )  # float32 files in mm and px
    np.testing.assert_allclose(track.camera[0], INTRINSICS, rtol=1e-3)
    assert (handedness(track.joints3d, LIMB17) > 0).all()
    sample = clips[1]
    assert sample["frame"].tolist() == [3, 4, 5]
    np.testing.assert_allclose(brightness(sample["image"]), [75, 90, 105], atol=6)


def test_extracted_pictures_go_before_videos(tmp_path):
    write_official(write_official(tmp_path), pictures="folder")
    (tmp_path / "S1" / "Videos" / f"Walking 1.{CAMERA}.mp4").write_bytes(b"broken")
    sample = data(tmp_path).dataset("train")[0]
    np.testing.assert_allclose(brightness(sample["image"]), [30, 45, 60], atol=4)


def test_splits_cameras_and_actions(tmp_path):
    for subject, action, camera in (
        ("S1", "Walking 1", CAMERA), ("S5", "Eating", "54138969"), ("S9", "Walking", CAMERA), ("S11", "_ALL 1", CAMERA),
    ):  # fmt: skip
        write_official(tmp_path, subject, action, camera)
    assert [t.name[:2] for t in data(tmp_path).tracks("train")] == ["S1", "S5"]
    assert [t.name for t in data(tmp_path).tracks("val")] == [f"S9, Walking, camera {CAMERA}"]
    assert len(data(tmp_path, cameras=[CAMERA]).tracks("train")) == 1
    assert len(data(tmp_path, actions=["Eating"]).tracks("train")) == 1
    assert len(data(tmp_path, train_subjects=["S5", "S9"]).tracks("train")) == 2
    for options, message in (
        ({"cameras": ["1"]}, "cameras is '1', but can be of 54138969"),
        ({"train_subjects": ["S2"]}, "train_subjects is 'S2'"),
        ({"files": "txt"}, "unknown files of Human36M"),
    ):
        with pytest.raises(UserError, match=message):
            data(tmp_path, **options)
    with pytest.raises(
        UserError, match=r"holds no poses of subjects S1, S5, S6, S7, S8 of actions Dancing .*vision\.imar\.ro"
    ):
        data(tmp_path, actions=["Dancing"]).dataset("train")


def test_thirty_frames_per_second(tmp_path):
    (track,) = data(write_official(tmp_path), fps=30).tracks("train")
    assert track.image_rows.tolist() == [0, 2, 3, 5]
    assert track.frames.tolist() == [0, 1, 2, 3]
    assert track.fps == 30
    clips = data(tmp_path, every=5, frames=3, window="key").dataset("train")
    assert [sample["frame"].tolist() for sample in clips] == [[0, 0, 1], [4, 5, 5]]  # of 6 frames
    (track,) = data(tmp_path, every=5).tracks("train")
    assert track.frames.tolist() == [0, 5]


@pytest.mark.parametrize(("joints", "count"), [(14, 14), (17, 17)])
def test_evaluations(tmp_path, joints, count):
    write_official(tmp_path, "S9")
    (track,) = data(tmp_path, eval_joints=joints).tracks("test")
    # SPIN's 49 name 17 of Human3.6M's joints; their LSP part is the 14.
    assert track.joints3d_weight[0].sum() == count
    assert (track.joints[0, :, 2] > 0).sum() == 17  # 2D labels stay
    with pytest.raises(UserError, match="eval_joints is 13, but its evaluations have 14, 17 joints"):
        data(tmp_path, eval_joints=13)


@pytest.mark.parametrize("name3d", ["pose/3d", "pose/3d-univ"])
def test_h36m_fetch(tmp_path, name3d):
    points, pixels = poses()
    folder = tmp_path / "processed" / "S1" / "Walking-1"
    folder.mkdir(parents=True)
    with h5py.File(folder / "annot.h5", "w") as file:
        file["pose/2d"], file[name3d] = np.tile(pixels, (2, 1, 1)), 1000 * np.tile(points, (2, 1, 1))
        file["frame"] = np.tile(np.arange(0, 5 * FRAMES, 5) + 1, 2)  # every fifth, from 1
        file["camera"] = np.repeat([54138969, int(CAMERA)], FRAMES)
    for camera in ("54138969", CAMERA):
        pictures = folder / "imageSequence" / camera
        write_pictures(pictures, "raw_%d.jpg", FRAMES, (1000, 1000))
        for number in range(FRAMES):
            (pictures / f"raw_{number}.jpg").rename(pictures / f"img_{5 * number + 1:06d}.jpg")
    tracks = data(tmp_path, skeleton="H36M17").tracks("train")
    assert [t.name for t in tracks] == [f"S1, Walking-1, camera {c}" for c in ("54138969", CAMERA)]
    assert tracks[0].frames.tolist() == [0, 5, 10, 15, 20, 25]
    assert (tracks[0].joints3d_weight == 1).all()
    np.testing.assert_allclose(tracks[0].joints3d[0, 3], points[0, 3])
    assert len(data(tmp_path, cameras=[CAMERA], actions=["Walking"]).tracks("train")) == 1
    (folder / "imageSequence" / "54138969" / "img_000001.jpg").unlink()
    (left,) = data(tmp_path, on_broken_image="skip").tracks("train")
    assert left.name == f"S1, Walking-1, camera {CAMERA}"
    sample = data(tmp_path, cameras=[CAMERA]).dataset("train")[0]
    assert sample["frame"].tolist() == [0, 5, 10]
    np.testing.assert_allclose(brightness(sample["image"]), [30, 45, 60], atol=4)


def write_mmpose(root, **changes):
    points = points_of(JOINTS17.joints, FRAMES)
    name = f"S1_Walking_1.{CAMERA}"
    names = np.array([f"S1/{name}/{name}_{5 * k + 1:06d}.jpg" for k in range(FRAMES)])
    seen = np.ones((FRAMES, 17, 1))
    arrays = {
        "imgname": names, "center": np.zeros((FRAMES, 2)), "scale": np.ones(FRAMES),
        "part": np.concatenate([project(points), seen], -1), "S": np.concatenate([points, seen], -1),
    }  # fmt: skip
    np.savez(root / "h36m_train.npz", **{k: v for k, v in {**arrays, **changes}.items() if v is not None})
    write_pictures(root / "images" / "S1" / name, name + "_%06d.jpg", 1, (1000, 1002), 1)
    for k in range(1, FRAMES):
        write_pictures(root / "images" / "S1" / name, name + "_%06d.jpg", 1, (1000, 1002), 5 * k + 1)
    return root


def test_mmpose(tmp_path):
    clips = data(write_mmpose(tmp_path), skeleton="H36M17").dataset("train")
    (track,) = clips.tracks
    assert track.frames.tolist() == [0, 5, 10, 15, 20, 25]
    assert track.name == f"S1, Walking 1, camera {CAMERA}"
    np.testing.assert_allclose(track.joints3d, points_of(JOINTS17.joints, FRAMES))  # its order is H36M17's
    assert H36M17.index("neck") == 9
    assert JOINTS17.joints[9] == "head"
    assert clips[0]["frame"].tolist() == [0, 5, 10]
    with pytest.raises(UserError, match="holds no poses of subjects S9, S11"):
        data(tmp_path).dataset("val")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"S": None}, "has no array S"),
        ({"S": np.zeros((6, 24, 4))}, r"S \(6, 24, 4\) for 6 pictures, expected"),
        ({"imgname": np.array(["a.jpg"] * 6)}, r"imgname 'a\.jpg' is not like S1_Directions_1\.54138969_000001\.jpg"),
        (
            {"imgname": np.array([f"/etc/S1_Walking_1.{CAMERA}_{k:06d}.jpg" for k in range(6)])},
            "leads out of the folder",
        ),
        ({"imgname": np.array([f"S1_Walking_1.{CAMERA}_000001.jpg"] * 6)}, "names a picture of S1, Walking 1.* twice"),
        ({"part": np.full((6, 17, 3), np.inf)}, "part holds numbers that are not finite"),
    ],
)
def test_faults_of_mmpose_files(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        data(write_mmpose(tmp_path, **changes)).dataset("train")


def metadata(numbers):
    return f"<data><mapping/><w0>[{' '.join(str(float(n)) for n in numbers)}]</w0></data>"


def test_videopose3d_with_the_cameras_of_the_data_set(tmp_path):
    rng = np.random.default_rng(0)
    numbers = np.zeros(300)
    angles, center = rng.normal(0, 1, 3), rng.normal(0, 1000, 3)
    numbers[6 * 33 : 6 * 33 + 6] = np.r_[angles, center]  # the fourth camera of S1
    numbers[264 + 27 : 273 + 27] = [1100, 1100, 500, 480, 0, 0, 0, 0, 0]
    points, _ = poses()
    rotation = euler_matrix("xyz", angles)
    world = points @ rotation + center / 1000  # X_camera = R (X - T)
    walks = {"S1": {"Photo 1": world.astype(np.float32), "WalkDog": world[:0].astype(np.float32)}}
    np.savez_compressed(tmp_path / "data_3d_h36m.npz", positions_3d=np.array(walks, dtype=object))
    write_video(tmp_path / "S1" / "Videos" / f"TakingPhoto 1.{CAMERA}.mp4", FRAMES, (1000, 1002), 50.0)
    with pytest.raises(UserError, match=r"world coordinates: the cameras' file .*metadata\.xml is needed as well"):
        data(tmp_path).dataset("train")
    (tmp_path / "metadata.xml").write_text(metadata(numbers))
    (track,) = data(tmp_path, cameras=[CAMERA], actions=["Photo"]).tracks("train")
    names = [JOINTS32.joints.index(SPIN49.joints[k]) for k in (25, 30)]
    np.testing.assert_allclose(track.joints3d[:, [25, 30]], points[:, names], atol=1e-5)
    np.testing.assert_allclose(track.joints[:, [25, 30], :2], project(points)[:, names], atol=0.02)
    (tmp_path / "metadata.xml").write_text(metadata(numbers[:200]))
    with pytest.raises(UserError, match="w0 holds 200 numbers, expected 300"):
        data(tmp_path).dataset("train")


def test_camera_files(tmp_path):
    path = tmp_path / "metadata.xml"
    numbers = np.arange(300.0)
    path.write_text(metadata(numbers))
    camera = read_cameras(path)["S11", "54138969"]
    np.testing.assert_allclose(camera.center, [0.063, 0.064, 0.065])
    np.testing.assert_allclose(camera.focal, [264, 265])
    np.testing.assert_allclose(read_cameras(path)["S1", CAMERA].focal, [291, 292])
    for text, message in (
        ("<a>", "is no metadata.xml"),
        ("<!DOCTYPE x><a/>", "declares entities"),
        ("<a/>", "holds 0 numbers"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_cameras(path)


def test_distortion_is_the_data_set_s_own():
    camera = Camera(np.eye(3), np.zeros(3), np.array([1000.0, 1100]), np.array([500.0, 510]),
                    np.array([-0.2, 0.1, 0.01]), np.array([0.001, 0.002]))  # fmt: skip
    x, y = 0.2, -0.1
    r2 = x * x + y * y
    bent = 1 - 0.2 * r2 + 0.1 * r2**2 + 0.01 * r2**3 + 0.001 * y + 0.002 * x
    expected = [1000 * (x * bent + 0.002 * r2) + 500, 1100 * (y * bent + 0.001 * r2) + 510]
    np.testing.assert_allclose(camera.project(np.array([2 * x, 2 * y, 2.0])), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: a.update(D2_Positions=a["D2_Positions"][:, :17]),
            r"Pose has shape \(1, 6, 34\), expected \(1, T, 64\)",
        ),
        (lambda a: a.update(D2_Positions=a["D2_Positions"][:2]), "have 2 2D and 6 3D poses"),
        (lambda a: a.update(D2_Positions=np.full((6, 32, 2), np.nan)), "Pose holds numbers that are not finite"),
        (lambda a: a.pop("D2_Positions"), r"D2_Positions.Walking 1\.60457274\.cdf does not exist"),
    ],
)
def test_faults_of_official_files(tmp_path, change, message):
    write_official(tmp_path, change=change)
    with pytest.raises(UserError, match=message) as raised:
        data(tmp_path).dataset("train")
    assert "\n" not in str(raised.value)


def test_a_video_that_is_absent(tmp_path):
    write_official(write_official(tmp_path), action="Eating", pictures=None)
    with pytest.raises(UserError, match=r"S1, Eating, camera 60457274 has no pictures: .*on_broken_image=skip"):
        data(tmp_path).dataset("train")
    assert len(data(tmp_path, on_broken_image="skip").tracks("train")) == 1
