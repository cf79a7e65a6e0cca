"""A body's arrays as the objects of other code: ``smplx.SMPL``, and the numpy body with its landmark table."""

from __future__ import annotations

from typing import Any

import numpy as np

from posekit.body.builtin import BuiltinBody
from posekit.body.files import BodyArrays
from posekit.body.joint_sets import PICKS, SMPL_VERTICES
from posekit.errors import UserError


def builtin_view(arrays: BodyArrays) -> BuiltinBody:
    """Returns the arrays of a body made from the free base mesh with its landmark table and regressors.

    Raises:
        UserError: ``base_vertex`` lacks a landmark.
    """
    base = arrays.base_vertex
    assert base is not None
    mirror = np.arange(len(base)) if arrays.mirror is None else arrays.mirror
    body = BuiltinBody(
        arrays.v_template,
        arrays.shapedirs,
        arrays.joint_regressor,
        arrays.weights,
        arrays.faces.astype(np.int32),
        mirror.astype(np.int32),
        base.astype(np.int32),
        arrays.parents,
    )
    try:
        _ = body.landmarks
    except KeyError as error:
        raise UserError(f"body file {arrays.path}: base_vertex lacks the landmark vertex {error.args[0]}") from None
    return body


def smplx_model(arrays: BodyArrays) -> Any:
    """Loads arrays as ``smplx.SMPL`` without parameters of its own, and without its warning about few components."""
    from smplx import SMPL

    # smplx cuts to ten components, and says so on stdout, below this size.
    quiet = type("SMPL", (SMPL,), {"SHAPE_SPACE_DIM": arrays.shapedirs.shape[2]})
    ids = dict.fromkeys(PICKS, 0)
    if arrays.base_vertex is None and len(arrays.v_template) == SMPL_VERTICES:
        ids = None  # type: ignore[assignment]
    return quiet(
        model_path="",
        data_struct=_Struct(arrays),
        num_betas=arrays.shapedirs.shape[2],
        vertex_ids=ids,
        create_betas=False,
        create_global_orient=False,
        create_body_pose=False,
        create_transl=False,
    )


class _Struct:
    """The attributes that smplx reads from a file."""

    def __init__(self, arrays: BodyArrays) -> None:
        self.v_template = arrays.v_template
        self.shapedirs = arrays.shapedirs
        self.posedirs = arrays.posedirs
        self.J_regressor = arrays.joint_regressor
        self.weights = arrays.weights
        self.f = arrays.faces
        self.kintree_table = np.array([arrays.parents, range(24)])
