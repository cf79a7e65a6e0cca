import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io

from posekit.callbacks import PredictionWriter3D
from posekit.data import MPIINF3DHP
from posekit.data.body3d.mpi_inf_3dhp import TEST_JOINTS, TRAIN_JOINTS, read_calibration
from posekit.errors import UserError
from posekit.mat_arrays import frames_first, is_hdf5
from posekit.metrics.mpi_inf_3dhp_files import evaluate_3dhp
from posekit.skeletons import LIMB17, SPIN49
from posekit_nlrd.data import NLRDData
from posekit_nlrd.streams import prediction_rows
from tests.data3d.made import brightness, handedness, points_of, project, write_pictures, write_video

h5py = pytest.importorskip("h5py")
K = np.array([[1500.0, 0, 1024], [0, 1500.0, 1000], [0, 0, 1]])
FRAMES = 6
NEAR = {"3dhp_spine2": "spine2", "3dhp_spine3": "spine3", "3dhp_spine4": "thorax"}
CALIBRATION = """Skeletool Camera Calibration File V1.0
name          0
  sensor      10 10
  size        2048 2048
  animated    0
  intrinsic   1500 0 1024 0 0 1500 1000 0 0 0 1 0 0 0 0 1
  extrinsic   1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1
  radial      0
"""


def cells(array):
    """A MATLAB cell (14, 1) with one camera's array in each."""
    cell = np.empty((14, 1), dtype=object)
    for camera in range(14):
        cell[camera, 0] = array
    return cell


def write_train(root, subject=1, sequence=1, pictures=True, **changes):
    folder = root / f"S{subject}" / f"Seq{sequence}"
    folder.mkdir(parents=True)
    points = points_of(TRAIN_JOINTS.joints, FRAMES, aliases=NEAR)
    flat = {"annot2": project(points, K).reshape(FRAMES, 56), "annot3": 1000 * points.reshape(FRAMES, 84)}
    flat["univ_annot3"] = 1.1 * flat["annot3"]
    content = {name: cells(array) for name, array in flat.items()} | changes
    scipy.io.savemat(folder / "annot.mat", {k: v for k, v in content.items() if v is not None})
    (folder / "camera.calibration").write_text(CALIBRATION)
    if pictures:
        write_pictures(folder / "imageFrames" / "video_0", "frame_%06d.jpg", FRAMES, (2048, 2048), 1)
    return folder


def write_test(root, number=1, hdf5=True, frames=FRAMES):
    folder = root / f"TS{number}"
    folder.mkdir(parents=True, exist_ok=True)
    points = points_of(TEST_JOINTS.joints, frames)
    valid = np.ones(frames)
    valid[1] = 0
    arrays = {
        "annot2": project(points, K)[:, None],
        "annot3": 1000 * points[:, None],
        "univ_annot3": 900 * points[:, None],
    }
    if hdf5:
        # As MATLAB's version 7.3 stores (2, 17, 1, F): HDF5 sees the axes reversed, behind a head of 512 bytes.
        path = folder / "annot_data.mat"
        with h5py.File(path, "w", userblock_size=512) as file:
            for name, array in arrays.items():
                file[name] = array
            file["valid_frame"] = valid[:, None]
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")
    else:
        matlab = {name: array.transpose() for name, array in arrays.items()}
        scipy.io.savemat(folder / "annot_data.mat", matlab | {"valid_frame": valid[None]})
    write_pictures(folder / "imageSequence", "img_%06d.jpg", frames, (64, 64), 1)
    return folder


def data(root, **options):
    return MPIINF3DHP(str(root), **{"cameras": [0], "augmentation": "none", "image_size": (64, 64), **options})


def test_training_labels(tmp_path):
    write_train(tmp_path)
    (track,) = data(tmp_path, skeleton="LIMB17").tracks("train")
    assert len(track) == FRAMES
    assert track.fps == 25
    assert (track.joints3d_weight == 1).all()
    np.testing.assert_allclose(track.camera[0], K)
    np.testing.assert_allclose(project(track.joints3d, K)[:, 1:], track.joints[:, 1:, :2], atol=1e-6)
    assert (handedness(track.joints3d, LIMB17) > 0).all()
    thigh = track.joints3d[:, LIMB17.index("left_hip")] - track.joints3d[:, LIMB17.index("left_knee")]
    assert 0.4 < np.linalg.norm(thigh, axis=-1).mean() < 0.5  # metres
    (universal,) = data(tmp_path, skeleton="LIMB17", universal=True).tracks("train")
    np.testing.assert_allclose(universal.joints3d, 1.1 * track.joints3d)


def test_boxes_of_vibe_s_label_files(tmp_path):
    """Squares of 1.1 times the longer side around 17 joints, without hands and feet."""
    write_train(tmp_path)
    write_test(tmp_path)
    (every,) = data(tmp_path).tracks("train")
    (track,) = data(tmp_path, boxes="vibe").tracks("train")
    points = project(points_of(TEST_JOINTS.joints, FRAMES), K)
    low, high = points.min(1), points.max(1)
    side = np.repeat(1.1 * (high - low).max(1, keepdims=True), 2, 1)
    np.testing.assert_allclose(track.boxes, np.concatenate([(low + high - side) / 2, side], 1))
    assert (every.boxes[:, 3] > (high - low)[:, 1]).all()  # down to the toes
    (test,) = data(tmp_path, boxes="vibe").tracks("test")
    np.testing.assert_allclose(test.boxes, track.boxes)


def test_training_pictures_and_rates(tmp_path):
    write_train(tmp_path, 1, 2)
    clips = data(tmp_path, frames=3, window="chunk").dataset("train")
    np.testing.assert_allclose(brightness(clips[0]["image"]), [30, 45, 60], atol=4)
    assert clips.tracks[0].fps == 50
    # 30 of 50 frames per second: round(k * 50 / 30) is 0, 2, 3, 5.
    (track,) = data(tmp_path, fps=30).tracks("train")
    assert track.image_rows.tolist() == [0, 2, 3, 5]
    assert track.frames.tolist() == [0, 1, 2, 3]
    assert track.fps == 30
    (track,) = data(tmp_path, fps=30, source_fps=25).tracks("train")  # of the test videos alone
    assert track.image_rows.tolist() == [0, 2, 3, 5]


def test_slow_recordings_stay(tmp_path, caplog):
    write_train(tmp_path)
    with caplog.at_level(logging.WARNING):
        (track,) = data(tmp_path, fps=30).tracks("train")
    assert len(track) == FRAMES
    assert "1 recordings have fewer than 30 frames per second" in caplog.text


def test_videos(tmp_path):
    folder = write_train(tmp_path, pictures=False)
    video = folder / "imageSequence" / "video_0.avi"
    with pytest.raises(UserError, match=r"S1/Seq1, camera 0 has no pictures: none of .*video_0\.avi is there"):
        data(tmp_path).dataset("train")
    write_video(video, FRAMES, (256, 256))
    clips = data(tmp_path, frames=2, window="chunk").dataset("train")
    assert len(clips) == 3
    assert clips[2]["frame"].tolist() == [4, 5]
    write_video(video, 3, (256, 256))
    with pytest.raises(UserError, match=r"video_0\.avi has 3 frames, but labels for 6.*on_broken_image=skip"):
        data(tmp_path).dataset("train")
    video.write_bytes(b"")
    with pytest.raises(UserError, match=r"video_0\.avi is empty"):
        data(tmp_path).dataset("train")


@pytest.mark.parametrize("hdf5", [True, False])
def test_test_files_of_either_version(tmp_path, hdf5):
    folder = write_test(tmp_path, hdf5=hdf5)
    assert is_hdf5(folder / "annot_data.mat") == hdf5
    (track,) = data(tmp_path, eval_joints=17).tracks("test")
    points = points_of(TEST_JOINTS.joints, FRAMES)
    np.testing.assert_allclose(
        track.joints3d[0, SPIN49.index("left_knee")], points[0, TEST_JOINTS.joints.index("left_knee")]
    )
    assert track.keys.tolist() == [True, False, True, True, True, True]
    assert (track.joints3d_weight[1] == 0).all()
    assert track.joints3d_weight[0].sum() == 17
    np.testing.assert_allclose(track.camera[0], K, rtol=1e-6)  # fitted to the file's own poses
    (fourteen,) = data(tmp_path, eval_joints=14).tracks("test")
    assert fourteen.joints3d_weight[0].sum() == 14


def test_a_single_test_frame(tmp_path):
    write_test(tmp_path, hdf5=False, frames=2)
    path = tmp_path / "TS1" / "annot_data.mat"
    content = scipy.io.loadmat(path)
    one = {name: content[name][..., :1] for name in ("annot2", "annot3", "valid_frame")}
    scipy.io.savemat(path, one)  # MATLAB drops the last axes of length 1
    (track,) = data(tmp_path).tracks("test")
    assert len(track) == 1


def test_frames_first():
    whole = np.arange(2 * 17 * 3.0).reshape(2, 17, 3)
    for array in (whole, whole[:, None], whole.transpose(), whole[:, None].transpose()):
        np.testing.assert_array_equal(frames_first(array, (17, 3), "x"), whole)
    np.testing.assert_array_equal(frames_first(whole[:1, None], (17, 3), "x"), whole[:1])
    np.testing.assert_array_equal(frames_first(whole[0].T, (17, 3), "x"), whole[:1])
    with pytest.raises(UserError, match=r"x has shape \(2, 16, 3\), expected \(frames, 17, 3\)"):
        frames_first(whole[:, :16], (17, 3), "x")


def test_calibration(tmp_path):
    path = tmp_path / "camera.calibration"
    path.write_text(CALIBRATION.replace("name          0", "name          3"))
    np.testing.assert_allclose(read_calibration(path)[3], K)
    path.write_text(CALIBRATION.replace("1500 0 1024", "1500 0"))
    with pytest.raises(UserError, match=r"camera\.calibration: line 6 has no intrinsic of 16 numbers"):
        read_calibration(path)
    path.write_text("nothing")
    with pytest.raises(UserError, match="holds no intrinsic"):
        read_calibration(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annot3": None}, "has no variable annot3"),
        ({"annot2": cells(np.zeros((6, 34)))}, r"annot2 of camera 0 has shape \(6, 34\), expected \(T, 56\)"),
        ({"annot2": cells(np.zeros((4, 56)))}, "camera 0 has 4 2D and 6 3D poses"),
        ({"annot3": cells(np.full((6, 84), np.nan))}, "annot3 of camera 0 holds numbers that are not finite"),
        ({"annot3": np.zeros(3)}, "annot3 is for 0 cameras"),
    ],
)
def test_faulty_files_are_named(tmp_path, changes, message):
    write_train(tmp_path, pictures=False, **changes)
    with pytest.raises(UserError, match=message) as raised:
        data(tmp_path).dataset("train")
    assert "annot.mat" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_camera_without_pictures_leaves_the_others(tmp_path, caplog):
    write_train(tmp_path)
    with pytest.raises(UserError, match=r"S1/Seq1, camera 1 has no pictures.*on_broken_image=skip"):
        data(tmp_path, cameras=[0, 1]).tracks("train")
    (track,) = data(tmp_path, cameras=[0, 1], on_broken_image="skip").tracks("train")
    assert track.name == "S1/Seq1, camera 0"
    assert "left out 1 cameras without whole pictures: S1/Seq1, camera 1" in caplog.text
    with pytest.raises(UserError, match=r"nobody is left in split train.*\(1 recordings, 1 without whole pictures"):
        data(tmp_path, cameras=[1, 2], on_broken_image="skip").tracks("train")


def test_broken_test_files(tmp_path):
    path = write_test(tmp_path) / "annot_data.mat"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"annot_data\.mat is truncated or no HDF5 file"):
        data(tmp_path).dataset("test")
    path.write_bytes(b"no file of MATLAB")
    with pytest.raises(UserError, match=r"annot_data\.mat is truncated or no \.mat file"):
        data(tmp_path).dataset("test")


@pytest.mark.parametrize("within", [False, True])
def test_what_a_prediction_writes_is_what_evaluate_reads(tmp_path, within):
    for number in (2, 5):
        write_test(tmp_path / "gt", number)
    own = data(tmp_path / "gt", view="crops", skeleton="LIMB17", universal=True, batch_size=4, test_subjects=[5, 2])
    datamodule = NLRDData(test=own) if within else own
    writer = PredictionWriter3D(str(tmp_path / "out"), overlays=False)
    trainer = SimpleNamespace(datamodule=datamodule, world_size=1, is_global_zero=True)
    writer.on_predict_start(trainer, None)
    for batch in datamodule.predict_dataloader():
        rows = prediction_rows(batch)
        writer.on_predict_batch_end(trainer, None, {"joints3d": batch["joints3d"], **rows}, batch, 0)
    writer.on_predict_end(trainer, SimpleNamespace(skeleton=LIMB17))
    with np.load(tmp_path / "out/results.npz") as archive:
        assert archive["video"].tolist() == ["TS5"] * (FRAMES - 1) + ["TS2"] * (FRAMES - 1)
        assert (str(archive["skeleton"]), archive["joints"].tolist()) == ("LIMB17", list(LIMB17.joints))
    first = json.loads((tmp_path / "out/results.json").read_text())[0]
    assert (first["skeleton"], first["video"], len(first["joints3d"])) == ("LIMB17", "TS5", 17)
    for name in ("results.npz", "results.json"):
        found = evaluate_3dhp(tmp_path / "gt", tmp_path / "out" / name).values
        assert (found["frames"], found["joints"], found["PCK"]) == (2 * (FRAMES - 1), 15, 100)
        assert found["MPJPE"] < 0.02  # JSON has five digits


def test_missing_files_and_wrong_options(tmp_path):
    with pytest.raises(UserError, match=r"annot\.mat does not exist; get it from https://vcai\.mpi-inf\.mpg\.de"):
        data(tmp_path).dataset("train")
    with pytest.raises(UserError, match="subjects is 9, but can be of 1, 2"):
        data(tmp_path, subjects=[9])
    with pytest.raises(UserError, match="cameras is 14"):
        data(tmp_path, cameras=[14])
    write_test(tmp_path)
    with pytest.raises(UserError, match="the frame rate of TS1 is not known: set option source_fps"):
        data(tmp_path, fps=30).dataset("test")
    assert len(data(tmp_path, fps=25, source_fps=50).tracks("test")[0]) == 3
