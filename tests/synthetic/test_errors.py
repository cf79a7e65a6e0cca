import cv2
import numpy as np
import pytest
import torch

from posekit.data import SyntheticPeople
from posekit.data.synthetic.background import background_bank
from posekit.errors import UserError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"view": "crop"}, "Did you mean crops"),
        ({"difficulty": "medium"}, "known: easy, hard, video_easy, video_hard"),
        ({"skeleton": "COCO18"}, "unknown skeleton .*Did you mean COCO17"),
        ({"train_size": 0}, "train_size is 0"),
        (
            {"image_size": (0, 128)},
            r"SyntheticPeople: image_size is \[0, 128\], but must be \[W, H\] of at least 16 px",
        ),
        ({"image_size": (96,)}, r"image_size is \[96\], but must be \[W, H\]"),
        ({"image_size": (96, 128, 3)}, r"image_size is \[96, 128, 3\], but must be \[W, H\]"),
        ({"image_size": 96}, r"image_size is \[96\], but must be \[W, H\]"),
        ({"image_size": (96.5, 128)}, r"image_size is \[96.5, 128\], but must be .*whole numbers"),
        ({"image_size": []}, r"image_size is \[\], but"),
        ({"truncation": 1.5}, "truncation is 1.5"),
        ({"occluders": -1.0}, "occluders is -1.0"),
        ({"scene_people": (3, 2)}, r"scene_people is \[3, 2\], but must be \[least, greatest\]"),
        ({"scene_people": (3,)}, r"scene_people is \[3\], but must be \[least, greatest\]"),
        ({"scene_people": 3}, "SyntheticPeople: scene_people must be a list of numbers, not 3"),
        ({"scene_people": (0, 2)}, "scene_people must be a whole number of at least 1, not 0"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"view": "clips", "frames": 0}, "frames is 0"),
        ({"view": "clips", "frame_step": 17}, "frame_step is 17, but must be at most 16"),
        ({"view": "motion", "frame_step": 0}, "frame_step is 0"),
        ({"view": "motion", "window_stride": 0}, "window_stride is 0"),
        ({"view": "clips", "clip_box": "keys"}, "unknown clip_box .*Did you mean key"),
        ({"view": "clips", "keys": "none"}, "known: all, key"),
        ({"view": None}, "unknown view of SyntheticPeople 'None'"),
        ({"domain": "sources"}, "unknown domain .*Did you mean source"),
        ({"view": "scenes", "labels": False}, "labels: false"),
        ({"motion_blur": 1.2}, "motion_blur is 1.2, but must be between 0 and 1"),
        ({"backgrounds": "nowhere/at/all"}, "does not exist"),
    ],
)
def test_mistakes_are_one_line(options, message):
    with pytest.raises(UserError, match=message) as error:
        SyntheticPeople(**options)
    assert "\n" not in str(error.value)


def test_clips_longer_than_any_recording():
    module = SyntheticPeople(view="clips", frames=100, frame_step=16)
    with pytest.raises(UserError, match="longest recording of train has 720 frames: lower frames or frame_step"):
        module.dataset("train")


def test_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").write_text("no photo")
    with pytest.raises(UserError, match="holds no image"):
        SyntheticPeople(backgrounds=str(tmp_path))


def test_pictures_of_any_kind_are_photos_and_twins_of_another_system_are_none(tmp_path):
    cv2.imwrite(str(tmp_path / "a.tif"), np.full((8, 8, 3), (0, 0, 200), np.uint8))
    (tmp_path / "._b.jpg").write_bytes(b"attributes")
    bank = background_bank(0, "train", 8, 0, 1.0, tmp_path)
    assert bank[:, 0, 0].tolist() == [[200, 0, 0]]


def test_broken_photo_is_named(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    with pytest.raises(UserError, match=r"broken\.jpg"):
        SyntheticPeople(train_size=2, backgrounds=str(tmp_path), num_render_workers=1).dataset("train")


def test_prediction_is_of_the_test_people():
    data = SyntheticPeople(test_size=2, num_render_workers=1)
    assert torch.equal(data.dataset("predict")[(0, 1)]["image"], data.dataset("test")[(0, 1)]["image"])


def test_photos_become_backgrounds(tmp_path):
    for index, color in enumerate([(0, 0, 255), (255, 0, 0)]):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((40, 60, 3), color, np.uint8))
    module = SyntheticPeople(
        train_size=4, val_size=4, backgrounds=str(tmp_path), occluders=0, people=0, noise=0, blur=0, color=0,
        num_render_workers=1,
    )  # fmt: skip
    image = module.dataset("val").crop(0).image
    assert np.abs(image[0].astype(int) - image[0, 0]).max() <= 2
    assert image[0, 0, 1] < 20


@pytest.mark.parametrize(("count", "sizes"), [(2, (2, 2, 2)), (3, (1, 1, 1)), (9, (7, 1, 1)), (25, (21, 2, 2))])
def test_splits_share_no_photo_where_there_are_three(tmp_path, count, sizes):
    for index in range(count):
        cv2.imwrite(str(tmp_path / f"{index:02d}.png"), np.full((8, 8, 3), 8 * index, np.uint8))
    banks = [background_bank(0, split, 8, 0, 1.0, tmp_path) for split in ("train", "val", "test")]
    assert tuple(len(bank) for bank in banks) == sizes
    values = [value for bank in banks for value in bank[:, 0, 0, 0].tolist()]
    assert (len(set(values)) == len(values)) == (count >= 3)
    assert set(values) == {8 * index for index in range(count)}


def test_a_photo_that_is_cut_short_is_left_out_and_named(tmp_path, caplog):
    for number in range(4):
        picture = np.full((64, 64, 3), 60 * number, dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), picture)
    whole = (tmp_path / "0.jpg").read_bytes()
    (tmp_path / "0.jpg").write_bytes(whole[:-2])
    bank = background_bank(0, "train", 32, 4, 0.0, tmp_path)
    assert bank.shape == (1, 32, 32, 3)
    assert "0.jpg: is cut short" in caplog.text
    (tmp_path / "1.jpg").write_bytes(whole[:-2])  # the last of the split: it has the others'
    assert {*background_bank(0, "train", 32, 4, 0.0, tmp_path)[:, 0, 0, 0].tolist()} == {120, 180}
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(whole[:-2])
    with pytest.raises(UserError, match="jpg: is cut short"):
        background_bank(0, "train", 32, 4, 0.0, tmp_path)
