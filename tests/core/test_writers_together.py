"""Two processes write one file of predictions: the one that a single process would write."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from posekit.callbacks import PredictionWriter, PredictionWriter3D
from tests.metrics.ddp import run_on_processes

PEOPLE = 5


class Pictures:
    frames = {i: f"{i}.png" for i in range(3)}  # noqa: RUF012
    track_names = {i: {"video": "a", "person": str(i)} for i in range(PEOPLE)}  # noqa: RUF012


def outputs(ids):
    """Predictions that follow from the samples' numbers."""
    ids = torch.tensor(ids)
    share = {"scores": 0.5 + ids / 10, "image_id": ids // 2, "sample_id": ids, "boxes": ids[:, None] + torch.rand(1, 4)}
    flat = {"keypoints": ids[:, None, None] + torch.ones(1, 17, 3), **share}
    solid = {
        "joints3d": ids[:, None, None] + torch.ones(1, 14, 3),
        "frame": 7 + ids,
        "vertices": torch.ones(len(ids), 3, 3),
    }
    return flat, {**solid, **share}


def work(rank, world, folder):
    torch.manual_seed(0)
    trainer = SimpleNamespace(datamodule=Pictures(), world_size=world, is_global_zero=rank == 0, global_rank=rank)
    method = SimpleNamespace(mesh_faces=np.array([[0, 1, 2]]))
    writers = [
        PredictionWriter(str(folder / "flat")), PredictionWriter3D(str(folder / "solid"), meshes="glb"),
        PredictionWriter(str(folder / "one share")),
    ]  # fmt: skip
    for writer, kind, ids in zip(
        writers, (0, 1, 0), (range(rank, PEOPLE, world), range(rank, PEOPLE, world), range(2 - rank * 2)), strict=True
    ):
        writer.on_predict_start(trainer, method)
        for number in ids:
            torch.manual_seed(0)
            writer.on_predict_batch_end(trainer, method, outputs([number])[kind], None, 0)
        writer.on_predict_end(trainer, method)


@pytest.mark.filterwarnings("ignore")
def test_two_processes_write_the_files_of_one(tmp_path, capsys):
    work(0, 1, tmp_path / "one")
    run_on_processes(work, 2, tmp_path / "two")
    names = [sorted(str(p.relative_to(tmp_path / n)) for p in (tmp_path / n).rglob("*.*")) for n in ("one", "two")]
    assert names[0] == names[1]
    assert "flat/results.json" in names[0]
    assert "solid/meshes/person_4.glb" in names[0]
    for name in names[0]:
        if name.endswith("npz"):
            (one, two) = (np.load(tmp_path / n / name) for n in ("one", "two"))
            assert one.files == two.files
            assert all(np.array_equal(one[key], two[key]) for key in one.files)
        else:
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert len(json.loads((tmp_path / "two" / "flat" / "results.json").read_text())) == PEOPLE
    assert len(json.loads((tmp_path / "two" / "one share" / "results.json").read_text())) == 2
