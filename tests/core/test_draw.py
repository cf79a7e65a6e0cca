import cv2
import numpy as np
import pytest
import torch

from posekit.errors import UserError
from posekit.skeletons import COCO17, MPII16
from posekit.visualization import (
    contact_sheet,
    draw_heatmap,
    draw_interim,
    draw_mesh,
    draw_people,
    draw_pose3d,
    enlarge,
    side_by_side,
    write_picture,
)


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


def drawn_at(picture):
    """The places (N, 2), x and y, that are not black."""
    return np.argwhere(picture.any(-1))[:, ::-1]


@pytest.mark.parametrize("size", [(14000, 100), (100, 14000), (70000, 60)])
def test_people_are_drawn_where_they_are_in_very_long_pictures(size):
    far = np.array(size) - 50
    box = [*(far - 2), 24, 10]
    places = drawn_at(draw_people(np.zeros((size[1], size[0], 3), np.uint8), person(*far)[None], COCO17, [box]))
    assert np.abs(places.min(0) - (far - 2)).max() <= 3
    assert np.abs(places.max(0) - far - [22, 8]).max() <= 3


@pytest.mark.parametrize("far", [300, 60100, 1e12])
def test_a_bone_that_leaves_the_picture_keeps_its_direction(far):
    joints = np.zeros((17, 3))
    joints[[5, 6]] = [[100, 100, 1], [far, 100 + (far - 100) / 2, 1]]
    places = drawn_at(draw_people(np.zeros((200, 200, 3), np.uint8), joints[None], COCO17, thickness=1))
    for x in (130, 160, 199):
        assert abs(places[places[:, 0] == x, 1].mean() - (100 + (x - 100) / 2)) < 0.6
    assert places[:, 0].min() > 95  # nothing of the joint that is far away


def test_boxes_that_are_partly_outside_or_no_numbers():
    places = drawn_at(draw_people(np.zeros((50, 60, 3), np.uint8), [], COCO17, [[20, -1e9, 1e12, 2e9], [np.nan] * 4]))
    assert set(places[places[:, 1] == 25, 0]) <= {19, 20, 21}
    assert set(places[:, 1]) == set(range(50))


def test_lines_grow_with_large_pictures():
    joints = np.zeros((17, 3))
    joints[[5, 6]] = [[500, 300, 1], [2500, 300, 1]]

    def widths(side):
        picture = draw_people(np.zeros((600, side, 3), np.uint8), joints[None], COCO17, [[400, 100, 2200, 400]])
        return [int((picture[rows, 1500].max(-1) > 80).sum()) for rows in (slice(250, 350), slice(50, 150))]

    (bone, box), (thick_bone, thick_box) = widths(3000), widths(9000)
    assert bone < 12
    assert box < 6
    assert thick_bone > 2 * bone
    assert thick_box > 2 * box


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


@pytest.mark.filterwarnings("error")
def test_cells_that_are_no_numbers_blank_no_map():
    heat = np.zeros((4, 4))
    heat[1, 2] = 5
    picture = np.zeros((8, 8, 3), np.uint8)
    whole = draw_heatmap(picture, heat)
    heat[3, 3] = np.nan
    np.testing.assert_array_equal(draw_heatmap(picture, heat), whole)
    heat[3, 3], heat[1, 2] = -np.inf, np.inf
    heat[0, 0] = 5
    assert (draw_heatmap(picture, heat)[2, 4] == draw_heatmap(picture, heat)[0, 0]).all()
    lowest = draw_heatmap(picture, np.zeros((4, 4)))
    np.testing.assert_array_equal(draw_heatmap(picture, np.full((4, 4), np.nan)), lowest)
    assert (whole != lowest).any()


SQUARE = np.zeros((20, 20, 3), np.uint8)
NO_PICTURES = [
    (SQUARE / 255, r"float64 of shape \(20, 20, 3\)"),
    (SQUARE[..., 0], r"uint8 of shape \(20, 20\)"),
    (SQUARE.transpose(2, 0, 1), r"uint8 of shape \(3, 20, 20\)"),
    (None, r"object of shape \(\)"),
]


@pytest.mark.parametrize(("picture", "text"), NO_PICTURES)
@pytest.mark.parametrize(
    ("owner", "draw"),
    [
        ("draw_people", lambda picture: draw_people(picture, person(5, 5)[None], COCO17)),
        ("draw_heatmap", lambda picture: draw_heatmap(picture, np.zeros((4, 4)))),
        ("enlarge", lambda picture: enlarge(picture, person(5, 5), 2)),
        ("contact_sheet", lambda picture: contact_sheet([SQUARE, picture], 2)),
        ("side_by_side", lambda picture: side_by_side(SQUARE, [picture])),
        ("draw_mesh", lambda picture: draw_mesh(picture, np.ones((3, 3)), [[0, 1, 2]], 10)),
        ("draw_interim", lambda picture: draw_interim(picture, np.zeros((1, 2, 2)), np.zeros((1, 1, 2)))),
    ],
)
def test_only_uint8_rgb_is_drawn_on(owner, draw, picture, text):
    with pytest.raises(UserError, match=rf"{owner} takes uint8 RGB pictures \(H, W, 3\), not {text}$"):
        draw(picture)


def test_wrong_maps_joints_and_sizes_are_one_line():
    heat = torch.rand(5, 5, requires_grad=True)
    assert (draw_heatmap(SQUARE, heat) == draw_heatmap(SQUARE, heat.detach().numpy())).all()
    for call, text in (
        (lambda: draw_heatmap(SQUARE, torch.zeros(17, 5, 5)), r"one map \(h, w\) of numbers, not float32 of shape"),
        (lambda: draw_people(SQUARE, np.ones((1, 16, 3)), COCO17), r"joints \(N, 17, 3\) of COCO17, not of shape"),
        (lambda: contact_sheet([SQUARE, SQUARE[:9]], 2), "pictures of one size, not 20x20, 20x9"),
        (lambda: contact_sheet([SQUARE], 0), "columns must be a whole number of at least 1, not 0"),
        (lambda: draw_pose3d(np.zeros((17, 3)), MPII16), r"joints \(16, 3\) of .*, not of shape \(17, 3\)"),
    ):
        with pytest.raises(UserError, match=text):
            call()


@pytest.mark.parametrize("name", ["a.jpg", "a.JPG", "a.jpeg", "a.png"])
def test_pictures_are_written_in_rgb(tmp_path, name):
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[..., 0] = 250
    write_picture(str(tmp_path / name), picture)
    red = cv2.imread(str(tmp_path / name))[8, 8]
    assert red[2] > 240
    assert red[:2].max() < 10


def test_pictures_of_unknown_kinds_are_not_written(tmp_path):
    with pytest.raises(UserError, match=r"unknown kind of picture file '\.bmp'; known: \.jpeg, \.jpg, \.png"):
        write_picture(tmp_path / "a.bmp", SQUARE)
    with pytest.raises(UserError, match="write_picture takes uint8 RGB pictures"):
        write_picture(tmp_path / "a.png", SQUARE[..., 0])
