"""The scripts for many processes run: torchrun on two CPU processes, SLURM's with its launcher left out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from posekit.module import read_checkpoint

SCRIPTS = Path(__file__).parents[2] / "examples" / "cluster"
SMALL = [
    "--data.train_size=8", "--data.val_size=4", "--data.batch_size=2", "--data.num_render_workers=1",
    "--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1", "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false", "--trainer.num_sanity_val_steps=0",
]  # fmt: skip


def bash(folder, script, *words, **variables):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(SCRIPTS.parents[1]), "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(
        ["bash", str(SCRIPTS / script), *words], cwd=folder, env=env, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done


@pytest.mark.slow
def test_torchrun_with_two_processes(tmp_path):
    bash(tmp_path, "torchrun.sh", "2", "--config", "quickstart", *SMALL)
    (run,) = (tmp_path / "runs" / "quickstart").glob("version_*")
    # Eight pictures in batches of two on two processes are two steps.
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] == 2
    assert "val/AP" in json.dumps(json.loads((run / "results.json").read_text()))


@pytest.mark.slow
def test_slurm_goes_on_from_the_newest_checkpoint(tmp_path):
    words = ["quickstart", *SMALL, "--data.num_workers=0", "--trainer.strategy=auto"]
    bash(tmp_path, "slurm.sh", *words, LAUNCH="env")
    bash(tmp_path, "slurm.sh", *words, "--trainer.max_epochs=2", LAUNCH="env")
    steps = [read_checkpoint(p)["global_step"] for p in sorted((tmp_path / "runs").rglob("last.ckpt"))]
    assert steps == [4, 8]
