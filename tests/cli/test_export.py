"""``posekit export``: files that give what the network gives, at any batch size."""

import io
import json

import numpy as np
import pytest
import torch

from posekit import export
from posekit.cli import main
from posekit.cli.build import build_model
from posekit.errors import UserError
from posekit.export import METADATA, export_model
from posekit.module import PoseModule
from tests.cli.test_run import refused

OUTPUTS = {
    "quickstart.yaml": ["heatmaps"],
    "tip/tiny_synthetic.yaml": ["heatmaps"],
    "logocap/synthetic_small.yaml": ["heatmaps", "offsets", "embedding"],
    "maed/synthetic_small.yaml": ["rotations", "shape", "camera", "vertices", "joints3d", "joints2d"],
}


@pytest.fixture
def model():
    def make(name, *words):
        torch.manual_seed(0)
        return build_model(["--config", name.removesuffix(".yaml"), *words])

    return make


@pytest.mark.parametrize("name", OUTPUTS)
def test_pt2_gives_what_the_network_gives(model, tmp_path, name):
    module = model(name)
    report = export_model(module, tmp_path / "deep" / "net.pt2", batch_sizes=(1, 3))
    assert list(report.outputs) == OUTPUTS[name]
    assert max(report.differences.values()) < 1e-5
    kept = {METADATA: ""}
    program = torch.export.load(io.BytesIO(report.path.read_bytes()), extra_files=kept).module()
    told = json.loads(kept[METADATA])
    assert told["input"]["shape"] == ["batch", *module.input_shape()]
    assert [output["name"] for output in told["outputs"]] == OUTPUTS[name]
    images = torch.randn(5, *module.input_shape())
    with torch.no_grad():
        expected = module.eval().export_outputs(images)
        for found, (output, value), shape in zip(program(images), expected.items(), told["outputs"], strict=True):
            assert shape["shape"] == ["batch", *found.shape[1:]]
            torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-5, msg=output)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "quickstart.yaml" else pytest.mark.slow) for name in OUTPUTS]
)
def test_onnx_runs_without_torch(model, tmp_path, name):
    onnxruntime = pytest.importorskip("onnxruntime")
    module = model(name)
    report = export_model(module, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(report.path, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == OUTPUTS[name]
    metadata = json.loads(session.get_modelmeta().custom_metadata_map["posekit"])
    assert metadata["mean"] == pytest.approx([0.485, 0.456, 0.406])
    images = torch.randn(4, *module.input_shape())
    found = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        for ours, value in zip(found, module.eval().export_outputs(images).values(), strict=True):
            np.testing.assert_allclose(ours, value.numpy(), rtol=1e-3, atol=1e-4)


def test_a_checkpoint_alone_is_enough(model, tmp_path, capsys):
    module = model("quickstart.yaml")
    from lightning import Trainer

    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    main(["export", f"--ckpt_path={tmp_path / 'a.ckpt'}", f"--output={tmp_path / 'a.pt2'}"])
    assert "heatmaps (B, 17, 32, 24)" in capsys.readouterr().out
    program = torch.export.load(io.BytesIO((tmp_path / "a.pt2").read_bytes())).module()
    images = torch.randn(2, 3, 128, 96)
    with torch.no_grad():
        torch.testing.assert_close(program(images)[0], module.eval()(images))


def test_a_file_that_differs_is_not_written(model, tmp_path, monkeypatch):
    real = export.READERS["pt2"]

    def changed(content, names):
        run = real(content, names)
        return lambda images: {name: value + 1e-2 * value.abs().max() for name, value in run(images).items()}

    monkeypatch.setitem(export.READERS, "pt2", changed)
    with pytest.raises(UserError, match=r"differ from the network's by 0\.01"):
        export_model(model("quickstart.yaml"), tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir())


class Rows(PoseModule):
    """Shapes its output by a batch size that is a number of Python."""

    def __init__(self, size=len):
        super().__init__()
        self.net, self.size = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 6)), size

    def input_shape(self):
        return (3, 4, 4)

    def export_outputs(self, images):
        return {"joints": self.net(images).view(self.size(images), -1, 3)}


@pytest.mark.parametrize("format", ["pt2", "onnx"])
def test_a_batch_size_in_python_is_refused_in_one_whole_line(tmp_path, format):
    if format == "onnx":
        pytest.importorskip("onnxruntime")
    with pytest.raises(UserError, match=f"Rows cannot be exported as {format}: .* batches of one size only") as error:
        export_model(Rows(), tmp_path / f"net.{format}")
    assert str(error.value).endswith("images.shape[0] alone does not")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
    export_model(Rows(lambda images: images.shape[0]), tmp_path / f"net.{format}")


def test_a_file_that_does_not_run_is_not_written(model, tmp_path, monkeypatch):
    def fails(images):
        raise RuntimeError("shapes do not fit. " + "Much is said. " * 40 + "\nNode 7")

    monkeypatch.setitem(export.READERS, "pt2", lambda content, names: fails)
    with pytest.raises(UserError, match="the pt2 file fails on a batch of 1 and was not written: shapes") as error:
        export_model(model("quickstart.yaml"), tmp_path / "net.pt2")
    assert str(error.value).endswith("Much is said")
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named(model, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"onnx, onnxscript, onnxruntime: pip install 'posekit\[export\]'"):
        export_model(model("quickstart.yaml"), tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--config=quickstart", "--format=tflite"], "known: onnx, pt2"),
        (["--config=quickstart"], "--format onnx or pt2"),
        (["--format=pt2"], "--ckpt_path"),
        (["--ckpt_path=nowhere.ckpt", "--format=pt2"], "nowhere.ckpt does not exist"),
        (
            ["--config=nlrd/synthetic_small", "--format=pt2"],
            "NLRD cannot be exported: it does not define export_outputs",
        ),
        (["--config=quickstart", "--output=net.onx", "--format=pt2"], "net.onx ends in .onx, but --format is pt2"),
        (["--config=quickstart", "--output=/", "--format=pt2"], "/ is a folder: name a file"),
        (["--config=quickstart", f"--output={__file__}/x.pt2"], "test_export.py is a file"),
        (["--config=quickstart", "--output=m.onnx", "--format=pt2"], "m.onnx ends in .onnx, but --format is pt2"),
    ],
)
def test_mistakes_are_one_line(capsys, words, text):
    assert text in refused(capsys, "export", *words)


def test_random_weights_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["export", "--config=quickstart", "--format=pt2"])
    assert "posekit: untrained weights: this is a random network" in capsys.readouterr().err
