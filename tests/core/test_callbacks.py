import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from posekit.callbacks import throughput
from posekit.callbacks.checkpoint_io import AtomicCheckpointIO
from posekit.callbacks.compile_networks import CompileNetworks
from posekit.callbacks.model_table import ModelTable
from posekit.callbacks.result_table import ResultTable
from posekit.callbacks.writer import PredictionWriter, coco_results, overlay_names
from posekit.callbacks.writer3d import PredictionWriter3D
from posekit.errors import UserError
from posekit.files import atomic_write_bytes, atomic_write_text
from posekit.metrics.keypoint_error import KeypointError
from posekit.module import PoseModule
from posekit.resources import process_memory
from posekit.skeletons import get_skeleton
from posekit.visualization import TrackPainter


def test_atomic_write_leaves_no_part_behind(tmp_path):
    path = tmp_path / "a" / "b.json"
    atomic_write_text(path, "1")
    atomic_write_text(path, "2")
    assert path.read_text() == "2"
    assert [p.name for p in path.parent.iterdir()] == ["b.json"]


def test_a_failed_write_keeps_the_earlier_file(tmp_path):
    path = tmp_path / "x.json"
    atomic_write_text(path, "old")
    with pytest.raises(AttributeError):
        atomic_write_text(path, None)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("durable", [False, True])
def test_a_durable_file_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch, durable):
    path, synced = tmp_path / "x.ckpt", []
    monkeypatch.setattr("posekit.files.os.fsync", lambda _: synced.append(path.exists()))
    atomic_write_bytes(path, b"1", durable=durable)
    assert synced == ([False] if durable else [])
    AtomicCheckpointIO().save_checkpoint({"a": 1}, tmp_path / "y.ckpt")
    assert len(synced) == durable + 1


def test_coco_results_keep_large_ids_exactly(tmp_path):
    writer = PredictionWriter(str(tmp_path))
    outputs = {
        "keypoints": torch.rand(2, 17, 3),
        "scores": torch.tensor([0.25, 0.5]),
        "boxes": torch.rand(2, 4),
        "image_id": torch.tensor([2**40 + 1, 3]),
        "sample_id": torch.tensor([7, 8]),
    }
    writer.on_predict_batch_end(None, None, outputs, None, 0)
    writer.on_predict_batch_end(None, None, outputs, None, 1)  # repeated by a distributed sampler
    rows = json.loads(json.dumps(coco_results(writer._merged(writer._rows))))
    assert [r["image_id"] for r in rows] == [2**40 + 1, 3]
    assert len(rows[0]["keypoints"]) == 51
    assert rows[1]["score"] == 0.5
    assert "track_id" not in rows[0]
    rows = coco_results({**writer._merged(writer._rows), "track_id": np.array([4, -1])})
    assert [row.get("track_id") for row in rows] == [4, None]


def test_results_have_the_category_of_the_data_s_people(tmp_path):
    outputs = {
        "keypoints": torch.rand(1, 17, 3), "scores": torch.ones(1), "boxes": torch.rand(1, 4),
        "image_id": torch.tensor([3]), "sample_id": torch.tensor([7]),
    }  # fmt: skip
    for data, category in ((SimpleNamespace(people_category=0), 0), (SimpleNamespace(), 1)):
        trainer = SimpleNamespace(datamodule=data, world_size=1, is_global_zero=True)
        writer = PredictionWriter(str(tmp_path))
        writer.on_predict_start(trainer, None)
        writer.on_predict_batch_end(trainer, None, outputs, None, 0)
        writer.on_predict_end(trainer, SimpleNamespace())
        (row,) = json.loads((tmp_path / "results.json").read_text())
        assert row["category_id"] == category


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["x/a.png", "x/b.jpg"], ["a", "b"]),
        (["x/a.png", "x/a.tif", "x/b.png"], ["x#a.png", "x#a.tif", "b"]),
        (["x/1.png", "y/1.png", "y/2.png"], ["x#1", "y#1", "y#2"]),
        (["a.mp4#0", "a.mp4#1"], ["a.mp4#0", "a.mp4#1"]),
    ],
)
def test_overlays_have_names_of_their_own(files, names):
    assert list(overlay_names(dict(enumerate(files))).values()) == [f"{name}.jpg" for name in names]


class Pictures:
    """A data module of two black pictures."""

    frames = {0: "a.png", 1: "b.png"}  # noqa: RUF012

    def read_frame(self, image_id):
        return np.zeros((64, 64, 3), np.uint8)


def test_a_data_module_that_names_no_pictures_has_none_drawn(tmp_path):
    class Nameless(Pictures):
        frames = None

    trainer = SimpleNamespace(datamodule=Nameless(), world_size=1, is_global_zero=True)
    writer = PredictionWriter(str(tmp_path))
    writer.on_predict_start(trainer, None)
    writer.on_predict_end(trainer, SimpleNamespace())
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


class Unopened:
    """A video writer without the codec, which leaves an empty file and drops what it is given."""

    fourcc = cv2.VideoWriter.fourcc

    def __init__(self, path, *_):
        Path(path).touch()

    def isOpened(self):
        return False

    def release(self):
        pass


@pytest.mark.parametrize(("option", "least"), [(None, 0.05), (0.5, 0.5), (0.0, 0.0)])
def test_weak_candidates_are_in_the_file_but_neither_counted_nor_drawn(tmp_path, capsys, option, least):
    method = SimpleNamespace(skeleton=get_skeleton("COCO17"), least_score=0.05)
    trainer = SimpleNamespace(datamodule=Pictures(), world_size=1, is_global_zero=True)
    writer = PredictionWriter(str(tmp_path), score_threshold=option)
    writer.on_predict_start(trainer, method)
    joints = torch.cat([10 + 40 * torch.rand(3, 17, 2), torch.ones(3, 17, 1)], -1)
    outputs = {
        "keypoints": joints, "scores": torch.tensor([0.9, 0.01, 0.02]), "boxes": torch.rand(3, 4),
        "image_id": torch.tensor([0, 0, 1]), "sample_id": torch.arange(3),
    }  # fmt: skip
    writer.on_predict_batch_end(trainer, method, outputs, None, 0)
    writer.on_predict_end(trainer, method)
    assert len(json.loads((tmp_path / "results.json").read_text())) == 3
    said = capsys.readouterr().out
    if least:
        assert said.startswith("1 person: ")
        assert f"further 2 candidates of a score below {least:g} in the file" in said
    else:
        assert said.startswith("3 people: ")
    drawn = [cv2.imread(str(tmp_path / "overlays" / name)).any() for name in ("a.jpg", "b.jpg")]
    assert drawn == [True, not least]


@pytest.mark.parametrize(("is_video", "factor"), [(False, 8), (True, 1)])
@pytest.mark.parametrize("tracked", [False, True])
def test_overlays_of_small_pictures_are_enlarged(tmp_path, is_video, factor, tracked):
    joints = np.zeros((1, 17, 3), np.float32)
    joints[0, [5, 6]] = [[20, 30, 1], [40, 30, 1]]
    rows = {"keypoints": joints, "boxes": np.array([[10.0, 20, 40, 30]]), "image_id": np.zeros(1), "scores": np.ones(1)}
    rows["track_id"] = np.ones(1, np.int64)
    data = Pictures()
    data.is_video = is_video
    painter = TrackPainter(rows, [0]) if tracked else None
    method = SimpleNamespace(skeleton=get_skeleton("COCO17"))
    drawn = PredictionWriter(str(tmp_path))._overlay(data, 0, rows, method, painter)
    assert drawn.shape == (64 * factor, 64 * factor, 3)
    places = np.argwhere((drawn > 60).any(-1)) / factor
    assert np.abs(places.max(0) - [50, 50]).max() < 2  # the box
    bones = np.argwhere(np.ptp(drawn[round(25 * factor) : round(35 * factor)], -1) > 60)[:, 1] / factor
    assert np.quantile(bones, 0.5) == pytest.approx(30, abs=3)


def test_a_method_says_whom_its_overlays_show(tmp_path):
    joints = np.full((2, 17, 3), 30, np.float32)
    rows = {"keypoints": joints, "boxes": np.zeros((2, 4)), "image_id": np.zeros(2), "scores": np.ones(2)}
    asked = []

    class Method(PoseModule):
        skeleton = get_skeleton("COCO17")

        def drawn_people(self, rows, threshold):
            asked.append((len(rows["scores"]), threshold))
            return rows["keypoints"][:0]

    assert not PredictionWriter(str(tmp_path), threshold=0.3)._overlay(Pictures(), 0, rows, Method(), None).any()
    assert asked == [(2, 0.3)]
    assert PredictionWriter(str(tmp_path))._overlay(Pictures(), 0, rows, type("Plain", (PoseModule,), {})(), None).any()


def test_a_video_that_is_not_drawn_to_its_end_leaves_no_part_behind(tmp_path):
    class Video(Pictures):
        is_video, fps = True, None

        def read_frame(self, image_id):
            if image_id == 1:
                assert [path.name for path in tmp_path.glob("*.mp4")] == ["overlay.part.mp4"]
                raise KeyboardInterrupt
            return super().read_frame(image_id)

    method = SimpleNamespace(skeleton=get_skeleton("COCO17"))
    trainer = SimpleNamespace(datamodule=Video(), world_size=1, is_global_zero=True)
    writer = PredictionWriter(str(tmp_path))
    writer.on_predict_start(trainer, method)
    with pytest.raises(KeyboardInterrupt):
        writer.on_predict_end(trainer, method)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.json", "results.json"]


def test_a_video_that_opencv_cannot_write_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "VideoWriter", Unopened)
    trainer = SimpleNamespace(
        datamodule=SimpleNamespace(frames={0: "v#0"}, is_video=True, fps=5.0, read_frame=Pictures().read_frame),
        world_size=1, is_global_zero=True,
    )  # fmt: skip
    writer = PredictionWriter(str(tmp_path))
    writer.on_predict_start(trainer, None)
    with pytest.raises(UserError, match="no codec for mp4 video"):
        writer.on_predict_end(trainer, SimpleNamespace(skeleton=get_skeleton("COCO17")))
    assert not list(tmp_path.glob("*.mp4"))


class CutShort(Unopened):
    """A video writer whose disk is full: it says nothing, and its file has no index."""

    def __init__(self, path, *_):
        Path(path).write_bytes(b"\0\0\0\x18ftypmp42" + bytes(500))

    def isOpened(self):
        return True

    def write(self, _):
        pass


class Forgetful(Unopened):
    """A video writer that loses the last picture."""

    def __init__(self, *arguments):
        self.inner, self.last = WRITER(*arguments), None

    def isOpened(self):
        return True

    def write(self, picture):
        if self.last is not None:
            self.inner.write(self.last)
        self.last = picture

    def release(self):
        self.inner.release()


WRITER = cv2.VideoWriter


def video(count, size=(64, 64), fps=5.0):
    grey = np.full((*size, 3), 120, np.uint8)
    return SimpleNamespace(
        frames={k: f"v#{k}" for k in range(count)}, is_video=True, fps=fps, read_frame=lambda _: grey.copy()
    )


@pytest.mark.parametrize(
    ("stand_in", "free", "error", "message"),
    [(CutShort, 0, OSError, "No space left"), (CutShort, 1 << 30, UserError, r"could not write .*overlay.*to its end"),
     (Forgetful, 1 << 30, UserError, "to its end")],
)  # fmt: skip
def test_a_video_that_is_not_whole_is_told_and_removed(tmp_path, monkeypatch, capfd, stand_in, free, error, message):
    monkeypatch.setattr(cv2, "VideoWriter", stand_in)
    monkeypatch.setattr("posekit.callbacks.writer.shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    trainer = SimpleNamespace(datamodule=video(3), world_size=1, is_global_zero=True)
    writer = PredictionWriter(str(tmp_path))
    writer.on_predict_start(trainer, None)
    with pytest.raises(error, match=message):
        writer.on_predict_end(trainer, SimpleNamespace(skeleton=get_skeleton("COCO17")))
    assert not list(tmp_path.glob("*.mp4"))
    assert "moov" not in capfd.readouterr().err


@pytest.mark.parametrize(("count", "fps"), [(1, 25.0), (13, 29.97), (40, 12.345)])
def test_a_video_of_odd_size_keeps_its_border(tmp_path, count, fps):
    trainer = SimpleNamespace(datamodule=video(count, (49, 65), fps), world_size=1, is_global_zero=True)
    writer = PredictionWriter(str(tmp_path))
    writer.on_predict_start(trainer, None)
    writer.on_predict_end(trainer, SimpleNamespace(skeleton=get_skeleton("COCO17")))
    capture = cv2.VideoCapture(str(tmp_path / "overlay.mp4"))
    found = [capture.read()[1] for _ in range(count)]
    assert not capture.read()[0]
    assert {picture.shape for picture in found} == {(50, 66, 3)}
    assert np.abs(found[-1].astype(int) - 120).max() < 12  # the added border repeats the edge


@pytest.mark.parametrize("writer", [PredictionWriter, PredictionWriter3D])
def test_a_data_module_without_files_has_no_list_of_them(tmp_path, writer):
    datamodule = SimpleNamespace(frames=16)  # frames of a window, as the synthetic data has them
    trainer = SimpleNamespace(datamodule=datamodule, world_size=1, is_global_zero=True)
    writer = writer(str(tmp_path))
    writer.on_predict_start(trainer, None)
    writer.on_predict_end(trainer, SimpleNamespace())
    assert (tmp_path / "results.json").exists()
    assert not (tmp_path / "images.json").exists()


def test_process_memory_is_plausible():
    assert 1e7 < process_memory() < 1e12


def test_keypoint_error_counts_each_sample_once_and_only_labelled_joints():
    metric = KeypointError()
    target = torch.zeros(3, 2, 2)
    points = torch.tensor([[[3.0, 4.0], [0.0, 1.0]], [[9.0, 0.0], [0.0, 0.5]], [[3.0, 4.0], [0.0, 1.0]]])
    visible = torch.tensor([[1, 2], [0, 2], [1, 2]])
    metric.update(points, target, visible, torch.tensor([5, 6, 5]))
    values = metric.compute()
    assert float(values["error"]) == pytest.approx((5 + 1 + 0.5) / 3)
    assert float(values["error_seen"]) == pytest.approx(0.75)
    assert values["error_median"] == 1
    assert values["within_1"] == pytest.approx(2 / 3)


def test_the_median_of_an_even_number_of_errors_lies_between_the_middle_ones():
    metric = KeypointError()
    points = torch.tensor([[[7.0, 0.0], [1.0, 0.0]], [[2.0, 0.0], [4.0, 0.0]]])
    metric.update(points, torch.zeros(2, 2, 2), torch.ones(2, 2, dtype=torch.int64), torch.tensor([0, 1]))
    assert metric.compute()["error_median"] == 3


def test_keypoint_error_of_nothing_is_nan():
    values = KeypointError().compute()
    assert all(np.isnan(float(v)) for v in values.values())


def test_the_result_file_is_json_where_a_metric_is_nan(tmp_path, capsys):
    values = {"val/AP": torch.tensor(0.5), "val/error": torch.tensor(float("nan")), "train/loss": torch.tensor(1.0)}
    trainer = SimpleNamespace(
        log_dir=str(tmp_path), loggers=[None], fast_dev_run=False, callback_metrics=values, is_global_zero=True,
        lightning_module=None, datamodule=None, checkpoint_callbacks=[], sanity_checking=False,
        state=SimpleNamespace(fn="fit"),
    )  # fmt: skip
    table = ResultTable()
    table.on_validation_end(trainer, None)
    table.on_fit_end(trainer, None)

    def refused(word):
        raise AssertionError(f"{word} is no JSON")

    found = json.loads((tmp_path / "results.json").read_text(), parse_constant=refused)
    assert found == {"val/AP": 0.5, "val/error": None}
    assert "results.json" in capsys.readouterr().out.replace("\n", "")


def test_an_animation_keeps_the_time_in_which_a_person_is_missing(tmp_path):
    writer = PredictionWriter3D(str(tmp_path), meshes="glb")
    vertices = np.random.default_rng(0).random((4, 4, 3), dtype=np.float32) + 1
    rows = {"sample_id": np.array([0, 0, 0, 1]), "frame": np.array([25, 26, 120, 20]), "vertices": vertices}
    folder = writer._write_meshes(rows, np.array([[0, 1, 2], [1, 2, 3]]), 25.0)
    shown = [{round(time * 25, 3): on for time, on in keys.items()} for keys in animation(folder / "person_0.glb")]
    assert shown == [{0: 1, 5: 1, 6: 0}, {0: 0, 6: 1, 100: 0}, {0: 0, 100: 1, 101: 1}]


def animation(path):
    """Returns of each frame of a GLB file the moments at which it is shown or hidden."""
    content = path.read_bytes()
    scene = json.loads(content[20 : 20 + int.from_bytes(content[12:16], "little")])
    blob = content[28 + int.from_bytes(content[12:16], "little") :]

    def read(accessor):
        view = scene["bufferViews"][scene["accessors"][accessor]["bufferView"]]
        return np.frombuffer(blob[view["byteOffset"] :][: view["byteLength"]], "<f4")

    shown = []
    for sampler in scene["animations"][0]["samplers"]:
        times, on = read(sampler["input"]), read(sampler["output"])[::3]
        shown.append(dict(zip(times.tolist(), on.tolist(), strict=True)))
    return shown


def test_an_animation_runs_at_the_rate_of_its_own_track(tmp_path, capsys):
    rows = {
        "joints3d": torch.zeros(7, 14, 3), "vertices": torch.ones(7, 3, 3), "scores": torch.ones(7),
        "sample_id": torch.tensor([0, 0, 1, 1, 2, 2, 3]), "frame": torch.tensor([4, 5, 2, 3, 12, 14, 3]),
        "image_id": torch.arange(7),
    }  # fmt: skip
    dataset = SimpleNamespace(tracks=[SimpleNamespace(fps=fps) for fps in (50.0, 25.0, None, None)])
    loader, data = SimpleNamespace(dataset=dataset), SimpleNamespace(fps=100.0, source_fps=None)  # to be brought to
    trainer = SimpleNamespace(predict_dataloaders=loader, datamodule=data, world_size=1, is_global_zero=True)
    writer, method = PredictionWriter3D(str(tmp_path), meshes="glb"), SimpleNamespace(mesh_faces=np.array([[0, 1, 2]]))
    writer.on_predict_batch_end(trainer, method, rows, None, 0)
    writer.on_predict_end(trainer, method)
    lasts = [list(animation(tmp_path / "meshes" / f"person_{person}.glb")[-1]) for person in range(3)]
    np.testing.assert_allclose(lasts[0], [0, 0.02, 0.04], atol=1e-6)
    np.testing.assert_allclose(lasts[1], [0, 0.04, 0.08], atol=1e-6)
    start = 14 / 30 - 0.08  # the earliest moment of all people is their zero
    np.testing.assert_allclose(lasts[2], [0, start, start + 1 / 30], atol=1e-6)
    said = capsys.readouterr().out
    assert "no frame rate is known of 1 of 3 animations, shown at 30 frames per second (option data.source_fps" in said


class Part(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = torch.nn.Linear(30, 40)
        self.frozen = torch.nn.Linear(1, 1).requires_grad_(False)
        self.loss = torch.nn.MSELoss()


def test_the_model_table_shows_what_has_parameters_and_no_operations_that_nobody_counted(capsys):
    trainer = SimpleNamespace(is_global_zero=True, strategy=None)
    ModelTable().on_fit_start(trainer, Part())
    shown = capsys.readouterr().out
    assert "network" in shown
    assert "loss" not in shown
    assert "1,242 parameters, 1,240 of them trained" in shown
    assert "FLOP" not in shown


class InTurn(pl.LightningModule):
    """Learns with another part in each epoch."""

    def __init__(self):
        super().__init__()
        self.parts = torch.nn.ModuleList([torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)])
        self.seen = []

    def training_step(self, batch, batch_idx):
        part = self.parts[self.current_epoch]
        self.seen.append([part._compiled_call_impl is not None for part in self.parts])
        return part(batch).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_networks_are_compiled_from_their_second_step_on_and_given_back_at_the_end(tmp_path):
    model, names = InTurn(), list(InTurn().state_dict())
    trainer = pl.Trainer(
        max_epochs=2, callbacks=[CompileNetworks(backend="eager")], logger=False, accelerator="cpu",
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(model, torch.utils.data.DataLoader(torch.rand(6, 2), batch_size=2))
    assert model.seen == [[False, False], [True, False], [True, False], [True, False], [True, True], [True, True]]
    assert [part._compiled_call_impl for part in model.parts] == [None, None]
    assert list(model.state_dict()) == names
    assert not any(part._forward_hooks for part in model.parts)


def test_a_phase_within_an_epoch_is_compiled_and_a_failed_run_gives_the_networks_back(tmp_path):
    class Phases(InTurn):
        @property
        def phase(self):
            return "first" if self.global_step < 2 else "second"

        def training_step(self, batch, batch_idx):
            part = self.parts[self.phase == "second"]
            self.seen.append([part._compiled_call_impl is not None for part in self.parts])
            if len(self.seen) == 4:
                raise ValueError("enough")
            return part(batch).mean()

    model = Phases()
    trainer = pl.Trainer(
        max_epochs=1, callbacks=[CompileNetworks(backend="eager")], logger=False, accelerator="cpu",
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    with pytest.raises(ValueError, match="enough"):
        trainer.fit(model, torch.utils.data.DataLoader(torch.rand(8, 2), batch_size=2))
    assert model.seen == [[False, False], [True, False], [True, False], [True, True]]
    assert [part._compiled_call_impl for part in model.parts] == [None, None]


def test_a_run_that_goes_on_within_an_epoch_is_compiled_too():
    model, compiler = InTurn(), CompileNetworks(backend="eager")
    trainer = SimpleNamespace(is_global_zero=True)
    compiler.on_train_start(trainer, model)
    compiler.on_train_batch_start(trainer, model, None, 3)
    model.parts[0](torch.rand(1, 2))
    compiler.on_train_batch_end(trainer, model, None, None, 3)
    assert list(compiler.compiled) == ["parts.0"]


def test_a_part_that_is_taken_away_is_given_back_too():
    model, compiler = InTurn(), CompileNetworks(backend="eager")
    compiler.on_train_start(None, model)
    compiler.on_train_batch_start(None, model, None, 0)
    part = model.parts[0]
    part(torch.rand(1, 2))
    compiler.on_train_batch_end(None, model, None, None, 0)
    model.parts = None
    assert part._compiled_call_impl is not None
    compiler.on_fit_end(None, model)
    assert part._compiled_call_impl is None


def test_a_step_that_calls_no_network_is_said():
    model, compiler = InTurn(), CompileNetworks(backend="eager")
    compiler.on_train_start(None, model)
    compiler.on_train_batch_start(None, model, None, 0)
    model.parts[0].forward(torch.rand(1, 2))
    with pytest.warns(UserWarning, match="torch.compile has nothing to compile: this step of InTurn calls no network"):
        compiler.on_train_batch_end(None, model, None, None, 0)


def test_an_unknown_back_end_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"unknown backend of torch.compile 'inducter'; known: .*Did you mean inductor"):
        CompileNetworks(backend="inducter")
    with pytest.raises(UserError, match=r"unknown mode of torch.compile 'foo'; known: .*max-autotune"):
        CompileNetworks(mode="foo")
    with pytest.raises(UserError, match="is of the backend inductor alone"):
        CompileNetworks(backend="eager", mode="default")


def test_time_spent_logging_is_no_wait_for_data(monkeypatch):
    now, shares = [0.0], []

    def slow(values, step):
        shares.append(values["perf/data_wait"])
        now[0] += 5

    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    trainer = SimpleNamespace(
        loggers=[SimpleNamespace(log_metrics=slow)], is_last_batch=False, world_size=1, current_epoch=0,
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=0)),
    )  # fmt: skip
    monitor, module = throughput.ThroughputMonitor(every=1), SimpleNamespace(device=torch.device("cpu"))
    monitor.on_train_start(trainer, module)
    for step in range(3):
        now[0] += 1  # the loader
        monitor.on_train_batch_start(trainer, module, None, step)
        now[0] += 3
        monitor.on_train_batch_end(trainer, module, None, {"image": torch.zeros(2, 3, 4, 4)}, step)
    assert shares == [0.25, 0.25, 0.25]
