import numpy as np
import pytest

from posekit.body import load_builtin_body
from posekit.geometry.rasterizer import rasterize


def brute_force(points, depth, faces, size):
    """Every pixel against every triangle, in float64."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    best = np.zeros((height, width))
    face_at = np.full((height, width), -1)
    for index, (a, b, c) in enumerate(faces):
        pa, pb, pc = points[a], points[b], points[c]
        area = (pb[0] - pa[0]) * (pc[1] - pa[1]) - (pc[0] - pa[0]) * (pb[1] - pa[1])
        if area >= 0:
            continue

        def weight(p, q, area=area):
            return ((q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0])) / area

        u, v, w = weight(pb, pc), weight(pc, pa), weight(pa, pb)
        inverse = u / depth[a] + v / depth[b] + w / depth[c]
        nearer = (u >= 0) & (v >= 0) & (w >= 0) & (inverse > best)
        best[nearer], face_at[nearer] = inverse[nearer], index
    return best, face_at


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_brute_force_on_random_triangles(seed):
    rng = np.random.default_rng(seed)
    points, depth = rng.uniform(-15, 75, (90, 2)), rng.uniform(0.5, 6, 90)
    faces = rng.integers(0, 90, (60, 3))
    seen = rasterize(points, depth, faces, (60, 48))
    best, face_at = brute_force(points, depth, faces, (60, 48))
    found = np.full(60 * 48, -1)
    found[seen.pixel] = seen.face
    assert (found.reshape(48, 60) == face_at).mean() > 0.999
    np.testing.assert_allclose(seen.inverse_depth.reshape(48, 60), best, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(seen.barycentric.sum(0), 1, atol=1e-5)


def test_interpolation_is_perspective_correct():
    points3d = np.array([[-1, -1, 1.0], [1, -1, 4.0], [0, 1.5, 2.0]])
    points = points3d[:, :2] / points3d[:, 2:] * 40 + 50
    for faces in (np.array([[0, 1, 2]]), np.array([[0, 2, 1]])):
        seen = rasterize(points, points3d[:, 2], faces, (100, 100))
        if len(seen.pixel):
            break
    position = seen.interpolate(points3d.astype(np.float32), faces)
    y, x = np.divmod(seen.pixel, 100)
    np.testing.assert_allclose(position[0] / position[2] * 40 + 50, x, atol=1e-3)
    np.testing.assert_allclose(position[1] / position[2] * 40 + 50, y, atol=1e-3)
    np.testing.assert_allclose(1 / position[2], seen.inverse_depth[seen.pixel], rtol=1e-4)


def test_shared_edges_leave_no_gap():
    grid = np.stack(np.meshgrid(np.linspace(-3, 66, 14), np.linspace(-3, 66, 14)), -1).reshape(-1, 2)
    grid += np.random.default_rng(0).uniform(-1.5, 1.5, grid.shape)
    cells = np.array([r * 14 + c for r in range(13) for c in range(13)])
    faces = np.concatenate(
        [np.stack([cells, cells + 14, cells + 1], 1), np.stack([cells + 1, cells + 14, cells + 15], 1)]
    )
    seen = rasterize(grid, np.ones(len(grid)), faces, (60, 60))
    assert len(seen.pixel) == 3600


def test_closed_body_has_no_holes():
    body = load_builtin_body()
    camera = body.v_template * [1, -1, -1] + [0, 0, 3.0]
    seen = rasterize(camera[:, :2] / camera[:, 2:] * 300 + [150, 170], camera[:, 2], body.faces, (300, 340))
    mask = np.zeros((340, 300), dtype=bool)
    mask.reshape(-1)[seen.pixel] = True
    chest = mask[126:160, 141:159]
    assert chest.all()


def test_empty_view():
    points = np.full((3, 2), -50.0) + np.eye(3, 2)
    seen = rasterize(points, np.ones(3), np.array([[0, 1, 2], [0, 2, 1]]), (8, 8))
    assert len(seen.pixel) == 0
