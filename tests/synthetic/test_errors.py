import cv2
import numpy as np
import pytest
import torch

from posekit.data import SyntheticPeople
from posekit.errors import UserError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"view": "crop"}, "Did you mean crops"),
        ({"difficulty": "medium"}, "known: easy, hard"),
        ({"skeleton": "MPII16"}, "unknown skeleton of SyntheticPeople"),
        ({"train_size": 0}, "train_size is 0"),
        ({"image_size": (0, 128)}, "image_size is 0"),
        ({"truncation": 1.5}, "truncation is 1.5"),
        ({"occluders": -1.0}, "occluders is -1.0"),
        ({"scene_people": (3, 2)}, "scene_people"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"backgrounds": "nowhere/at/all"}, "does not exist"),
    ],
)
def test_mistakes_are_one_line(options, message):
    with pytest.raises(UserError, match=message) as error:
        SyntheticPeople(**options)
    assert "\n" not in str(error.value)


def test_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").write_text("no photo")
    with pytest.raises(UserError, match="holds no image"):
        SyntheticPeople(backgrounds=str(tmp_path))


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
