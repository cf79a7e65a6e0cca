import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.data.transforms import (
    IMAGENET_MEAN,
    PersonAugmentation,
    augmentation_rng,
    crop_person,
    denormalize_image,
    move_joints,
    normalize_image,
    person_affine,
    warp,
)
from posekit.errors import UserError
from posekit.geometry.affine import apply_affine, invert_affine
from posekit.skeletons import COCO17

BOX = np.array([40.0, 30.0, 80.0, 120.0])


def person(seed=0):
    rng = np.random.default_rng(seed)
    return np.c_[rng.uniform(BOX[:2], BOX[:2] + BOX[2:], (17, 2)), rng.integers(1, 3, 17)]


def test_normalisation_is_undone_exactly():
    image = np.arange(256 * 3, dtype=np.uint8).reshape(16, 16, 3)
    normalised = normalize_image(image)
    assert normalised.dtype == torch.float32
    assert normalised.shape == (3, 16, 16)
    assert np.array_equal(denormalize_image(normalised), image)
    grey = normalize_image(np.full((1, 1, 3), 255, np.uint8))[:, 0, 0]
    assert torch.allclose(grey, (1 - torch.tensor(IMAGENET_MEAN)) / torch.tensor([0.229, 0.224, 0.225]))


def test_a_box_keeps_its_aspect_and_fills_the_crop():
    affine = person_affine([10, 20, 30, 100], (96, 128), box_scale=1.25)
    linear = affine[:, :2]
    top, bottom = apply_affine(np.array([[25.0, 70 - 62.5], [25.0, 70 + 62.5]]), affine)
    assert np.allclose(top, [47.5, 0])
    assert np.allclose(bottom, [47.5, 127])
    assert linear[0, 0] == pytest.approx(95 / (125 * 0.75))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), law=st.sampled_from(["normal", "uniform"]))
def test_affine_and_flip_agree_for_joints(seed, law):
    joints = person(seed)
    augmentation = PersonAugmentation(law=law, shift=0.1)
    affine, flipped = augmentation.affine(augmentation_rng(0, 0, seed), BOX, joints, COCO17, (96, 128), 1.25)
    assert (np.linalg.det(affine[:, :2]) < 0) == flipped
    flip_index = COCO17.flip_index if flipped else None
    points, visible = move_joints(joints[:, :2], joints[:, 2].astype(int), affine, (96, 128), flip_index)
    order = list(flip_index) if flipped else list(range(17))
    back = apply_affine(points, invert_affine(affine))
    assert np.abs(back - joints[order, :2]).max() < 1e-6
    inside = ((points >= 0) & (points <= [95, 127])).all(1)
    assert np.array_equal(visible, np.where(inside, joints[order, 2], 0))


def test_pixels_and_joints_move_alike():
    joints = person(1)
    for seed in range(20):
        augmentation = PersonAugmentation(scale=0.2)
        affine, flipped = augmentation.affine(augmentation_rng(1, 0, seed), BOX, joints, COCO17, (192, 256), 1.25)
        dot = np.zeros((200, 200, 3), np.uint8)
        x, y = 80, 90
        dot[y, x] = 255
        crop = warp(cv2.GaussianBlur(dot, (0, 0), 2) * 5, affine, (192, 256))[..., 0].astype(float)
        where = apply_affine(np.array([[x, y]], float), affine)[0]
        if (where < 20).any() or (where > [170, 235]).any():
            continue
        columns, rows = np.meshgrid(np.arange(192), np.arange(256))
        centre = [(crop * columns).sum() / crop.sum(), (crop * rows).sum() / crop.sum()]
        assert np.abs(centre - where).max() < 0.15
        assert flipped == (np.linalg.det(affine[:, :2]) < 0)


def test_mirrored_pixels_are_the_mirror_of_the_plain_crop():
    image = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    still = {"rotation_probability": 0.0, "scale": 0.0, "half_body": 0.0}
    plain, _ = PersonAugmentation(flip=0, **still).affine(
        augmentation_rng(0, 0, 0), BOX, person(), COCO17, (96, 128), 1.25
    )
    other, _ = PersonAugmentation(flip=1, **still).affine(
        augmentation_rng(0, 0, 0), BOX, person(), COCO17, (96, 128), 1.25
    )
    difference = warp(image, plain, (96, 128))[:, ::-1].astype(int) - warp(image, other, (96, 128))
    assert np.abs(difference).max() <= 8  # OpenCV weighs pixels in steps of 1/32
    assert np.allclose(plain, person_affine(BOX, (96, 128)))


def test_ranges_of_the_recipe():
    joints, zooms, angles, flips, centres = person(), [], [], [], []
    augmentation = PersonAugmentation(half_body=0)
    base = person_affine(BOX, (96, 128))
    for index in range(2000):
        affine, flipped = augmentation.affine(augmentation_rng(0, 0, index), BOX, joints, COCO17, (96, 128), 1.25)
        linear = affine[:, :2].copy()
        linear[0] *= -1 if flipped else 1
        zooms.append(base[0, 0] / np.sqrt(np.linalg.det(linear)))
        angles.append(np.rad2deg(np.arctan2(linear[0, 1], linear[0, 0])))
        flips.append(flipped)
        centres.append(apply_affine(BOX[None, :2] + BOX[None, 2:] / 2, affine)[0])
    assert min(zooms) >= 0.645
    assert max(zooms) <= 1.355
    assert max(np.abs(angles)) <= 90.01
    assert np.mean(np.abs(angles) > 0.01) == pytest.approx(0.6, abs=0.04)
    assert np.mean(flips) == pytest.approx(0.5, abs=0.04)
    assert np.abs(np.array(centres) - [47.5, 63.5]).max() < 1e-6


def test_half_bodies():
    joints = person()
    joints[:11, 1] = np.linspace(30, 60, 11)
    joints[11:, 1] = np.linspace(110, 150, 6)
    always = PersonAugmentation(half_body=1, rotation_probability=0, scale=0, flip=0)
    centres = []
    for index in range(400):
        affine, _ = always.affine(augmentation_rng(0, 0, index), BOX, joints, COCO17, (96, 128), 1.25)
        centres.append(apply_affine(np.array([[47.5, 63.5]]), invert_affine(affine))[0, 1])
    upper = np.array(centres) < 70
    assert np.mean(upper) == pytest.approx(0.69, abs=0.07)
    joints[8:, 2] = 0  # eight labelled joints are too few
    affine, _ = always.affine(augmentation_rng(0, 0, 0), BOX, joints, COCO17, (96, 128), 1.25)
    assert np.allclose(affine, person_affine(BOX, (96, 128)))
    joints[:, :2], joints[:, 2] = 50, 2  # all on one spot
    affine, _ = always.affine(augmentation_rng(0, 0, 0), BOX, joints, COCO17, (96, 128), 1.25)
    assert np.isfinite(affine).all()


def test_unlabelled_joints_get_no_coordinates():
    joints = person()
    joints[3, 2] = 0
    points, visible = move_joints(joints[:, :2], joints[:, 2].astype(int), person_affine(BOX, (96, 128)), (96, 128))
    assert visible[3] == 0
    assert (points[3] == 0).all()


def test_colour_jitter_is_repeatable_and_optional():
    image = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    assert PersonAugmentation().jitter(augmentation_rng(0, 0, 0), image) is image
    jitter = PersonAugmentation(color=0.3).jitter
    changed = jitter(augmentation_rng(0, 0, 0), image)
    assert not np.array_equal(changed, image)
    assert np.array_equal(changed, jitter(augmentation_rng(0, 0, 0), image))


@pytest.mark.parametrize("wrong", [{"flip": 1.5}, {"law": "cauchy"}, {"scale": 1.0}, {"rotation": -1.0}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        PersonAugmentation(**wrong)


def test_crop_person_returns_the_affine_it_used():
    image = np.zeros((200, 200, 3), np.uint8)
    crop = crop_person(image, BOX, (96, 128))
    assert crop.image.shape == (3, 128, 96)
    assert np.array_equal(crop.affine, person_affine(BOX, (96, 128)))
