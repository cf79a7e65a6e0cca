"""``posekit body``: converts and describes body files. Its help answers without importing torch."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posekit.cli.arguments import ArgumentParser
from posekit.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from posekit.body.files import BodyArrays


def run(argv: Sequence[str]) -> None:
    """Runs ``posekit body convert IN.pkl OUT.npz`` or ``posekit body info FILE``.

    Args:
        argv: Words after ``body``.

    Raises:
        UserError: A file is missing, refused or wrong.
    """
    arguments = _parser().parse_args(list(argv))
    command: Callable[[argparse.Namespace], None] = arguments.run
    command(arguments)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="posekit body",
        description="Body files in SMPL format. Nothing in a .pkl is executed: only arrays are read.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    convert = commands.add_parser("convert", help="official .pkl to a plain .npz that loads without pickle")
    convert.add_argument("input", type=Path, metavar="IN.pkl", help="SMPL_NEUTRAL.pkl, or a .npz to be cleaned")
    convert.add_argument("output", type=Path, metavar="OUT.npz", help="written whole or not at all")
    convert.add_argument("--num-betas", type=int, metavar="N", help="shape components to keep (default: all)")
    convert.set_defaults(run=_convert)
    info = commands.add_parser("info", help="what a body file holds")
    info.add_argument("file", help=".pkl, .npz, a folder, builtin or builtin_6890")
    info.set_defaults(run=_info)
    return parser


def _convert(arguments: argparse.Namespace) -> None:
    import numpy as np

    from posekit.body.files import find_body, read_arrays, read_body
    from posekit.files import atomic_write_bytes

    if arguments.output.suffix != ".npz":
        raise UserError(f"the output {arguments.output} must end in .npz")
    source = find_body(arguments.input)
    body = read_body(source, arguments.num_betas)
    kept = as_file_arrays(body)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **kept)  # type: ignore[arg-type]  # its stub takes the names for flags
    try:
        atomic_write_bytes(arguments.output, buffer.getvalue())
    except OSError as error:
        raise UserError(f"{arguments.output} cannot be written: {error.strerror or error}") from None
    print(f"{source} -> {arguments.output} ({len(buffer.getvalue()) / 1e6:.1f} MB)")
    for name, array in kept.items():
        print(f"  kept  {name:14} {array.dtype!s:8} {tuple(array.shape)}")
    left = sorted(set(read_arrays(source)) - set(kept))
    if left:
        print(f"  left out: {', '.join(left)}")
    print("The licence of the input holds for the output too.")


def as_file_arrays(body: BodyArrays) -> dict[str, NDArray[Any]]:
    """Returns a checked body's arrays under the names and in the layout of an SMPL file; numbers are float32."""
    import numpy as np

    arrays: dict[str, NDArray[Any]] = {
        "v_template": body.v_template,
        "shapedirs": body.shapedirs,
        "posedirs": body.posedirs,
        "J_regressor": body.joint_regressor,
        "weights": body.weights,
        "kintree_table": np.array([body.parents, range(len(body.parents))], dtype=np.int64),
        "f": body.faces.astype(np.int32),
    }
    for name in ("mirror", "base_vertex"):
        value = getattr(body, name)
        if value is not None:
            arrays[name] = value.astype(np.int32)
    return arrays


def _info(arguments: argparse.Namespace) -> None:
    from posekit.body.load import body_arrays

    body, name = body_arrays(arguments.file)
    heights = body.v_template[:, 1]
    print(f"{name}: {body.path}")
    print(f"  vertices          {len(body.v_template)}, faces {len(body.faces)}, joints {len(body.parents)}")
    print(f"  shape components  {body.shapedirs.shape[2]}")
    print(f"  pose components   {'207' if body.posedirs.any() else 'none (all zero)'}")
    print(f"  height            {heights.max() - heights.min():.3f} m")
    if body.base_vertex is not None:
        print("  a free body (CC0) of the hm08 base mesh: every joint set by its own regressors")
    else:
        print("  joint sets        SMPL24, COCO17; H36M17 by J_regressor_h36m.npy, others by J_regressor_extra.npy")
