"""What every method has to do: go on exactly after a kill, and run in two processes with one process's numbers."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from posekit.checkpoints import read_checkpoint
from posekit.configs import shipped_configs
from tests.cli.test_resume import fit, posekit, same
from tests.small_configs import Roots, shrink

CONFIGS = [
    "quickstart.yaml", "logocap/synthetic_small.yaml", "tip/tiny_single.yaml", "tip/tiny_synthetic.yaml",
    "maed/synthetic_small.yaml", "maed/synthetic_hybrid.yaml", "nlrd/synthetic_small.yaml",
]  # fmt: skip
pytestmark = pytest.mark.slow


@pytest.fixture(params=CONFIGS)
def config(request, tmp_path, mini_coco, mini_mpii):
    """A shipped config that takes four or six training batches."""
    content = yaml.safe_load(shipped_configs()[request.param].read_text())
    content = shrink(content, Roots(tmp_path, mini_coco, mini_mpii))
    trainer = content["trainer"]
    if "stages" not in content["model"]["init_args"]:
        trainer |= {"limit_train_batches": 2, "max_epochs": 2}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.mark.parametrize("batch", [2, 4])
def test_a_killed_run_goes_on_exactly(config, tmp_path, batch):
    whole = fit(tmp_path / "whole", config=config, flags=())
    broken = fit(tmp_path / "killed", config=config, flags=(), kill_at=batch)
    same(fit(tmp_path / "resumed", f"--ckpt_path={broken}", config=config, flags=()), whole)


def test_a_compiled_run_learns_what_an_eager_one_does(config, tmp_path):
    flags = ["--trainer.callbacks+=CompileNetworks", "--trainer.callbacks.backend=aot_eager"]
    done = {}
    for name, words in (("eager", []), ("compiled", flags)):
        (tmp_path / name).mkdir()
        done[name] = posekit(tmp_path / name, "fit", "--config", config, *words)
        assert done[name].returncode == 0, done[name].stderr[-2000:]
    assert "from the next step on: " in done["compiled"].stdout + done["compiled"].stderr
    # Adam makes whole steps of gradients that are rounding alone, so weights differ; what is learned does not.
    eager, compiled = (json.loads(next((tmp_path / name).rglob("results.json")).read_text()) for name in done)
    compared = "val/loss" if "val/loss" in eager else "val/pose_mm"
    assert compiled[compared] == pytest.approx(eager[compared], rel=0.02)
    names = [list(read_checkpoint(next((tmp_path / name).rglob("last.ckpt")))["state_dict"]) for name in done]
    assert names[0] == names[1]


def test_two_processes_give_the_numbers_of_one(config, tmp_path):
    # NLRD trains different networks in turn, and says so when it is given plain ddp.
    kind = "ddp_find_unused_parameters_true" if "NLRD" in Path(config).read_text() else "ddp"
    two = ["--trainer.devices=2", f"--trainer.strategy={kind}"]
    done = posekit(tmp_path, "fit", "--config", config, *two)
    assert done.returncode == 0, done.stderr[-2000:]
    checkpoint = next(tmp_path.rglob("best.ckpt"))
    numbers = []
    for name, words in (("one", []), ("two", two)):
        folder = tmp_path / name
        folder.mkdir()
        kept = shutil.copy(checkpoint, folder / "best.ckpt")
        words = ["--config", config, f"--ckpt_path={kept}", "--trainer.limit_val_batches=1.0", *words]
        done = posekit(folder, "validate", *words)
        assert done.returncode == 0, done.stderr[-2000:]
        numbers.append(json.loads(next(folder.rglob("results.json")).read_text()))
    # Losses are means over batches, which the two runs cut differently; metrics see every sample once.
    metrics = [{k: v for k, v in n.items() if _is_metric(k)} for n in numbers]
    assert metrics[0]
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-4, nan_ok=True)


def _is_metric(name):
    short = name.removeprefix("val/")
    return short[0].isupper() or short.startswith(("target_", "source_", "error", "within_"))
