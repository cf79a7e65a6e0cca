"""A tiny body in SMPL format, so that file tests are fast and need no other folder, and smplx's built-in one."""

from types import SimpleNamespace

import numpy as np
from smplx import SMPL

from posekit.body.builtin import _asset, load_builtin_body
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


def builtin_smplx(batch_size=1):
    """The built-in body as smplx loads it, with its own landmarks in place of smplx's vertex numbers."""
    ids = {name: index for name, index in load_builtin_body().landmarks.items() if name != "head_top"}
    quiet = type("SMPL", (SMPL,), {"SHAPE_SPACE_DIM": 10})  # below its 300, smplx prints a warning
    data = SimpleNamespace(**_asset())
    return quiet(model_path="", data_struct=data, vertex_ids=ids, batch_size=batch_size, create_transl=False)
