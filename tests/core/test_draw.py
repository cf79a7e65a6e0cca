import numpy as np
import pytest

from posekit.skeletons import COCO17
from posekit.visualization import contact_sheet, draw_heatmap, draw_people, enlarge


def person(x, y):
    points = np.zeros((17, 3))
    points[:, 0] = x + np.arange(17)
    points[:, 1] = y + np.arange(17) % 5
    points[:, 2] = 1
    return points


def test_drawing_touches_a_copy_near_the_joints_only():
    image = np.full((100, 120, 3), 128, np.uint8)
    drawn = draw_people(image, person(40, 40)[None], COCO17)
    assert (image == 128).all()
    changed = np.argwhere((drawn != 128).any(-1))
    assert len(changed) > 50
    assert changed.min(0)[0] > 30
    assert changed.max(0)[1] < 70


def test_joints_below_the_threshold_nan_and_far_outside_are_left_out():
    image = np.zeros((50, 50, 3), np.uint8)
    joints = person(10, 10)
    joints[:, 2] = 0.1
    assert (draw_people(image, joints[None], COCO17) == 0).all()
    joints[:, 2] = 1
    joints[:, 0] = np.nan
    assert (draw_people(image, joints[None], COCO17) == 0).all()
    joints[:, 0] = 1e12
    draw_people(image, joints[None], COCO17)


def test_enlarged_crop_keeps_joints_on_their_pixels():
    image = np.zeros((16, 12, 3), np.uint8)
    image[7, 5] = 255
    big, points = enlarge(image, np.array([[5.0, 7.0, 1.0]]), 8)
    y, x = np.unravel_index(big[..., 0].argmax(), big.shape[:2])
    assert abs(points[0, 0] - x) <= 1
    assert abs(points[0, 1] - y) <= 1


def test_contact_sheet_and_heatmap():
    tiles = [np.full((8, 6, 3), k, np.uint8) for k in range(5)]
    assert contact_sheet(tiles, columns=3, gap=2).shape == (2 * 10 + 2, 3 * 8 + 2, 3)
    with pytest.raises(ValueError, match="picture"):
        contact_sheet([], 3)
    heat = np.zeros((4, 3))
    heat[2, 1] = 5
    laid = draw_heatmap(np.zeros((16, 12, 3), np.uint8), heat, opacity=1.0)
    assert laid.sum(-1).argmax() in np.flatnonzero(np.kron(heat, np.ones((4, 4))).ravel())
