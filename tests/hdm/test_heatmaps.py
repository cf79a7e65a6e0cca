"""Codecs: round trips, and the batched decoders against plain loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit import heatmaps as hm
from posekit.errors import UserError

SIZE, INPUT = (16, 12), (64, 48)


def noise(seed=0, size=SIZE, smooth=True):
    maps = torch.rand(3, 4, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.avg_pool2d(maps, 3, 1, 1) if smooth else maps


@pytest.mark.parametrize("mapping", hm.MAPPINGS)
def test_mapping_inverts(mapping):
    points = torch.rand(5, 7, 2, dtype=torch.float64) * 60 - 5
    there = hm.to_heatmap(points, INPUT, SIZE, mapping)
    torch.testing.assert_close(hm.from_heatmap(there, INPUT, SIZE, mapping), points)


def test_mapping_values_and_flips():
    last = torch.tensor([47.0, 63.0])
    assert hm.to_heatmap(last, INPUT, SIZE, "udp").tolist() == pytest.approx([11, 15])
    assert hm.to_heatmap(last, INPUT, SIZE, "legacy").tolist() == [11.75, 15.75]
    assert hm.to_heatmap(torch.tensor([1.5, 5.5]), INPUT, SIZE, "half_pixel").tolist() == [0, 1]
    points = torch.rand(9, 2, dtype=torch.float64) * 40
    for mapping in ("udp", "half_pixel"):
        mirrored = hm.to_heatmap(torch.stack([47 - points[:, 0], points[:, 1]], -1), INPUT, SIZE, mapping)
        torch.testing.assert_close(mirrored[:, 0], 11 - hm.to_heatmap(points, INPUT, SIZE, mapping)[:, 0])


@settings(max_examples=60, deadline=None)
@given(x=st.floats(0, 11), y=st.floats(0, 15))
def test_corner_round_trip(x, y):
    points = torch.tensor([[[x, y]]], dtype=torch.float64)
    index, weight = hm.corner_targets(points, SIZE)
    maps = torch.zeros(1, 1, 192, dtype=torch.float64).scatter_add(-1, index, weight).view(1, 1, *SIZE)
    found, score = hm.decode_window(maps)
    torch.testing.assert_close(found, points, rtol=0, atol=1e-12)
    assert score.item() == pytest.approx(1)
    torch.testing.assert_close(hm.decode_expectation(maps)[0], points, rtol=0, atol=1e-11)


@settings(max_examples=60, deadline=None)
@given(x=st.floats(4, 7), y=st.floats(4, 11), sigma=st.floats(0.8, 2.0))
def test_gaussian_round_trip(x, y, sigma):
    points = torch.tensor([[[x, y]]], dtype=torch.float64)
    maps = hm.gaussian_heatmaps(points, torch.ones(1, 1), SIZE, sigma)
    torch.testing.assert_close(hm.decode_parabola(maps)[0], points, rtol=0, atol=1e-6)
    assert (hm.decode_argmax_shift(maps)[0] - points).abs().max() <= 0.25 + 1e-6
    assert (hm.decode_argmax(maps)[0] - points).abs().max() <= 0.5 + 1e-6


@pytest.mark.parametrize(("sigma", "kernel"), [(2.0, 11), (1.0, 5)])
def test_dark_round_trip(sigma, kernel):
    points = torch.rand(1, 50, 2, dtype=torch.float64) * 20 + 14
    maps = hm.gaussian_heatmaps(points, torch.ones(1, 50), (48, 48), sigma)
    found, _ = hm.decode_dark(maps, kernel)
    assert (found - points).abs().max() < 0.01


@pytest.mark.parametrize("codec", [hm.GaussianCodec, hm.DistributionCodec])
@pytest.mark.parametrize("mapping", hm.MAPPINGS)
def test_codec_round_trip(codec, mapping):
    codec = codec(input_size=INPUT, heatmap_size=SIZE, mapping=mapping)
    points = torch.rand(3, 5, 2, dtype=torch.float64) * torch.tensor([28.0, 44.0]) + 8
    points[1, 2] = float("nan")
    points[0, 0] = 1000
    visible = torch.full((3, 5), 2)
    visible[1, 2] = 0
    target = codec.encode(points, visible)
    assert target.weight.sum() == 13
    assert not target.heatmaps[1, 2].any()
    assert not target.heatmaps[0, 0].any()
    found, scores = codec.decode(target.heatmaps)
    use = target.weight > 0
    torch.testing.assert_close(found[use], points[use], rtol=0, atol=1e-5)
    assert (scores[use] > 0.5).all()
    assert torch.isfinite(found).all()


def test_targets_do_not_see_masked_points():
    points = torch.tensor([[1.0, float("nan")], [3.0, 4.0], [3.4, 4.5]])
    weight = torch.tensor([1.0, 0.0, 1.0])
    for maps in (hm.gaussian_heatmaps(points, weight, SIZE), hm.dot_heatmaps(points, weight, SIZE)):
        assert not maps[:2].any()
        assert maps[2].max() > 0.9
    assert hm.dot_heatmaps(points, weight, SIZE)[2].nonzero().tolist() == [[5, 3]]
    assert not hm.dot_heatmaps(torch.tensor([[11.6, 3.0]]), torch.ones(1), SIZE).any()


def brute_window(h, window):
    h = np.maximum(h, 0)
    h = h / h.sum()
    best = max(
        ((h[y : y + window, x : x + window].sum(), y, x) for y in range(17 - window) for x in range(13 - window)),
        key=lambda t: t[0],
    )
    mass, y, x = best
    ys, xs = np.mgrid[y : y + window, x : x + window]
    patch = h[y : y + window, x : x + window] / mass
    return ((patch * xs).sum(), (patch * ys).sum()), mass


@pytest.mark.parametrize("window", [1, 2, 3, 4])
def test_window_against_loops(window):
    maps = noise(1, smooth=False) - 0.3
    points, scores = hm.decode_window(maps, window)
    for b in range(3):
        for k in range(4):
            expected, mass = brute_window(maps[b, k].numpy(), window)
            np.testing.assert_allclose(points[b, k], expected, atol=1e-12)
            np.testing.assert_allclose(scores[b, k], mass)


def brute_dark(h):
    """The official procedure, step by step (get_max_preds, gaussian_blur with cv2, taylor)."""
    cv2 = pytest.importorskip("cv2")
    y, x = np.unravel_index(h.argmax(), h.shape)
    padded = np.pad(h, 5)
    blurred = cv2.GaussianBlur(padded, (11, 11), 0, borderType=cv2.BORDER_CONSTANT)[5:-5, 5:-5]
    blurred = blurred * h.max() / blurred.max()
    m = np.log(np.maximum(blurred, 1e-10))
    if not (1 < x < h.shape[1] - 2 and 1 < y < h.shape[0] - 2):
        return x, y
    dx, dy = 0.5 * (m[y, x + 1] - m[y, x - 1]), 0.5 * (m[y + 1, x] - m[y - 1, x])
    dxx = 0.25 * (m[y, x + 2] - 2 * m[y, x] + m[y, x - 2])
    dyy = 0.25 * (m[y + 2, x] - 2 * m[y, x] + m[y - 2, x])
    dxy = 0.25 * (m[y + 1, x + 1] - m[y - 1, x + 1] - m[y + 1, x - 1] + m[y - 1, x - 1])
    offset = -np.linalg.inv([[dxx, dxy], [dxy, dyy]]) @ [dx, dy]
    return x + offset[0], y + offset[1]


def test_dark_against_official_steps():
    points = torch.rand(2, 20, 2, dtype=torch.float64) * torch.tensor([47.0, 63.0])
    maps = hm.gaussian_heatmaps(points, torch.ones(2, 20), (64, 48), 2.0)
    maps = maps + 0.02 * torch.rand(maps.shape, dtype=torch.float64)
    found, _ = hm.decode_dark(maps)
    for b in range(2):
        for k in range(20):
            np.testing.assert_allclose(found[b, k], brute_dark(maps[b, k].numpy()), atol=1e-5)


def test_argmax_shift_against_loops():
    maps = noise(2)
    points, scores = hm.decode_argmax_shift(maps)
    for h, point, score in zip(maps.flatten(0, 1).numpy(), points.flatten(0, 1), scores.flatten(), strict=True):
        y, x = np.unravel_index(h.argmax(), h.shape)
        dx = np.sign(h[y, x + 1] - h[y, x - 1]) if 0 < x < 11 else 0
        dy = np.sign(h[y + 1, x] - h[y - 1, x]) if 0 < y < 15 else 0
        assert point.tolist() == [x + 0.25 * dx, y + 0.25 * dy]
        assert score == h.max()


@pytest.mark.parametrize("decoder", sorted(hm.DECODERS))
@pytest.mark.parametrize("level", [0.0, -1.0, 5.0])
def test_degenerate_maps(decoder, level):
    maps = torch.full((2, 3, *SIZE), level)
    points, scores = hm.decode_heatmaps(maps, decoder)
    assert points.shape == (2, 3, 2)
    assert scores.shape == (2, 3)
    assert torch.isfinite(points).all()
    assert torch.isfinite(scores).all()
    assert (points >= 0).all()
    assert (points <= torch.tensor([11.0, 15.0])).all()


@pytest.mark.parametrize("decoder", sorted(hm.DECODERS))
def test_decoders_do_not_mix_maps(decoder):
    maps = noise(3)
    points, scores = hm.decode_heatmaps(maps, decoder)
    alone = hm.decode_heatmaps(maps[1, 2], decoder)
    torch.testing.assert_close(points[1, 2], alone[0])
    torch.testing.assert_close(scores[1, 2], alone[1])


def test_flip_heatmaps():
    maps = noise()
    index = [0, 2, 1, 3]
    flipped = hm.flip_heatmaps(maps, index)
    torch.testing.assert_close(flipped[:, 1], maps[:, 2].flip(-1))
    torch.testing.assert_close(hm.flip_heatmaps(flipped, torch.tensor(index)), maps)


def test_errors():
    with pytest.raises(UserError, match="window"):
        hm.decode_heatmaps(noise(), "windwo")
    with pytest.raises(UserError, match="udp"):
        hm.to_heatmap(torch.zeros(2), INPUT, SIZE, "udpp")
    with pytest.raises(UserError):
        hm.decode_window(noise(), 13)
    with pytest.raises(UserError):
        hm.decode_dark(noise(), 4)
    with pytest.raises(UserError):
        hm.gaussian_heatmaps(torch.zeros(2), torch.ones(()), SIZE, 0)
    with pytest.raises(UserError):
        hm.corner_targets(torch.zeros(2), (1, 5))
    with pytest.raises(UserError):
        hm.GaussianCodec(INPUT, SIZE, decoder="x")
    assert math.isfinite(hm.decode_expectation(noise())[1].sum())
