"""Body files: which file a path means, reading it, and checking every array before anything is built from it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Float32, Int64
from posekit.body.pickles import read_pickled_arrays
from posekit.errors import UserError, excerpt, listed, one_line, one_of
from posekit.skeletons import SMPL24

BODY_FOLDER = "POSEKIT_BODIES"
"""The environment variable that names a folder of body files."""

GENDERS = {"neutral": "neutral", "male": "m", "female": "f"}
_NEEDED = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")
_OPTIONAL = ("mirror", "base_vertex")

SMPL_SOURCE = (
    "The official file comes from https://smpl.is.tue.mpg.de (the neutral body from https://smplify.is.tue.mpg.de) "
    "after registration, under a licence for non-commercial research; posekit does not ship it. "
    "Without a path, the free built-in body is used."
)
SPIN_SOURCE = (
    "The official file is part of the data download of SPIN (https://github.com/nkolot/SPIN), for research; "
    "posekit does not ship it."
)


@dataclass(frozen=True)
class BodyArrays:
    """The arrays of one body, checked. Lengths are metres.

    Attributes:
        path: Where they came from.
        v_template: (V, 3) mean shape in T-pose.
        shapedirs: (V, 3, S) shape components.
        posedirs: (V, 3, 207) pose components; they multiply the 23 relative rotations minus the identity.
        joint_regressor: (24, V).
        weights: (V, 24) skinning weights.
        faces: (F, 3) int64.
        parents: Parent of each of the 24 joints, -1 at the root.
        base_vertex: (V,) index in the hm08 base mesh, on bodies made from it.
        mirror: (V,) index of each vertex's mirror image, where the file tells.
    """

    path: Path
    v_template: Float32
    shapedirs: Float32
    posedirs: Float32
    joint_regressor: Float32
    weights: Float32
    faces: Int64
    parents: tuple[int, ...]
    base_vertex: Int64 | None = None
    mirror: Int64 | None = None


def find_body(path: str | Path, gender: str = "neutral") -> Path:
    """Finds the body file that a path means.

    Args:
        path: An ``.npz`` or ``.pkl`` file, a folder with one, or ``"builtin_6890"`` for the larger free body.
        gender: Which file of a folder: neutral, male or female.

    Raises:
        UserError: There is no such file; the message says where it comes from.
    """
    one_of("gender of a body", gender, GENDERS)
    if str(path) == "builtin_6890":
        return _large_builtin()
    path = Path(path).expanduser()
    if path.is_dir():
        return _in_folder(path, gender)
    if not path.exists():
        raise UserError(f"body file {path} does not exist. {SMPL_SOURCE}")
    if path.suffix not in (".npz", ".pkl"):
        raise UserError(f"body file {path} ends in {path.suffix or 'nothing'}, and .npz and .pkl files are read")
    return path


def _in_folder(folder: Path, gender: str) -> Path:
    names = [f"SMPL_{gender.upper()}.npz", f"SMPL_{gender.upper()}.pkl"]
    patterns = [f"basic[mM]odel_{GENDERS[gender]}_lbs_*.npz", f"basic[mM]odel_{GENDERS[gender]}_lbs_*.pkl"]
    for pattern in [*names, *patterns]:
        found = sorted(folder.glob(pattern))
        if found:
            return found[-1]
    raise UserError(f"folder {folder} holds no {names[0]} or .pkl. {SMPL_SOURCE}")


def _large_builtin() -> Path:
    folder = os.environ.get(BODY_FOLDER)
    file = Path(folder or ".").expanduser() / "body_6890.npz"
    if folder and file.is_file():
        return file
    where = f"{BODY_FOLDER}={folder} has no body_6890.npz" if folder else f"the variable {BODY_FOLDER} is not set"
    raise UserError(
        f"body 'builtin_6890' is not shipped and {where}: build it by docs/maintainers/build_body.py --vertices 6890 "
        f"--output FOLDER/body_6890.npz and set {BODY_FOLDER}=FOLDER, or give the file's path"
    )


def read_arrays(path: Path) -> dict[str, Any]:
    """Reads a ``.npz`` or (restricted) ``.pkl`` file as it is.

    Raises:
        UserError: It cannot be read, or holds anything but plain arrays.
    """
    if path.suffix == ".pkl":
        return read_pickled_arrays(path)
    return dict(_load_numpy(path))


def _load_numpy(path: Path) -> Any:
    """Loads a ``.npz`` (all arrays) or ``.npy`` without unpickling anything."""
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    except FileNotFoundError:
        raise UserError(f"file {path} does not exist") from None
    except Exception as error:  # zipfile's, zlib's and NumPy's readers raise whatever the bytes lead them to
        reason = "it holds pickled objects" if "allow_pickle" in str(error) else one_line(error, 200)
        raise UserError(f"{path} is not a readable numpy file: {reason}") from None


def read_body(path: Path, num_betas: int | None = None) -> BodyArrays:
    """Reads a body and checks it.

    Args:
        path: A ``.npz`` or ``.pkl`` file.
        num_betas: Shape components to keep; None keeps all.

    Raises:
        UserError: An array is missing, or has the wrong shape or values; the message names file and array.
    """
    content = read_arrays(path)
    missing = [name for name in _NEEDED if name not in content]
    if missing:
        raise UserError(
            f"body file {path} lacks {', '.join(missing)}; a body in SMPL format holds {', '.join(_NEEDED)}. "
            + SMPL_SOURCE
        )
    return _checked(path, content, num_betas)


def _checked(path: Path, content: Mapping[str, Any], num_betas: int | None) -> BodyArrays:
    parents = _parents(path, content["kintree_table"])
    template = _floats(path, "v_template", content["v_template"], (None, 3))
    count = len(template)
    if count == 0:
        raise UserError(f"body file {path}: v_template has no vertices")
    shapedirs = _floats(path, "shapedirs", content["shapedirs"], (count, 3, None))
    kept = shapedirs.shape[2] if num_betas is None else num_betas
    if kept < 1 or kept > shapedirs.shape[2]:
        raise UserError(f"num_betas is {kept}, and body file {path} has 1 to {shapedirs.shape[2]} shape components")
    faces = _indices(path, "f", content["f"], count)
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise UserError(f"body file {path}: f has shape {_size(faces)}, not (F, 3)")
    below = {"mirror": count, "base_vertex": None}
    extra = {name: _indices(path, name, content[name], below[name]) for name in _OPTIONAL if name in content}
    for name, value in extra.items():
        if value.shape != (count,):
            raise UserError(f"body file {path}: {name} has shape {_size(value)}, not ({count},)")
    return BodyArrays(
        path,
        template,
        np.ascontiguousarray(shapedirs[:, :, :kept]),
        _floats(path, "posedirs", content["posedirs"], (count, 3, 207)),
        _floats(path, "J_regressor", content["J_regressor"], (24, count)),
        _floats(path, "weights", content["weights"], (count, 24)),
        faces,
        parents,
        **extra,
    )


def _parents(path: Path, table: Any) -> tuple[int, ...]:
    table = np.asarray(table)
    if table.ndim != 2 or table.shape[0] != 2:
        raise UserError(f"body file {path}: kintree_table has shape {_size(table)}, not (2, 24)")
    parents = (-1, *(int(p) for p in _floats(path, "kintree_table", table, (2, None))[0, 1:]))
    if parents != SMPL24.parents:
        what = "another joint tree" if len(parents) == 24 else f"{len(parents)} joints"
        raise UserError(f"body file {path} has {what}, and SMPL's 24 joints are needed (not SMPL-H, SMPL-X or MANO)")
    return parents


def _size(array: NDArray[Any]) -> str:
    return "(" + ", ".join(map(str, array.shape)) + ("," if array.ndim == 1 else "") + ")"


def _floats(path: Path, name: str, value: Any, shape: tuple[int | None, ...]) -> Float32:
    """Returns an array as float32 if it has the shape (None: any length) and no NaN."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise UserError(f"{path}: {name} holds no numbers ({array.dtype})")
    if array.ndim != len(shape) or any(want not in (None, have) for want, have in zip(shape, array.shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise UserError(f"{path}: {name} has shape {_size(array)}, and ({wanted}) is needed")
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
        array = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(array).all():
        raise UserError(f"{path}: {name} holds NaN or infinite numbers")
    return array


def _indices(path: Path, name: str, value: Any, below: int | None) -> Int64:
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise UserError(f"{path}: {name} holds no whole numbers ({array.dtype})")
    array = np.ascontiguousarray(array, dtype=np.int64)
    if array.size and (array.min() < 0 or (below is not None and array.max() >= below)):
        raise UserError(f"{path}: {name} names vertices outside 0 to {below - 1 if below else 'V'}")
    return array


def read_regressor(path: str | Path, rows: int, vertices: int) -> Float32:
    """Reads a joint regressor (rows, V) from an ``.npy`` file (or the only array of an ``.npz``).

    Args:
        path: The file.
        rows: Joints it must have.
        vertices: Vertices of the body.

    Raises:
        UserError: It cannot be read, or belongs to another joint set or topology.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"joint regressor {path} does not exist. {SPIN_SOURCE}")
    content = _load_numpy(path)
    if isinstance(content, dict):
        if len(content) != 1:
            names = listed([excerpt(name) for name in content], 12)
            raise UserError(f"joint regressor {path} holds {len(content)} arrays ({names}), not one")
        (content,) = content.values()
    if content.ndim != 2 or content.shape != (rows, vertices):
        size = _size(content)
        other = content.ndim == 2 and content.shape[0] == rows
        reason = "it was made for another topology" if other else "it regresses another joint set"
        raise UserError(
            f"joint regressor {path} has shape {size}, and ({rows}, {vertices}) is needed: {reason}. {SPIN_SOURCE}"
        )
    return _floats(path, "regressor", content, (rows, vertices))


def read_mean_parameters(path: str | Path, num_betas: int) -> tuple[Float32, Float32, Float32]:
    """Reads SPIN's mean parameters: pose (144,) as interleaved 6D, shape (S,), camera (3,).

    Raises:
        UserError: The file cannot be read, lacks an array, or has another size.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"mean parameters {path} do not exist. {SPIN_SOURCE}")
    content = _load_numpy(path)
    sizes = {"pose": 144, "shape": num_betas, "cam": 3}
    if not isinstance(content, dict) or not set(sizes) <= set(content):
        raise UserError(f"mean parameters {path} must be an .npz with pose, shape and cam. {SPIN_SOURCE}")
    pose, shape, camera = (_floats(path, name, content[name], (size,)) for name, size in sizes.items())
    return pose, shape, camera
