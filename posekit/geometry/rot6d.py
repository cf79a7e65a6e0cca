"""The continuous 6D form of rotations: the first two columns of the matrix, made orthonormal.

Source: Zhou et al., "On the continuity of rotation representations in neural networks", CVPR 2019, section 4.2. Codes
differ in how they store the two columns, so the layout has a name here.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from posekit.errors import one_of

Columns = Literal["interleaved", "consecutive"]
_COLUMNS = ("interleaved", "consecutive")
_SHORTEST = 1e-6  # a shorter vector is divided by this instead of its length


def rot6d_to_matrix(rot6d: Tensor, columns: Columns = "interleaved") -> Tensor:
    """Turns 6D vectors into rotation matrices by Gram-Schmidt.

    Zero vectors give a zero matrix and parallel ones a matrix of lower rank, never NaN; gradients stay finite.

    Args:
        rot6d: (…, 6).
        columns: Where the two columns are. ``"interleaved"``: entries 0, 2, 4 and 1, 3, 5, the rows of a (3, 2) matrix
            (HMR, SPIN, MAED). ``"consecutive"``: entries 0, 1, 2 and 3, 4, 5 (Zhou et al.).

    Returns:
        (…, 3, 3) matrices that act on column vectors; float32 where the input is of half precision.

    Raises:
        UserError: The layout has another name.
    """
    _check(columns)
    full = rot6d.float() if rot6d.dtype in (torch.float16, torch.bfloat16) else rot6d
    a, b = (full[..., 0::2], full[..., 1::2]) if columns == "interleaved" else (full[..., :3], full[..., 3:])
    first = _unit(a)
    second = _unit(b - (first * b).sum(-1, keepdim=True) * first)
    third = torch.linalg.cross(first, second, dim=-1)
    return torch.stack([first, second, third], -1)


def matrix_to_rot6d(matrix: Tensor, columns: Columns = "interleaved") -> Tensor:
    """Takes the first two columns of matrices (…, 3, 3) as 6D vectors (…, 6); see :func:`rot6d_to_matrix`."""
    _check(columns)
    pair = matrix[..., :2] if columns == "interleaved" else matrix[..., :2].mT
    return pair.reshape(*matrix.shape[:-2], 6)


def _check(columns: str) -> None:
    one_of("layout of 6D rotations", columns, _COLUMNS)


def _unit(vector: Tensor) -> Tensor:
    squared = (vector * vector).sum(-1, keepdim=True)
    # The clamp stands before the root, whose slope at zero is infinite.
    return vector / squared.clamp_min(_SHORTEST * _SHORTEST).sqrt()
