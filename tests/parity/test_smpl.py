"""An SMPL-format body against numbers that MAED's published code gave on the synthetic body."""

import hashlib
import json

import numpy as np
import pytest
import torch

from posekit.body import load_body
from posekit.geometry import axis_angle_to_matrix
from tests.body.synthetic_smpl import GOLDEN, synthetic_smpl, write_synthetic_smpl
from tests.shared import requires_shared

pytestmark = requires_shared


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "smpl.npz") as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_synthetic_smpl(tmp_path_factory.mktemp("smpl"))


@pytest.fixture(scope="module")
def posed(folder, golden):
    body = load_body(folder)
    with torch.no_grad():
        return body, body(golden["rotmat"], golden["betas"])


def test_arrays_are_those_of_the_fixtures():
    arrays, extra, h36m, mean = synthetic_smpl()
    checks = json.loads((GOLDEN / "regen_checks.json").read_text())
    made = {**arrays, "J_regressor_extra": extra, "J_regressor_h36m": h36m}
    made |= {"mean_" + name: value for name, value in mean.items()}
    assert {"smpl/" + name for name in made} == set(checks)
    for name, value in made.items():
        check = checks["smpl/" + name]
        assert list(value.shape) == check["shape"], name
        content = value.astype(check["dtype_checked"])
        assert hashlib.sha256(content.tobytes()).hexdigest()[:16] == check["sha256_16"], name


def test_vertices(posed, golden):
    _, output = posed
    torch.testing.assert_close(output.vertices[:, ::53], golden["verts_every_53"], atol=2e-6, rtol=0)
    torch.testing.assert_close(output.vertices.double().sum(1), golden["verts_sum"], atol=5e-4, rtol=0)


def test_joints(posed, golden):
    body, output = posed
    torch.testing.assert_close(output.joints24, golden["joints45"][:, :24], atol=2e-6, rtol=0)
    torch.testing.assert_close(body.joints45(output), golden["joints45"], atol=2e-6, rtol=0)
    torch.testing.assert_close(body.joints(output, "SPIN49"), golden["joints49"], atol=2e-6, rtol=0)
    h36m = body.joints(output, "H36M17")
    # The recorded file lists the left leg first; the joint set, as Human3.6M does, the right one.
    h36m = h36m[:, [0, 4, 5, 6, 1, 2, 3, *range(7, 17)]]
    torch.testing.assert_close(h36m, golden["h36m17"], atol=2e-6, rtol=0)
    torch.testing.assert_close(h36m[:, golden["H36M_TO_J14"]], golden["h36m14"], atol=2e-6, rtol=0)


def test_joints_from_axis_angle(posed, golden):
    body, _ = posed
    output = body(axis_angle_to_matrix(golden["pose_aa"].view(-1, 24, 3)), golden["betas"])
    torch.testing.assert_close(body.joints(output, "SPIN49"), golden["joints49_from_aa"], atol=5e-6, rtol=0)


def test_mean_parameters(posed):
    body, _ = posed
    mean = synthetic_smpl()[3]
    for found, name in zip(body.mean_parameters, ("pose", "shape", "cam"), strict=True):
        np.testing.assert_array_equal(found, mean[name].astype(np.float32))
