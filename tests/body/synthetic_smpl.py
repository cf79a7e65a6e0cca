"""The fixtures' synthetic body: arrays in SMPL's format and size that follow from names, so that no file is needed."""

import json
import pickle
import zlib

import numpy as np

from tests.shared import SHARED

GOLDEN = SHARED / "golden" / "maed"


def _rng(name):
    return np.random.Generator(np.random.PCG64(zlib.crc32(("smpl/" + name).encode("utf-8"))))


def _normal(name, shape):
    return _rng(name).standard_normal(shape)


def synthetic_smpl():
    """Returns the body's arrays, and the regressors and mean parameters under their files' names; all float64."""
    constants = json.loads((GOLDEN / "synthetic_smpl.json").read_text())
    parents, places = constants["PARENTS"], np.array(constants["JPOS"], dtype=np.float64)
    count = constants["n_vertices"]
    owner = np.arange(count) % 24
    above = np.maximum(parents, 0)
    weights = np.zeros((count, 24))
    weights[np.arange(count), owner] = 0.75
    np.add.at(weights, (np.arange(count), above[owner]), 0.25)

    def regressor(name, owners):
        rows = _rng(name).random((len(owners), count))
        rows *= owner[None] == np.array(owners)[:, None]
        return rows / rows.sum(1, keepdims=True)

    arrays = {
        "v_template": places[owner] + 0.05 * _normal("v_template", (count, 3)),
        "shapedirs": 0.01 * _normal("shapedirs", (count, 3, 10)),
        "posedirs": 0.001 * _normal("posedirs", (count, 3, 207)),
        "weights": weights,
        "J_regressor": regressor("J_regressor", range(24)),
        "kintree_table": np.array([[4294967295, *parents[1:]], range(24)], dtype=np.int64),
        "f": _rng("f").integers(0, count, (constants["n_faces"], 3)).astype(np.uint32),
    }
    extra = regressor("J_regressor_extra", constants["EXTRA_OWNER"])
    h36m = regressor("J_regressor_h36m", constants["H36M_OWNER"])
    mean = {
        "pose": np.tile([1.0, 0, 0, 1, 0, 0], 24) + 0.1 * _normal("mean_pose", (144,)),
        "shape": 0.1 * _normal("mean_shape", (10,)),
        "cam": np.array([0.9, 0, 0]),
    }
    return arrays, extra, h36m, mean


def write_synthetic_smpl(folder):
    """Writes the four files under the names of the official ones."""
    arrays, extra, h36m, mean = synthetic_smpl()
    (folder / "SMPL_NEUTRAL.pkl").write_bytes(pickle.dumps(arrays, protocol=2))
    np.save(folder / "J_regressor_extra.npy", extra)
    np.save(folder / "J_regressor_h36m.npy", h36m)
    np.savez(folder / "smpl_mean_params.npz", **mean)
    return folder
