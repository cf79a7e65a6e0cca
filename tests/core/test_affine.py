import numpy as np
import torch

from posekit.geometry import apply_affine, crop_affine, crop_points, fit_aspect, invert_affine, uncrop_points


def test_box_becomes_the_crop_edge_to_edge():
    affine = crop_affine((50, 40), (20, 30), (96, 128))
    corners = np.array([[40.0, 25.0], [60.0, 55.0], [50.0, 40.0]])
    np.testing.assert_allclose(apply_affine(corners, affine), [[0, 0], [95, 127], [47.5, 63.5]], atol=1e-12)


def test_rotation_turns_content_counter_clockwise():
    affine = crop_affine((0, 0), (101, 101), (102, 102), rotation=90)
    up = apply_affine(np.array([[10.0, 0.0]]), affine) - apply_affine(np.array([[0.0, 0.0]]), affine)
    np.testing.assert_allclose(up, [[0, -10]], atol=1e-9)  # what pointed right now points up


def test_inverse_and_batched_maps_agree():
    rng = np.random.default_rng(3)
    affines = np.stack([crop_affine(rng.uniform(0, 99, 2), rng.uniform(9, 99, 2), (96, 128), a) for a in (0, 33, -80)])
    points = rng.uniform(-50, 150, (3, 17, 2))
    crops = np.stack([apply_affine(p, a) for p, a in zip(points, affines, strict=True)])
    back = np.stack([apply_affine(c, invert_affine(a)) for c, a in zip(crops, affines, strict=True)])
    np.testing.assert_allclose(back, points, atol=1e-9)
    t = torch.tensor(affines, dtype=torch.float32)
    np.testing.assert_allclose(crop_points(torch.tensor(points).float(), t), crops, atol=2e-3)
    np.testing.assert_allclose(uncrop_points(torch.tensor(crops).float(), t), points, atol=2e-3)


def test_fit_aspect_only_grows():
    sizes = np.array([[10.0, 40.0], [40.0, 10.0]])
    grown = fit_aspect(sizes, 0.75)
    assert (grown >= sizes).all()
    np.testing.assert_allclose(grown[:, 0] / grown[:, 1], 0.75)


def test_autocast_does_not_round_coordinates():
    affine = torch.tensor(crop_affine((200, 150), (150, 200), (192, 256), 20), dtype=torch.float32)[None]
    points = torch.rand(1, 17, 2) * 300
    with torch.autocast("cpu", dtype=torch.bfloat16):
        back = uncrop_points(crop_points(points, affine), affine)
    torch.testing.assert_close(back, points, atol=1e-3, rtol=0)
