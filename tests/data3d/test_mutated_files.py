"""Label files with bytes changed or cut: one line or usable labels, never another exception."""

import numpy as np
import pytest

from posekit.data import AMASS, MPIINF3DHP, SURREAL, CMUMoCap, Human36M, LSPExtended, PennAction, PoseDatabase, ThreeDPW
from posekit.errors import UserError
from tests.data3d import test_human36m as h36m
from tests.data3d import test_mocap_modules as mocap
from tests.data3d import test_mpi_inf_3dhp as dhp
from tests.data3d import test_penn_and_lsp as penn
from tests.data3d import test_pose_database as database
from tests.data3d import test_surreal as surreal
from tests.data3d import test_threedpw as threedpw
from tests.data3d.test_mocap_files import AMC, ASF, BVH

TRIALS = 25


def write_amc(root):
    for name in ("1_1", "1_2"):
        (root / f"{name}.amc").write_text(AMC)
    (root / "1.asf").write_text(ASF)


def write_bvh(root):
    for name in ("a", "b"):
        (root / f"{name}.bvh").write_text(BVH)


CASES = {
    "3dpw": (threedpw.write, "sequenceFiles/train/walk_00.pkl", lambda root: ThreeDPW(root)),
    "3dhp train": (dhp.write_train, "S1/Seq1/annot.mat", lambda root: MPIINF3DHP(root, cameras=[0])),
    "calibration": (dhp.write_train, "S1/Seq1/camera.calibration", lambda root: MPIINF3DHP(root, cameras=[0])),
    "3dhp test": (dhp.write_test, "TS1/annot_data.mat", lambda root: MPIINF3DHP(root)),
    "h36m": (
        h36m.write_official,
        "S1/MyPoseFeatures/D3_Positions_mono/Walking 1.60457274.cdf",
        lambda root: Human36M(root),
    ),
    "mmpose": (h36m.write_mmpose, "h36m_train.npz", lambda root: Human36M(root)),
    "surreal": (surreal.write, "cmu/train/run0/01_01/01_01_c0001_info.mat", lambda root: SURREAL(root)),
    "penn": (penn.write_penn, "labels/0001.mat", lambda root: PennAction(root)),
    "lsp": (penn.write_lsp, "joints.mat", lambda root: LSPExtended(root)),
    "joblib": (lambda root: database.write(root, ".pt"), "3dpw_train_db.pt", lambda root: PoseDatabase(root)),
    "npz": (database.write, "3dpw_train_db.npz", lambda root: PoseDatabase(root)),
    "amass": (mocap.write_amass, "KIT/3/walk_01_poses.npz", lambda root: AMASS(root, val_sequences=["KIT/9*"])),
    "expmap": (
        lambda r: mocap.write_archive(r, [120, 120]),
        "motions.npz",
        lambda r: CMUMoCap(r, val_sequences=["walking_1"]),
    ),
    "skeleton": (
        lambda r: mocap.write_archive(r, [120, 120]),
        "skeleton.npz",
        lambda r: CMUMoCap(r, val_sequences=["walking_1"]),
    ),
    "amc": (
        write_amc,
        "1_1.amc",
        lambda root: CMUMoCap(root, frames=1, missing_joints="zero_weight", val_sequences=["1_2"]),
    ),
    "asf": (
        write_amc,
        "1.asf",
        lambda root: CMUMoCap(root, frames=1, missing_joints="zero_weight", val_sequences=["1_2"]),
    ),
    "bvh": (
        write_bvh,
        "a.bvh",
        lambda root: CMUMoCap(root, frames=1, missing_joints="zero_weight", scale=0.1, val_sequences=["b"]),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_mutated_label_files(tmp_path, name):
    write, place, make = CASES[name]
    write(tmp_path)
    if name == "amass":
        write(tmp_path, "KIT/9/other_poses.npz")
    split = "test" if name == "3dhp test" else "train"
    assert len(make(str(tmp_path)).make_dataset(split)) > 0
    path = tmp_path / place
    whole = path.read_bytes()
    rng = np.random.default_rng(len(name))
    refused = 0
    for trial in range(TRIALS):
        content = bytearray(whole[: rng.integers(len(whole))] if trial % 3 == 0 else whole)
        for _ in range(int(rng.integers(1, 6))):
            if content:
                content[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(bytes(content))
        try:
            make(str(tmp_path)).make_dataset(split)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error), error  # noqa: PT017
    assert refused > 0
