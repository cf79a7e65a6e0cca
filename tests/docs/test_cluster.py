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

ROOT = "--trainer.default_root_dir"


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
    strategy = "--trainer.strategy=ddp_find_unused_parameters_true"
    bash(tmp_path, "torchrun.sh", "2", "--config", "quickstart", *SMALL, strategy)
    (run,) = (tmp_path / "runs" / "quickstart").glob("version_*")
    # Eight pictures in batches of two on two processes are two steps.
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] == 2
    assert "ddp_find_unused" in (run / "config.yaml").read_text()  # the user's, in place of the script's
    assert "val/AP" in json.dumps(json.loads((run / "results.json").read_text()))


def launched(folder, *words, **variables):
    """Returns the folder and the checkpoint that slurm.sh gives a run, and the words before these."""
    line = bash(folder, "slurm.sh", *words, LAUNCH="echo", **variables).stdout.splitlines()[-1]
    before, _, rest = line.rpartition(f" {ROOT} ")
    root, _, checkpoint = rest.partition(" --ckpt_path ")
    return root, checkpoint, before


def test_slurm_gives_each_line_and_config_a_folder_of_its_own(tmp_path):
    (tmp_path / "a.yml").write_text("trainer: {max_epochs: 1}\n")
    lines = [["a.yml"], ["a.yml", "--seed_everything", "1"], ["a.yml", "--seed_everything=1"], ["b/a.yml"]]
    roots = [launched(tmp_path, *line)[0] for line in lines]
    roots += [launched(tmp_path, "a.yml", SLURM_ARRAY_TASK_ID=str(task))[0] for task in (0, 1)]
    (tmp_path / "a.yml").write_text("trainer: {max_epochs: 2}\n")
    roots.append(launched(tmp_path, "a.yml")[0])
    assert len(set(roots)) == len(roots)
    assert roots[-1] == launched(tmp_path, "a.yml")[0]
    assert all(root.startswith("runs/a.yml-") for root in roots)


@pytest.mark.parametrize("given", [[], [ROOT, "my runs"], [f"{ROOT}=my runs"]])
def test_slurm_takes_the_newest_checkpoint_of_its_folder_alone(tmp_path, given):
    line = ["quickstart", *given, "--ckpt_path=other.ckpt", "--config", "more.yaml"]
    root, checkpoint, words = launched(tmp_path, *line)
    assert root.startswith("my runs/quickstart-" if given else "runs/quickstart-")
    assert checkpoint == ""
    assert words.endswith(" ".join(line[1:]))  # the script's own folder and checkpoint stand behind, and so count
    for folder, name, age in (
        (root, "version_0/checkpoints/last", 3), (root, "version_1/checkpoints/recent", 2),
        (root, "version_1/checkpoints/best", 1), ("runs/quickstart-1", "version_0/checkpoints/last", 0),
    ):  # fmt: skip
        path = tmp_path / folder / "more" / f"{name}.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    assert launched(tmp_path, *line)[:2] == (root, f"{root}/more/version_1/checkpoints/recent.ckpt")


@pytest.mark.slow
def test_slurm_goes_on_from_its_own_newest_checkpoint(tmp_path):
    (tmp_path / "longer.sh").write_text('exec "$@" --trainer.max_epochs=2\n')
    words = ["quickstart", *SMALL, "--data.num_workers=0", "--trainer.strategy=auto"]
    bash(tmp_path, "slurm.sh", *words, LAUNCH="env")
    bash(tmp_path, "slurm.sh", *words, "--seed_everything=1", LAUNCH="env")
    bash(tmp_path, "slurm.sh", *words, LAUNCH="bash longer.sh")
    steps = [read_checkpoint(p)["global_step"] for p in (tmp_path / "runs").rglob("last.ckpt")]
    assert sorted(steps) == [4, 4, 8]
