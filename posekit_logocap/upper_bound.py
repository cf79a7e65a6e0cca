"""The empirical upper bound: the AP that the best mesh point around every initial joint would have.

The supplement (section 2) assigns each initial pose the person whose similarity, summed over window and joints, is
greatest, and takes "the pose with the maximal similarity in the window", which can be read in two ways:

    ``joint``  the best mesh point of every joint by itself (as in training; the likely reading)
    ``pose``   one mesh index for the whole pose

The official code assigns by the largest similarity in the window instead; both assignments are options.

    posekit bench upper_bound                                                          made poses on drawn scenes
    python -m posekit_logocap.upper_bound --config FILE --noise 4 8                    made poses on the config's data
    python -m posekit_logocap.upper_bound --config FILE --checkpoint best.ckpt         the initial poses of a checkpoint
"""

from __future__ import annotations

import json
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from posekit.cli import exit_in_one_line
from posekit.cli.arguments import ArgumentParser
from posekit.cli.build import build_from_config
from posekit.cli.quiet import one_line_errors, quieten
from posekit.data import SyntheticPeople
from posekit.data.batch import SceneBatch
from posekit.data.datamodule import PoseDataModule
from posekit.errors import UserError, in_range, one_of
from posekit.geometry import uncrop_points
from posekit.metrics import KeypointAP
from posekit.skeletons import get_skeleton
from posekit_logocap.losses import oks_factors
from posekit_logocap.module import LogoCap
from posekit_logocap.refine import Expansion
from posekit_logocap.targets import Persons, stack_persons

READINGS = ("joint", "pose")
ASSIGNMENTS = ("sum", "largest")


def assign_person(mesh: Tensor, persons: Persons, sigmas: Tensor, assignment: str = "sum") -> Tensor:
    """Returns the person of each initial pose, (B, T) int64.

    Args:
        mesh: (B, T, K, 2, P) px along x and along y.
        persons: With G rows.
        sigmas: (K,) OKS deviations.
        assignment: ``sum`` over the window, or the ``largest`` value in it.

    Raises:
        UserError: Unknown assignment.
    """
    one_of("assignment", assignment, ASSIGNMENTS)
    x, y = (f.sum(-1) if assignment == "sum" else f.amax(-1) for f in oks_factors(mesh, persons, sigmas))
    labelled = persons.visible.sum(-1).clamp(min=1)[:, None]
    return ((x * y).sum(-1) / labelled).argmax(-1)


def best_mesh_pose(mesh: Tensor, persons: Persons, person: Tensor, sigmas: Tensor, reading: str = "joint") -> Tensor:
    """Returns the best poses (B, T, K, 2) that the mesh offers; joints without label stay in the middle.

    Args:
        mesh: (B, T, K, 2, P) px along x and along y.
        persons: With G rows.
        person: (B, T) of each pose.
        sigmas: (K,) OKS deviations.
        reading: One of ``READINGS``.

    Raises:
        UserError: Unknown reading.
    """
    one_of("reading", reading, READINGS)
    rows = person[:, :, None, None, None]
    along_x, along_y = (
        factor.gather(2, rows.expand(-1, -1, 1, *factor.shape[3:]))[:, :, 0]
        for factor in oks_factors(mesh, persons, sigmas)
    )
    points = mesh.shape[-1]
    middle = points // 2
    if reading == "joint":
        x, y = along_x.argmax(-1), along_y.argmax(-1)  # the OKS is a product: each axis has its own best
        labelled = persons.visible.gather(1, person[..., None].expand(-1, -1, mesh.shape[2]))
        x, y = (torch.where(labelled, index, middle) for index in (x, y))
    else:
        together = torch.einsum("btky,btkx->btyx", along_y, along_x).flatten(2)
        index = together.argmax(-1)[..., None].expand(-1, -1, mesh.shape[2])
        x, y = index % points, torch.div(index, points, rounding_mode="floor")
    chosen = torch.stack([x, y], -1)[..., None]
    return mesh.gather(-1, chosen)[..., 0]


def made_poses(persons: Persons, noise: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns labelled poses (B, G, K, 2) with normal noise, px, and which rows are people (B, G)."""
    shift = noise * torch.randn(persons.keypoints.shape, generator=generator)
    return persons.keypoints + shift, persons.visible.any(-1)


def measure(
    datamodule: PoseDataModule,
    module: LogoCap | None = None,
    noise: float = 0.0,
    assignment: str = "sum",
    split: str = "val",
    batches: int | None = None,
    expansion: Expansion | None = None,
) -> dict[str, float]:
    """Measures the AP of initial poses and of their upper bounds on a data module's scenes.

    Args:
        datamodule: With the view ``scenes``.
        module: Gives the initial poses that survive suppression; None makes poses from the labels.
        noise: Deviation of made poses, px of the input.
        assignment: One of ``ASSIGNMENTS``.
        split: ``val`` or ``test``.
        batches: At most so many.
        expansion: The windows' geometry; None takes the module's, without a module LogoCap's default.

    Raises:
        UserError: The data have no ground truth or are no scenes, or a number is out of its range.
    """
    in_range("upper bound", "noise", noise, "[0, inf)")
    in_range("upper bound", "batches", batches, "[1, inf)", whole=True, none=True)
    skeleton = get_skeleton(datamodule.skeleton)
    if expansion is None:
        expansion = module.expansion if module is not None else Expansion(skeleton.sigmas)
    sigmas = torch.tensor(skeleton.sigmas)
    datamodule.setup("fit" if split == "val" else "test")
    truth = datamodule.ground_truth(split)  # type: ignore[arg-type]
    if truth is None:
        raise UserError(f"{type(datamodule).__name__} has no ground truth for {split}")
    names = ["initial", *READINGS, *(["refined"] if module is not None else [])]
    metrics = {name: KeypointAP(skeleton.sigmas, only_seen=batches is not None) for name in names}
    for metric in metrics.values():
        metric.set_targets(truth)
    generator = torch.Generator().manual_seed(0)
    for batch in _batches(datamodule, split, batches):
        persons = stack_persons(batch["keypoints"], batch["visible"], batch["area"])
        poses, scores, valid, refined = _initial(module, batch, persons, noise, generator)
        mesh = expansion.mesh(poses)
        person = assign_person(mesh, persons, sigmas, assignment)
        results = {name: best_mesh_pose(mesh, persons, person, sigmas, name) for name in READINGS}
        results["initial"] = poses
        if refined is not None:
            results["refined"] = refined[..., :2]
        for name, points in results.items():
            final = refined[..., 2].mean(-1) if name == "refined" and refined is not None else scores
            metrics[name].update(_entries(points, final, valid, batch))
    return {f"AP_{name}": float(metric.compute()["AP"]) for name, metric in metrics.items()}


def _batches(datamodule: PoseDataModule, split: str, count: int | None) -> Iterator[SceneBatch]:
    for number, batch in enumerate(datamodule.loader(split)):  # type: ignore[arg-type]
        if number == count:
            return
        if isinstance(batch["keypoints"], Tensor):
            raise UserError("the upper bound needs whole pictures: set data.view to scenes")
        yield batch


@torch.inference_mode()
def _initial(
    module: LogoCap | None, batch: SceneBatch, persons: Persons, noise: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Returns initial poses (B, T, K, 2), scores and validity (B, T), and refined joints (B, T, K, 3) of a module."""
    if module is None:
        poses, valid = made_poses(persons, noise, generator)
        return poses, torch.ones(valid.shape), valid, None
    module.eval()
    found = module.infer(batch["image"])
    counts = found.image.bincount(minlength=len(batch["image"]))
    width, joints = max(1, int(counts.max())), found.initial.shape[1]
    rank = torch.arange(len(found.image)) - (counts.cumsum(0) - counts)[found.image]
    initial, refined = (torch.zeros(len(counts), width, joints, 3) for _ in range(2))
    initial[found.image, rank], refined[found.image, rank] = found.initial, found.keypoints
    valid = torch.arange(width) < counts[:, None]
    return initial[..., :2], initial[:, :, 0, 2], valid, refined


def _entries(points: Tensor, scores: Tensor, valid: Tensor, batch: SceneBatch) -> list[dict[str, Any]]:
    original = uncrop_points(points, batch["affine"])
    return [
        {"keypoints": original[row][valid[row]], "scores": scores[row][valid[row]], "image_id": image_id}
        for row, image_id in enumerate(batch["image_id"].tolist())
    ]


def bench_upper_bound(
    noises: Sequence[float] = (2.0, 4.0, 8.0), scenes: int = 60, assignment: str = "sum"
) -> dict[str, float]:
    """Measures made poses on drawn scenes of 256 x 256; for ``posekit bench upper_bound``.

    Args:
        noises: Deviations of the made poses, px.
        scenes: Number of scenes.
        assignment: One of ``ASSIGNMENTS``.

    Returns:
        AP by reading and noise; of a single noise by reading alone.
    """
    data = SyntheticPeople(view="scenes", image_size=(256, 256), train_size=1, val_size=scenes, batch_size=20)
    result = {}
    for noise in noises:
        for name, value in measure(data, noise=noise, assignment=assignment).items():
            result[name if len(noises) == 1 else f"{name}_noise_{noise:g}px"] = value
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; see the module's text. A user's mistake is one line on stderr and exit code 2."""
    parser = ArgumentParser(
        prog="python -m posekit_logocap.upper_bound", description=__doc__, formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--config", required=True, help="config of LogoCap: its data (view scenes), its geometry")
    parser.add_argument("--checkpoint", help="checkpoint of LogoCap that gives the initial poses, and the geometry")
    parser.add_argument("--noise", type=float, nargs="+", default=[4.0], help="px of made poses")
    parser.add_argument("--assignment", choices=ASSIGNMENTS, default="sum")
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--batches", type=int, help="at most so many")
    with exit_in_one_line():
        options, rest = parser.parse_known_args(argv)
        quieten()
        with one_line_errors():
            print(json.dumps(_rows(options, rest), indent=2))


def _rows(options: Namespace, rest: list[str]) -> dict[str, dict[str, float]]:
    """Returns the bounds of a checkpoint's poses, or of made ones by their noise.

    Raises:
        UserError: The config is of another method, or options of the model stand beside a checkpoint.
    """
    common = {"assignment": options.assignment, "split": options.split, "batches": options.batches}
    if options.checkpoint:
        given = next((word.partition("=")[0] for word in rest if word.startswith("--model")), None)
        if given is not None:
            raise UserError(f"{given} does not go with --checkpoint, whose options are those of its training")
        module: Any = LogoCap.load_from_checkpoint(options.checkpoint)
        _, datamodule = build_from_config(["--config", options.config, *rest])
        module.check_data(datamodule)
        return {"checkpoint": measure(datamodule, module, **common)}
    module, datamodule = build_from_config(["--config", options.config, *rest])
    if not isinstance(module, LogoCap):
        raise UserError(f"config {options.config} is of {type(module).__name__}: the upper bound is LogoCap's")
    module.check_data(datamodule)
    common["expansion"] = module.expansion
    return {f"noise {noise:g} px": measure(datamodule, noise=noise, **common) for noise in options.noise}


if __name__ == "__main__":
    main()
