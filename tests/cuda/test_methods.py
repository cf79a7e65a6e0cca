"""Each method takes a step and predicts: in single and in half precision, compiled, with channels last.

The same tests run on a CPU always and on a GPU with ``-m cuda``.
"""

import copy

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from torch import nn

from posekit.bench import Clock
from posekit.bench.feeding import RepeatedBatch
from posekit.callbacks import OutOfMemoryAdvice, ThroughputMonitor
from posekit.cli.build import build_from_config
from posekit.compiling import compiled
from posekit.configs import shipped_configs
from posekit.data.batch_parts import picture_batch
from tests.small_configs import Roots, shrink

METHODS = {
    "HDM": "quickstart.yaml",
    "LogoCap": "logocap/synthetic_small.yaml",
    "TIP": "tip/tiny_synthetic.yaml",
    "MAED": "maed/synthetic_hybrid.yaml",
    "NLRD": "nlrd/synthetic_small.yaml",
}
PRECISIONS = ("32-true", "bf16-mixed")


def devices():
    absent = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
    return ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, absent])]


@pytest.fixture(params=devices())
def device(request):
    if request.param == "cuda":
        torch.cuda.reset_peak_memory_stats()
    return torch.device(request.param)


class Built:
    """A method after one step of training, with the last batch that it saw."""

    def __init__(self, words):
        self.words = words
        self.module, self.data = build_from_config(words)
        if hasattr(self.data, "adapt_to"):
            self.data.adapt_to(self.module)
        self.start = copy.deepcopy(self.module.state_dict())
        clock = Clock(torch.device("cpu"), warmup=0)
        trainer("cpu", "32-true", clock).fit(self.module, datamodule=self.data)
        self.batch = clock.batch
        self.pictures = picture_batch(clock.batch)
        self.trained = copy.deepcopy(self.module.state_dict())

    def fresh(self, device="cpu"):
        """Returns the method as it was after that step, on a device, in evaluation."""
        self.module.load_state_dict(self.trained)
        return self.module.to(device).eval()


@pytest.fixture(scope="module")
def built(tmp_path_factory, mini_coco, mini_mpii):
    made = {}

    def build(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            content = yaml.safe_load(shipped_configs()[METHODS[name]].read_text())
            content = shrink(content, Roots(folder, mini_coco, mini_mpii))
            if "stages" in content["model"]["init_args"]:
                content["data"]["init_args"]["epoch_steps"] = 6  # all of them in one epoch
            path = folder / "small.yaml"
            path.write_text(yaml.safe_dump({key: content[key] for key in ("model", "data")}))
            made[name] = Built(["--config", str(path)])
        return made[name]

    return build


def trainer(device, precision, *callbacks):
    return Trainer(
        accelerator="gpu" if str(device).startswith("cuda") else "cpu", devices=1, precision=precision, max_epochs=1,
        limit_train_batches=6, limit_val_batches=1, num_sanity_val_steps=0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks),
    )  # fmt: skip


def tensors(value):
    """Returns the floating-point tensors in a method's answer."""
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() else []
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else []
    return [tensor for part in parts for tensor in tensors(part)]


def answer(module, images, precision="32-true"):
    with torch.inference_mode(), torch.autocast(images.device.type, torch.bfloat16, enabled=precision != "32-true"):
        return [t.float().cpu() for t in tensors(module(images))]


def distance(ours, theirs):
    """Returns the largest relative difference of two answers, over their tensors."""
    assert len(ours) == len(theirs) > 0
    return max(float((a - b).norm() / b.norm().clamp(min=1e-6)) for a, b in zip(ours, theirs, strict=True))


def frames(made, device):
    """Returns what ``forward`` takes."""
    images = made.pictures["image"].to(device)
    return images.flatten(0, 1)[:4] if type(made.module).__name__ == "NLRD" else images


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", METHODS)
def test_a_step_and_a_prediction(built, name, device, precision):
    made = built(name)
    module = made.module
    module.load_state_dict(made.start)
    if hasattr(module, "iteration"):
        module.iteration = 0
    monitor, clock = ThroughputMonitor(every=1), Clock(device, warmup=0)
    run = trainer(device, precision, monitor, OutOfMemoryAdvice(), clock)
    run.fit(module, datamodule=made.data)
    learned = {n: v for n, v in module.state_dict().items() if v.is_floating_point()}
    assert all(torch.isfinite(v).all() for v in learned.values())
    assert any(not torch.equal(v.cpu(), made.start[n]) for n, v in module.named_parameters())
    assert all(v.dtype == torch.float32 for v in module.parameters())
    assert clock.watch.timing.ms
    if device.type == "cuda":
        assert all(t.is_cuda for t in tensors(clock.batch))
        assert monitor._total["peak_gb"] > 0
    found = predicted(made, device, precision)
    key = "joints3d" if "joints3d" in found else "keypoints"
    assert found[key].dtype == torch.float32
    assert found[key].device.type == device.type
    assert all(torch.isfinite(t).all() for t in tensors(found))
    assert len(found[key]) == len(found["scores"]) == len(found["sample_id"]) > 0


def predicted(made, device, precision):
    run = trainer(device, precision)
    (found,) = run.predict(made.module, dataloaders=RepeatedBatch(made.pictures, 1))
    return found


@pytest.mark.parametrize("name", METHODS)
def test_half_precision_and_devices_agree_with_a_cpu(built, name, device):
    made = built(name)
    expected = answer(made.fresh(), frames(made, "cpu"))
    images, module = frames(made, device), made.fresh(device)
    assert distance(answer(module, images), expected) < 0.02  # a GPU convolves in TF32
    assert distance(answer(module, images, "bf16-mixed"), expected) < 0.15


@pytest.mark.parametrize("name", METHODS)
def test_channels_last(built, name, device):
    made = built(name)
    images, module = frames(made, device), made.fresh(device)
    plain = answer(module.to(memory_format=torch.contiguous_format), images)
    last = module.to(memory_format=torch.channels_last)
    if images.ndim == 4:
        images = images.contiguous(memory_format=torch.channels_last)
    assert any(p.ndim == 4 and p.is_contiguous(memory_format=torch.channels_last) for p in last.parameters())
    assert distance(answer(last, images), plain) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_compiled(built, name, device):
    made = built(name)
    images, module = frames(made, device), made.fresh(device)
    eager = answer(module, images)
    names = list(module.state_dict())
    # A CPU's compiler takes minutes; the captured graphs are the same.
    backend = "inductor" if device.type == "cuda" else "eager"
    torch.compiler.reset()
    with compiled(module, lambda: answer(module, images), backend=backend, dynamic=False) as parts:
        assert parts
        assert distance(answer(module, images), eager) < 0.01
        assert list(module.state_dict()) == names


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_compiled_training_step(built, name, device):
    made = built(name)

    def fit():
        made.module.load_state_dict(made.start)
        if hasattr(made.module, "iteration"):
            made.module.iteration = 0
        trainer(device, "32-true").fit(made.module, datamodule=made.data)

    fit()
    backend = "inductor" if device.type == "cuda" else "eager"
    torch.compiler.reset()
    with compiled(made.module, fit, backend=backend, dynamic=False) as parts:
        fit()
    assert parts
    assert all(torch.isfinite(p).all() for p in made.module.parameters())


def test_memory_and_throughput_are_logged(built, device, tmp_path):
    from lightning.pytorch.loggers import CSVLogger

    made = built("HDM")
    run = trainer(device, "32-true", ThroughputMonitor(every=1))
    logger = CSVLogger(str(tmp_path))
    run._logger_connector.configure_logger(logger)
    run.fit(made.module, datamodule=made.data)
    logger.save()
    text = next(tmp_path.rglob("metrics.csv")).read_text()
    assert "perf/samples_per_s" in text
    assert "perf/data_wait" in text
    assert ("perf/gpu_peak_gb" if device.type == "cuda" else "perf/process_gb") in text


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_full_device_says_what_to_change(built):
    class Greedy(nn.Module):
        def forward(self, x):
            return torch.empty(1 << 50, device=x.device)

    made = built("HDM")
    module = made.fresh()
    network, module.network = module.network, Greedy()
    try:
        with pytest.raises(torch.OutOfMemoryError, match=r"out of memory in stage train on .*GB used.*batch_size"):
            trainer("cuda", "32-true", OutOfMemoryAdvice()).fit(module, datamodule=made.data)
    finally:
        module.network = network
