"""Label files of wrong shapes, kinds and absurd numbers: one line, or samples of finite numbers, and no warnings."""

import os
import pickle

import numpy as np
import pytest
import scipy.io
import torch

from posekit.body.files import read_mean_parameters, read_regressor
from posekit.data import AMASS, CMUMoCap, Human36M
from posekit.data.body3d.human36m_files import read_videopose
from posekit.errors import UserError
from tests.data3d import test_human36m as h36m
from tests.data3d import test_mocap_modules as mocap
from tests.data3d import test_mpi_inf_3dhp as dhp
from tests.data3d import test_penn_and_lsp as penn
from tests.data3d import test_pose_database as database
from tests.data3d import test_surreal as surreal
from tests.data3d import test_threedpw as threedpw


def _amass(root):
    mocap.write_amass(root)
    mocap.write_amass(root, "KIT/9/other_poses.npz")


def _load_mat(path):
    return {name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")}


NPZ = (lambda path: dict(np.load(path)), lambda path, content: np.savez(path, **content))
MAT = (_load_mat, scipy.io.savemat)
PICKLE = (
    lambda path: pickle.loads(path.read_bytes()),
    lambda path, content: path.write_bytes(pickle.dumps(content, protocol=2)),
)
CASES = {
    "surreal": (
        surreal.write, "cmu/train/run0/01_01/01_01_c0001_info.mat", MAT, ["joints2D", "joints3D", "camLoc"],
        surreal.data,
    ),
    "penn": (penn.write_penn, "labels/0001.mat", MAT, ["x", "visibility", "bbox"], penn.penn),
    "lsp": (penn.write_lsp, "joints.mat", MAT, ["joints"], penn.lsp),
    "3dhp": (dhp.write_train, "S1/Seq1/annot.mat", MAT, ["annot2", "annot3"], dhp.data),
    "3dpw": (
        threedpw.write, "sequenceFiles/train/walk_00.pkl", PICKLE,
        ["poses", "betas", "trans", "jointPositions", "poses2d", "cam_poses", "cam_intrinsics"],
        lambda root: threedpw.ThreeDPW(str(root), frames=2, augmentation="none", image_size=(64, 64)),
    ),
    "database": (
        database.write, "3dpw_train_db.npz", NPZ, ["joints2D", "joints3D", "pose", "shape", "bbox"], database.data,
    ),
    "mmpose": (h36m.write_mmpose, "h36m_train.npz", NPZ, ["imgname", "part", "S"], h36m.data),
    "amass": (
        _amass, "KIT/3/walk_01_poses.npz", NPZ, ["poses", "trans"],
        lambda root: AMASS(str(root), val_sequences=["KIT/9*"]),
    ),
    "expmap": (
        lambda root: mocap.write_archive(root, [120, 120]), "motions.npz", NPZ, ["walking_2"],
        lambda root: CMUMoCap(str(root), val_sequences=["walking_1"]),
    ),
    "skeleton": (
        lambda root: mocap.write_archive(root, [120, 120]), "skeleton.npz", NPZ, ["offsets_mm"],
        lambda root: CMUMoCap(str(root), val_sequences=["walking_1"]),
    ),
}  # fmt: skip


def _changes(array):
    yield from (
        np.float64(3),
        np.zeros((0, 0)),
        np.array(["a", "b"]),
        array[None],
        array[..., None],
        array.reshape(-1)[:0],
    )
    if array.dtype.kind in "fiu":
        yield from (np.full(array.shape, value) for value in (np.inf, 1e300, 3e38, np.nan, 0.0))
        yield array.astype(complex)
        one = array.astype(np.float64)
        one.flat[0] = 1e200
        yield one


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", CASES)
def test_absurd_labels_are_refused_or_do_not_reach_samples(tmp_path, name):
    write, place, (load, save), arrays, make = CASES[name]
    write(tmp_path)
    whole = load(tmp_path / place)
    for key in arrays:
        listed = isinstance(whole[key], list)
        for number, value in enumerate(_changes(np.asarray(whole[key][0] if listed else whole[key]))):
            if name == "3dhp" and number > 5:
                value = dhp.cells(value)
            save(tmp_path / place, whole | {key: [value] if listed else value})
            try:
                dataset = make(tmp_path).dataset("train")
                samples = [dataset[0], dataset[len(dataset) - 1]]
            except UserError as error:
                assert "\n" not in str(error), error  # noqa: PT017
                continue
            for field, found in ((f, v) for sample in samples for f, v in sample.items()):
                finite = not isinstance(found, torch.Tensor) or bool(torch.isfinite(found.double()).all())
                assert finite or field in ("affine", "box"), (key, number, field)


class _Runs:
    """A pickle that leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_malicious_arrays_are_refused_and_not_run(tmp_path):
    trap = np.array([_Runs(tmp_path / "ran")], dtype=object)
    np.save(tmp_path / "J_regressor_extra.npy", trap)
    np.savez(tmp_path / "smpl_mean_params.npz", pose=trap, shape=np.zeros(10), cam=np.zeros(3))
    np.savez(tmp_path / "data_3d_h36m.npz", positions_3d=np.array({"S1": {"Walking": trap[0]}}, dtype=object))
    mocap.write_amass(tmp_path, "KIT/9/other_poses.npz")
    mocap.write_amass(tmp_path, poses=trap)
    h36m.write_mmpose(tmp_path, imgname=trap)
    for read in (
        lambda: read_regressor(tmp_path / "J_regressor_extra.npy", 9, 6890),
        lambda: read_mean_parameters(tmp_path / "smpl_mean_params.npz", 10),
        lambda: read_videopose(tmp_path / "data_3d_h36m.npz"),
        lambda: AMASS(str(tmp_path), val_sequences=["KIT/9*"]).dataset("train"),
        lambda: Human36M(str(tmp_path), files="mmpose").dataset("train"),
    ):
        with pytest.raises(UserError, match=r"pickle"):
            read()
    assert not (tmp_path / "ran").exists()


def test_one_bad_recording_of_surreal_is_counted(tmp_path, caplog):
    surreal.write(tmp_path)
    surreal.write(tmp_path, "02_01_c0001", change=lambda content: content.update(joints3D=np.zeros((3, 24, 5, 2))))
    with pytest.raises(UserError, match=r"joints3D has shape \(3, 24, 5, 2\), expected \(3, 24, T\)"):
        surreal.data(tmp_path).dataset("train")
    assert len(surreal.data(tmp_path, on_bad_annotation="skip").tracks("train")) == 1
    assert "left out 1 recordings of split train with faulty labels" in caplog.text
