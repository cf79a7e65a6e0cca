"""A tiny body in SMPL format, so that file tests are fast and need no other folder."""

import numpy as np

from posekit.skeletons import SMPL24


def toy_arrays(vertices=48, betas=10, seed=0):
    """Random arrays of a body with few vertices."""
    rng = np.random.default_rng(seed)
    rows = rng.random((24, vertices))
    weights = rng.random((vertices, 24)) ** 8
    return {
        "v_template": rng.normal(0, 0.4, (vertices, 3)),
        "shapedirs": rng.normal(0, 0.01, (vertices, 3, betas)),
        "posedirs": rng.normal(0, 1e-3, (vertices, 3, 207)),
        "J_regressor": rows / rows.sum(1, keepdims=True),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([[4294967295, *SMPL24.parents[1:]], range(24)], dtype=np.int64),
        "f": rng.integers(0, vertices, (30, 3)).astype(np.uint32),
    }
