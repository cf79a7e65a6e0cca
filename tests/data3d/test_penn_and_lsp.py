import numpy as np
import pytest
import scipy.io

from posekit.data import LSPExtended, PennAction
from posekit.data.body3d.penn_action import JOINTS
from posekit.errors import UserError
from posekit.skeletons import LSP14, SPIN49
from tests.data3d.made import brightness, points_of, project, write_pictures

K = np.array([[300.0, 0, 120], [0, 300.0, 90], [0, 0, 1]])
FRAMES = 4


def write_penn(root, number=1, train=1, **changes):
    (root / "labels").mkdir(parents=True, exist_ok=True)
    pixels = project(points_of(JOINTS.joints, FRAMES), K) + 1  # MATLAB counts from 1
    seen = np.ones((FRAMES, 13), np.uint8)
    seen[0, 2] = 0
    content = {
        "x": pixels[..., 0], "y": pixels[..., 1], "visibility": seen, "train": train, "nframes": FRAMES,
        "bbox": np.tile([11.0, 21, 211, 171], (FRAMES, 1)), "action": "squat", "dimensions": [180, 240, FRAMES],
    }  # fmt: skip
    scipy.io.savemat(
        root / "labels" / f"{number:04d}.mat", {k: v for k, v in {**content, **changes}.items() if v is not None}
    )
    write_pictures(root / "frames" / f"{number:04d}", "%06d.jpg", FRAMES, (240, 180), 1)
    return root


def penn(root, **options):
    return PennAction(
        str(root), **{"augmentation": "none", "image_size": (64, 64), "window": "chunk", "frames": 2, **options}
    )


def test_penn_labels(tmp_path):
    write_penn(write_penn(tmp_path), 2, -1)
    (track,) = penn(tmp_path).tracks("train")
    expected = project(points_of(("left_wrist", "head_top"), FRAMES), K)
    np.testing.assert_allclose(track.joints[:, SPIN49.index("left_wrist"), :2], expected[:, 0])
    np.testing.assert_allclose(track.joints[:, SPIN49.index("head_top"), :2], expected[:, 1])
    assert track.joints[0, SPIN49.index("right_shoulder"), 2] == 0  # not visible
    np.testing.assert_allclose(track.boxes[0], [10, 20, 200, 150])
    assert track.joints3d is None
    assert track.fps is None
    assert penn(tmp_path, source_fps=15.0).tracks("train")[0].fps == 15
    assert [t.name for t in penn(tmp_path).tracks("val")] == ["0002"]
    sample = penn(tmp_path).dataset("train")[1]
    np.testing.assert_allclose(brightness(sample["image"]), [60, 75], atol=4)
    assert "joints3d" not in sample


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": None}, "has no variable x"),
        ({"x": np.zeros((4, 12))}, r"x has shape \(4, 12\), expected \(T, 13\)"),
        ({"y": np.zeros((3, 13))}, r"x, y and visibility have shapes \(4, 13\), \(3, 13\)"),
    ],
)
def test_faults_of_penn_files(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        penn(write_penn(tmp_path, **changes)).dataset("train")


def test_penn_without_boxes_or_pictures(tmp_path):
    write_penn(tmp_path, bbox=np.zeros((2, 4)))
    (track,) = penn(tmp_path).tracks("train")
    seen = track.joints[1][track.joints[1, :, 2] > 0, :2]
    np.testing.assert_allclose(track.boxes[1], np.r_[seen.min(0), np.ptp(seen, axis=0)])
    write_penn(tmp_path)
    (published,) = penn(tmp_path, boxes="vibe").tracks("train")
    np.testing.assert_allclose(published.boxes, track.boxes)
    (tmp_path / "frames" / "0001" / "000002.jpg").unlink()
    with pytest.raises(UserError, match=r"video 0001: 1 of 4 pictures do not exist, e\.g\. .*000002\.jpg"):
        penn(tmp_path).dataset("train")
    with pytest.raises(UserError, match=r"nobody is left in split train .*1 recordings, 1 without whole pictures"):
        penn(tmp_path, on_broken_image="skip").dataset("train")
    with pytest.raises(UserError, match=r"folder .*labels does not exist; get it from http://dreamdragon"):
        penn(tmp_path / "frames").dataset("train")


def write_lsp(root, count=12, matrix=None, end=".jpg"):
    rng = np.random.default_rng(0)
    joints = np.ones((14, 3, count))
    joints[:, :2] = rng.uniform(10, 80, (14, 2, count))
    joints[3, 2, 0] = 0
    root.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(root / "joints.mat", {"joints": joints if matrix is None else matrix})
    write_pictures(root / "images", "im%05d" + end, count, (100, 90), 1)
    return joints


def lsp(root, **options):
    return LSPExtended(str(root), **{"augmentation": "none", "image_size": (64, 64), "skeleton": "LSP14", **options})


@pytest.mark.parametrize("end", [".jpg", ".png"])
def test_lsp_labels(tmp_path, end):
    joints = write_lsp(tmp_path, end=end)
    data = lsp(tmp_path, val_share=0.3)
    train, val = (data.dataset(split) for split in ("train", "val"))
    assert len(train) + len(val) == 12
    assert len(val) > 0
    rows = train.tracks[0].image_rows
    np.testing.assert_allclose(train.tracks[0].joints[-1, :, :2], joints[:, :2, rows[-1]] - 1)
    assert not set(rows.tolist()) & set(val.tracks[0].image_rows.tolist())
    sample = train[3]
    assert sample["image"].shape == (1, 3, 64, 64)
    assert sample["frame"].tolist() == [rows[3]]
    np.testing.assert_allclose(brightness(sample["image"]), 30 + 15 * rows[3], atol=4)
    whole = lsp(tmp_path, val_share=0).tracks("train")[0]
    assert len(whole) == 12
    assert whole.joints[0, 3].tolist() == [0, 0, 0]
    assert set(whole.joints[1, :, 2]) == {2}


@pytest.mark.parametrize("count", [2, 3, 8])
def test_few_lsp_pictures_are_in_both_splits(tmp_path, count):
    write_lsp(tmp_path, count)
    train, val = (lsp(tmp_path).tracks(split)[0].image_rows for split in ("train", "val"))
    assert sorted([*train, *val]) == list(range(count))
    assert len(train) > 0
    assert len(val) > 0


def test_lsp_faults(tmp_path, caplog):
    write_lsp(tmp_path)
    with pytest.raises(UserError, match="single pictures: frames must be 1, not 16"):
        lsp(tmp_path, frames=16)
    (tmp_path / "images" / "im00002.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 12 pictures do not exist, e\.g\. .*im00002\.jpg"):
        lsp(tmp_path, val_share=0).dataset("train")
    assert len(lsp(tmp_path, val_share=0, on_broken_image="skip").dataset("train")) == 11
    with pytest.raises(UserError, match="val_share is 0, which leaves no picture for split val: set it above 0"):
        lsp(tmp_path, val_share=0).dataset("val")
    assert "left out 1 pictures that do not exist: " in caplog.text
    write_lsp(tmp_path, matrix=np.zeros((13, 3, 4)))
    with pytest.raises(UserError, match=r"joints have shape \(13, 3, 4\), expected \(14, 3, N\)"):
        lsp(tmp_path).dataset("train")
    (tmp_path / "joints.mat").unlink()
    with pytest.raises(UserError, match=r"joints\.mat does not exist; get it from http://sam\.johnson\.io"):
        lsp(tmp_path).dataset("train")


def test_lsp_joints_are_in_spins_places(tmp_path):
    write_lsp(tmp_path)
    (own,), (spin,) = (lsp(tmp_path, skeleton=s, val_share=0).tracks("train") for s in ("LSP14", "SPIN49"))
    np.testing.assert_array_equal(spin.joints[:, 25:39], own.joints)
    assert spin.joints[:, :25].max() == 0
    assert len(LSP14) == 14


HIGH = [1, 2, 3, 5, 6, 7, 8, 10]  # numbers of HR-LSPET, which leaves some out


def keep(root, numbers, end=".png", folder="images"):
    """Leaves the pictures of some numbers, and puts them into a folder."""
    for path in sorted((root / "images").iterdir()):
        if int(path.stem[2:]) in numbers:
            (root / folder).mkdir(exist_ok=True)
            path.rename(root / folder / (path.stem + end))
        else:
            path.unlink()


@pytest.mark.parametrize("folder", ["images", "."])
@pytest.mark.parametrize("end", [".png", ".jpg"])
def test_lsp_pictures_of_higher_resolution_go_by_their_order(tmp_path, folder, end):
    joints = write_lsp(tmp_path, 10, end=end)[..., : len(HIGH)]
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": joints})
    keep(tmp_path, HIGH, end, folder)
    data = lsp(tmp_path, val_share=0).dataset("train")
    assert len(data) == len(HIGH)
    for row, number in enumerate(HIGH):
        np.testing.assert_allclose(data.tracks[0].joints[row, 4, :2], joints[4, :2, row] - 1)
        np.testing.assert_allclose(brightness(data[row]["image"]), 30 + 15 * (number - 1), atol=4)


def test_lsp_pictures_that_may_be_any_column_s_are_refused(tmp_path, monkeypatch):
    joints = write_lsp(tmp_path, 10)
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": joints[..., : len(HIGH)]})
    keep(tmp_path, HIGH[1:], ".jpg")
    with pytest.raises(UserError, match=r"images has 7 pictures, up to im00010, for 8 columns of .*9428 in") as raised:
        lsp(tmp_path, val_share=0, on_broken_image="skip", on_bad_annotation="skip").dataset("train")
    assert "skip" not in str(raised.value)
    keep(tmp_path, HIGH[:4], ".jpg")  # 2, 3, 5: numbers of columns, of the original
    data = lsp(tmp_path, val_share=0, on_broken_image="skip").tracks("train")[0]
    assert data.image_rows.tolist() == [1, 2, 4]
    monkeypatch.setattr("posekit.data.body3d.lsp_extended._HIGH", len(HIGH))
    with pytest.raises(UserError, match="images has 3 pictures, up to im00005, for 8 columns"):
        lsp(tmp_path, val_share=0, on_broken_image="skip").dataset("train")
