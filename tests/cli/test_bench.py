"""``posekit bench --config`` on configs of every kind of batch."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from torchmetrics import MeanMetric, MetricCollection

from posekit.bench import BenchOptions, bench_config, measure
from posekit.bench.drawn import drawn_config
from posekit.bench.timing import Timing
from posekit.cli import main
from posekit.cli.bench import _with_arguments
from posekit.cli.build import build_from_config
from posekit.compiling import compile_called, compile_part, compiled, outermost_called
from posekit.configs import shipped_configs
from posekit.data.batch_parts import batch_parts, count_samples, part_size, picture_batch, resized
from posekit.errors import UserError
from posekit.module import StepOutput
from posekit.nn.recompute import recompute
from posekit.resources import best_cpu_ms
from posekit.yaml_file import read_yaml
from tests.nlrd.conftest import make_data, make_model
from tests.small_configs import Roots, shrink

from .test_run import refused
from .toys import Toy, ToyData

KINDS = {
    "quickstart.yaml": "crops",
    "logocap/synthetic_small.yaml": "scenes",
    "tip/tiny_synthetic.yaml": "clips",
    "maed/synthetic_hybrid.yaml": "clips and images",
    "nlrd/synthetic_small.yaml": "streams",
}


@pytest.fixture
def small(tmp_path, monkeypatch, mini_coco, mini_mpii):
    monkeypatch.chdir(tmp_path)

    def write(name):
        content = yaml.safe_load(shipped_configs()[name].read_text())
        content = shrink(content, Roots(tmp_path, mini_coco, mini_mpii))
        for stage in content["model"]["init_args"].get("stages", []):
            stage["steps"] = 20
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return write


def bench(config, *words):
    main(["bench", "--config", config, "--device=cpu", "--batches=2", "--json=rows.jsonl", *words])
    return [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_config_is_timed(small, name, capsys):
    around, *rows = bench(small(name), "--batch_sizes=1,2")
    assert around["what"] == "surroundings"
    assert around["torch"] == torch.__version__
    kinds = {(row["what"], row.get("batch")) for row in rows if "ms" in row}
    steps = {("training step", size) for size in (1, 2)}
    assert kinds >= {("prediction", 1), ("prediction", 2)} | steps or name.startswith("nlrd")
    assert kinds >= steps
    for row in rows:
        if "ms" in row and row["what"] != "loader":
            assert 0 < row["p10_ms"] <= row["ms"] <= row["p90_ms"]
            assert row["cpu_ms"] > 0
            assert row["samples_per_s"] > 0
            assert row["peak_mb"] > 10
            assert row["repeats"] == 2
    loaders = [row for row in rows if row["what"] == "loader"]
    assert loaders
    assert rows[0]["value"] > 1000
    assert "training step" in capsys.readouterr().out


def test_compiled_rows_stand_beside_eager_ones(small):
    rows = bench(small("quickstart.yaml"), "--batch_sizes=2", "--modes=eager,compiled", "--backend=eager")
    steps = {(row["what"], row["mode"]) for row in rows if "mode" in row}
    assert steps == {(w, m) for w in ("forward", "prediction", "training step") for m in ("eager", "compiled")}


def test_drawn_people_stand_in_for_a_data_set_that_is_absent(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = (
        "bench",
        "--config",
        "hdm/coco_overfit",
        "--device=cpu",
        "--batches=1",
        "--batch_sizes=1",
        "--data.root=no",
    )
    assert "no such folder" in refused(capsys, *words) or "does not exist" in refused(capsys, *words)
    rows = bench("hdm/coco_overfit", "--drawn", "--batch_sizes=1")
    assert {"loader", "forward", "prediction", "training step"} <= {row["what"] for row in rows}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{class_path: COCOKeypoint}", "unknown data module 'COCOKeypoint'"),
        ("{class_path: no.such.Module}", "unknown data module 'no.such.Module'"),
        ("{class_path: Mixture, init_args: {clips: {a: {ratio: 1}}}}", "data: clips: nothing says which data"),
        ("[", "not YAML at line"),
    ],
)
def test_mistakes_in_a_config_whose_data_is_drawn(tmp_path, capsys, data, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(f"model: {{class_path: MAED}}\ndata: {data}\n")
    assert message in refused(capsys, "bench", "--config", str(path), "--drawn")


FULL = {
    "hdm/mpii_w32_256x256.yaml": ("MPII16", (256, 256)),
    "logocap/crowdpose_w32_512.yaml": ("CROWDPOSE14", (512, 512)),
    "maed/stage2_hybrid.yaml": ("SPIN49", (224, 224)),
    "nlrd/surreal_to_h36m.yaml": ("LIMB17", (224, 224)),
    "tip/posetrack17_w48_384x288.yaml": ("POSETRACK15", (288, 384)),
}


def leaves(data):
    """Returns the data modules that a config's data is made of."""
    inner = [value for value in data["init_args"].values() if isinstance(value, dict)]
    parts = [value for value in inner if "class_path" in value]
    parts += [
        entry["data"] for value in inner for entry in value.values() if isinstance(entry, dict) and "data" in entry
    ]
    return [leaf for part in parts for leaf in leaves(part)] if parts else [data]


@pytest.mark.parametrize("name", FULL)
def test_full_size_configs_are_built_with_drawn_data(name):
    content = drawn_config(read_yaml(shipped_configs()[name], "config", "model, data"))
    assert {leaf["class_path"] for leaf in leaves(content["data"])} == {"SyntheticPeople"}
    module, data = build_from_config(["--config", yaml.safe_dump(content)])
    joints, size = FULL[name]
    assert data.skeleton == joints
    pictures = [leaf["init_args"] for leaf in leaves(content["data"]) if leaf["init_args"]["view"] != "motion"]
    assert {tuple(options["image_size"]) for options in pictures} == {size}
    assert sum(p.numel() for p in module.parameters()) > 2e7  # the full-size network


def test_half_precision(small):
    rows = bench(small("quickstart.yaml"), "--batch_sizes=1", "--precision=bf16-mixed")
    assert rows[0]["precision"] == "bf16-mixed"
    assert {"forward", "prediction", "training step"} <= {row["what"] for row in rows}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--config", "quickstart", "--batch_sizes=two"], "--batch_sizes must be numbers"),
        (["--config", "quickstart", "--batch_sizes=0"], "at least 1"),
        (["--config", "quickstart", "--batches=0"], "at least 1"),
        (["--config", "quickstart", "--modes=eagre"], "eager"),
        (["--config", "quickstart", "--device=gpu9x"], "unknown device"),
        (["--config", "quickstart", "--data.batchsize=3"], "batch_size"),
        (["--config", "quickstart", "--drawn", "--precision=bf17"], "Precision 'bf17' is invalid"),
        (["--config", "quickstart", "--modes=compiled", "--backend=foo"], "backend of torch.compile 'foo'; known: "),
        (["transprot"], "transport"),
        (["procrustes", "--pose=3"], "--repeats, --json FILE"),
        (["procrustes", "--poses=many"], "poses"),
        (["procrustes", "--repeats=0"], "--repeats must be a whole number of at least 1, not 0"),
        (["transport", "--size=[64,0]"], "--size must be a whole number of at least 1, not 0"),
        (["logocap", "--height=64", "--width=64", "--backbone=small"], "64x64 px is too small for 30 people"),
        ([], "--config FILE"),
    ],
)
def test_mistakes_are_one_line(capsys, words, text):
    assert text in refused(capsys, "bench", *words)


def test_every_kind_of_step_of_a_method_in_stages_is_timed():
    class Staged(Toy):
        now, seen = "", ()

        def training_phases(self):
            return {name: lambda name=name: setattr(self, "now", name) for name in ("first", "second")}

        def step(self, batch, stage):
            self.seen += (self.now,)
            return super().step(batch, stage)

    module = Staged()
    options = BenchOptions(repeats=2, device="cpu", batch_sizes=[4])
    rows = list(bench_config(module, ToyData(batch_size=8), options))
    kinds = [(row.get("phase"), row["what"]) for row in rows]
    assert ("first", "training step") in kinds
    assert ("second", "training step") in kinds
    assert ("second", "prediction") not in kinds  # prediction does not depend on the stage
    assert module.seen == ("first",) * 6 + ("second",) * 6


@pytest.mark.parametrize(("repeats", "calls"), [(1, 1), (3, 4)])
def test_a_single_timed_call_has_none_before_it(repeats, calls):
    seen = []
    assert 0 <= best_cpu_ms(lambda: seen.append(1), repeats) < 1e3
    assert len(seen) == calls


def steps_modes(module, data):
    """Returns for each training step its stage, and the names of the parts that are in evaluation mode at its end."""
    seen, step = [], module.training_step

    def watched(*args):
        phase = module.stage.name if hasattr(module, "stages") else ""
        loss = step(*args)
        seen.append((phase, {name for name, part in module.named_modules() if not part.training}))
        return loss

    module.training_step = watched
    rows = list(bench_config(module, data, BenchOptions(repeats=1, device="cpu", batch_sizes=[2])))
    assert "forward" in {row["what"] for row in rows}
    assert "prediction" in {row["what"] for row in rows}
    return seen


@pytest.mark.parametrize("given", ["training", "evaluation"])
def test_training_steps_are_timed_in_training_mode(small, given):
    module, data = build_from_config(["--config", small("quickstart.yaml")])
    frozen = next(name for name, part in module.named_modules() if isinstance(part, torch.nn.BatchNorm2d))
    module.train(given == "training")
    module.get_submodule(frozen).eval()
    seen = steps_modes(module, data)
    assert len(seen) == 5  # the one that catches a batch, three that do not count, one that does
    expected = {frozen} if given == "training" else set()
    assert all(modes == expected for _, modes in seen)


def test_stages_are_timed_in_their_own_modes(small):
    module, data = build_from_config(["--config", small("nlrd/synthetic_small.yaml")])
    seen = steps_modes(module, data)
    assert {phase for phase, _ in seen} == {part.name for part in module.stages}
    for phase, modes in seen:
        assert "" not in modes
        assert ("networks.image" in modes) == (phase != "source")


def test_the_loader_of_a_stage_is_timed_on_that_stage_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    steps = {"pose": 9, "motion": 4, "source": 1, "pose_relation": 2, "motion_relations": 5, "adaptation": 3}
    few = {"pose": {"poses": 8, "warmup_steps": 1}, "pose_relation": {"poses": 8}}
    module = make_model([{"name": name, "steps": count, **few.get(name, {})} for name, count in steps.items()])
    options = BenchOptions(repeats=6, device="cpu", batch_sizes=[2])
    rows = list(bench_config(module, make_data(), options))
    loaders = {row["phase"]: row.get("repeats", row.get("note")) for row in rows if row["what"] == "loader"}
    # One batch was a training step's, one goes before the clock starts; the shortest stages begin anew.
    wanted = {"pose": 6, "motion": 2, "source": "the stage is too short", "pose_relation": 1}
    assert loaders == wanted | {"motion_relations": 3, "adaptation": 1}


# -- batches ----------------------------------------------------------------------------------------------------------


def test_parts_of_batches():
    crops = {"image": torch.rand(3, 3, 8, 8), "name": ["a", "b", "c"]}
    hybrid = {"clips": {"image": torch.rand(2, 4, 3, 8, 8)}, "images": {"image": torch.rand(6, 1, 3, 8, 8)}}
    assert [part_size(p) for p in batch_parts(crops)] == [3]
    assert [part_size(p) for p in batch_parts(hybrid)] == [2, 6]
    assert (count_samples(crops), count_samples(hybrid), count_samples(None)) == (3, 8, 1)
    small = resized(crops, 1)
    assert torch.equal(small["image"], crops["image"][:1])
    assert small["name"] == ["a"]
    large = resized(crops, 7)
    assert large["name"] == list("abcabca")
    assert torch.equal(large["image"][4], crops["image"][1])
    mixed = resized(hybrid, 1)
    assert [len(mixed[name]["image"]) for name in ("clips", "images")] == [1, 3]
    assert [len(resized(hybrid, 4)[name]["image"]) for name in ("clips", "images")] == [4, 12]


def test_pictures_of_a_batch_get_what_prediction_reads():
    batch = {"motion": {"joints3d": torch.rand(2, 5, 17, 3)}, "target": {"image": torch.rand(2, 4, 3, 8, 6)}}
    found = picture_batch(batch)
    assert found["box"].shape == (2, 4, 4)
    assert found["box"][0, 0].tolist() == [0, 0, 6, 8]
    assert found["valid"].all()
    assert found["key"].tolist() == [2, 2]
    assert picture_batch({"motion": batch["motion"]}) is None
    own = {"image": torch.rand(2, 3, 8, 6), "box_score": torch.tensor([0.5, 0.1])}
    assert picture_batch(own)["box_score"] is own["box_score"]


# -- timing and compiling ---------------------------------------------------------------------------------------------


def test_calls_before_the_measurement_do_not_count():
    calls = []
    timing = measure(lambda: calls.append(1), torch.device("cpu"), repeats=4, warmup=2)
    assert len(calls) == 6
    assert len(timing.ms) == len(timing.cpu_ms) == 4


def test_median_and_spread():
    row = Timing(ms=[float(k) for k in range(20, 0, -1)], cpu_ms=[1.0, 2.0, 4.0], peak_mb=3.0).row(samples=2)
    assert (row["ms"], row["p10_ms"], row["p90_ms"], row["cpu_ms"]) == (10.5, 3.0, 18.0, 2.0)
    assert row["samples_per_s"] == pytest.approx(2000 / 10.5, abs=1e-3)


class Own(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = torch.nn.Linear(2, width)

    def forward(self, x):
        return self.layer(x)


class Nest(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Sequential(Own(2), torch.nn.ReLU())
        self.unused = Own(2)
        self.head = Own(1)

    def forward(self, x):
        return self.head(self.inner(x))


def test_the_outermost_networks_that_are_called_are_compiled():
    model, x = Nest(), torch.rand(3, 2)
    assert set(outermost_called(model, lambda: model(x))) == {"inner.0", "head"}
    names = list(model.state_dict())
    expected, graphs = model(x), []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    with compiled(model, lambda: model(x), backend=backend) as parts:
        assert set(parts) == {"inner.0", "head"}
        assert torch.allclose(model(x), expected)
        assert len(graphs) == 2
        assert list(model.state_dict()) == names
    assert model.head._compiled_call_impl is None
    assert compile_called(model, lambda: model.head(x), backend=backend) == ["head"]


class Chain(torch.nn.Sequential):
    """A class of one's own whose code is torch's."""


@pytest.mark.parametrize(
    "network", [torch.nn.Linear(2, 2), torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()), Chain(Own(2))]
)
def test_networks_of_torch_s_own_classes_are_compiled_too(network):
    others = {"activation": torch.nn.ReLU(), "metrics": MetricCollection([MeanMetric()])}
    model, x, graphs = torch.nn.ModuleDict({"net": network, **others}), torch.rand(3, 2), []
    expected = network(x)

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    with compiled(model, lambda: model["metrics"](model["activation"](network(x))), backend=backend) as parts:
        assert parts == ["net"]
        assert torch.allclose(network(x), expected)
        assert len(graphs) == 1
    assert network._compiled_call_impl is None


def test_more_layers_are_compiled_than_the_compiler_begins_anew():
    layers, graphs = torch.nn.ModuleList([torch.nn.Linear(2, n + 1) for n in range(12)]), []

    def run():
        return [layer(torch.ones(1, 2)) for layer in layers]

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    with compiled(layers, run, backend=backend):
        run()
    assert len(graphs) == len(layers)


class Again(torch.nn.Module):
    """Calls its layer once more in the backward pass."""

    def __init__(self):
        super().__init__()
        self.layer, self.last = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)

    def forward(self, x):
        return recompute(lambda y: self.last(torch.tanh(self.layer(y))), x)


def test_what_the_backward_pass_calls_again_is_not_compiled_by_itself():
    model = torch.nn.ModuleDict({"net": Again()})
    assert list(outermost_called(model, lambda: model["net"](torch.rand(3, 2)).sum().backward())) == ["net"]


def test_a_step_without_a_network_has_no_compiled_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module, data = Bare(), ToyData(batch_size=4)
    rows = list(bench_config(module, data, BenchOptions(1, "cpu", modes=("eager", "compiled"), backend="eager")))
    steps = {row["mode"]: row for row in rows if row["what"] == "training step" and row["batch"] == 4}
    assert "ms" in steps["eager"]
    assert steps["compiled"]["note"] == "calls no network to compile"
    assert "ms" not in steps["compiled"]


class Bare(Toy):
    """Calls its layer by nothing that can be watched."""

    def step(self, batch, stage):
        return StepOutput((self.net.forward(batch["image"]) ** 2).mean(), batch_size=len(batch["image"]))


def test_an_error_while_watching_leaves_the_module_as_it_was():
    model = Nest()
    with pytest.raises(RuntimeError):
        outermost_called(model, lambda: model(torch.rand(3, 5)))
    assert set(outermost_called(model, lambda: model(torch.rand(3, 2)))) == {"inner.0", "head"}
    assert not model.head._forward_hooks


def test_a_named_benchmark_takes_its_function_s_arguments(tmp_path):
    path = tmp_path / "rows.jsonl"
    main(["bench", "procrustes", "--poses=7", "--repeats=1", f"--json={path}"])
    values = {row["what"]: row.get("value") for row in map(json.loads, path.read_text().splitlines())}
    assert values["poses"] == 7
    assert values["largest_difference_mm"] < 1e-6


def test_a_benchmark_s_own_defaults_and_switches_are_no_counts():
    def timed(count: int = 5, seed: int = 0, exact: bool = False) -> dict[str, float]:
        return {"sum": float(count + seed + exact)}

    assert _with_arguments("x", timed, [])() == {"sum": 5.0}
    assert _with_arguments("x", timed, ["--exact=true", "--count=2"])() == {"sum": 3.0}
    with pytest.raises(UserError, match="--count must be a whole number of at least 1, not 0"):
        _with_arguments("x", timed, ["--count=0"])


def test_compiled_parts_remember_their_own_sizes():
    parts = [nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)]
    for part in parts:
        compile_part(part, backend="eager")
    names = {part._compiled_call_impl._torchdynamo_orig_callable.__code__.co_name for part in parts}
    assert len(names) == 2
