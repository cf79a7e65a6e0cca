"""Loads bodies from files; without one, the free body that comes with the package."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from posekit.arrays import Float32
from posekit.body.files import BodyArrays, find_body, read_body, read_mean_parameters, read_regressor
from posekit.body.model import SMPLBody
from posekit.errors import UserError

BUILTIN = "builtin"


def load_body(
    path: str | Path | None = None,
    *,
    joint_regressor_extra: str | Path | None = None,
    joint_regressor_h36m: str | Path | None = None,
    mean_params: str | Path | None = None,
    num_betas: int = 10,
    gender: str = "neutral",
) -> SMPLBody:
    """Loads a body in SMPL format.

    Args:
        path: None (or ``"builtin"``) for the built-in body of 1,500 vertices; an ``.npz`` file in SMPL format; the
            official ``.pkl``, which is read without running anything in it; a folder with ``SMPL_NEUTRAL.npz`` or
            ``.pkl``; ``"builtin_6890"`` for ``body_6890.npz`` in the folder that the variable POSEKIT_BODIES names.
        joint_regressor_extra: SPIN's ``J_regressor_extra.npy`` (9, V), which SPIN49 needs of an SMPL file. None takes
            the file of that name in the folder, or beside the SMPL file; so for the next two.
        joint_regressor_h36m: ``J_regressor_h36m.npy`` (17, V), which H36M17 needs of an SMPL file. On the built-in body
            it stands in for its own regressor.
        mean_params: ``smpl_mean_params.npz``, the start of an iterative regressor.
        num_betas: Shape coefficients that the body takes.
        gender: Which file of a folder: neutral, male or female.

    Raises:
        UserError: A file is missing, or its arrays have other shapes or belong to another body.
    """
    arrays, name = body_arrays(path, num_betas, gender)
    folder = _folder(path, arrays)
    count = len(arrays.v_template)
    extra, h36m, mean = (
        given if given is not None else _beside(folder, default)
        for given, default in (
            (joint_regressor_extra, "J_regressor_extra.npy"),
            (joint_regressor_h36m, "J_regressor_h36m.npy"),
            (mean_params, "smpl_mean_params.npz"),
        )
    )
    return SMPLBody(
        arrays,
        name,
        extra=None if extra is None else read_regressor(extra, 9, count),
        h36m=None if h36m is None else _right_leg_first(read_regressor(h36m, 17, count), arrays),
        mean=_mean(mean, arrays),
    )


def _right_leg_first(regressor: Float32, arrays: BodyArrays) -> Float32:
    """Returns the rows of a 17-joint regressor in H36M17's order.

    SPIN's ``J_regressor_h36m.npy`` lists the left leg first, Human3.6M itself the right one; which a file does is told
    by the side its hips are on at rest (left is x > 0).
    """
    hips = regressor[[1, 4]] @ arrays.v_template[:, 0]
    return regressor[[0, 4, 5, 6, 1, 2, 3, *range(7, 17)]] if hips[0] > hips[1] else regressor


def body_arrays(
    path: str | Path | None, num_betas: int | None = None, gender: str = "neutral"
) -> tuple[BodyArrays, str]:
    """Finds, reads and checks a body's arrays; returns them and the body's name. See :func:`load_body`.

    Raises:
        UserError: The file is missing or wrong.
    """
    if path is not None and str(path) != BUILTIN:
        file = find_body(path, gender)
        return read_body(file, num_betas), file.name
    if gender != "neutral":
        raise UserError(f"the built-in body has no gender {gender!r}: leave it at 'neutral', or give a path")
    with _asset("body_1500.npz") as asset:
        return read_body(asset, num_betas), "builtin_1500"


def _folder(path: str | Path | None, arrays: BodyArrays) -> Path | None:
    """Returns where regressors of a body may lie; a single free body brings its own, and may lie among SMPL's."""
    if path is None or str(path) == BUILTIN:
        return None
    alone = not Path(path).expanduser().is_dir()
    return None if alone and arrays.base_vertex is not None else arrays.path.parent


def _beside(folder: Path | None, name: str) -> Path | None:
    file = folder / name if folder else None
    return file if file is not None and file.is_file() else None


def _mean(path: str | Path | None, arrays: BodyArrays) -> tuple[Float32, Float32, Float32] | None:
    """Returns the given mean parameters; the mean of the shipped motion on bodies of the free base mesh; or None."""
    count = arrays.shapedirs.shape[2]
    if path is not None:
        return read_mean_parameters(path, count)
    if arrays.base_vertex is None:
        return None
    with _asset("mean_parameters.npz") as asset:
        pose, _, camera = read_mean_parameters(asset, 10)
    return pose, np.zeros(count, dtype=np.float32), camera


def _asset(name: str) -> AbstractContextManager[Path]:
    return as_file(files("posekit.body") / "assets" / name)
