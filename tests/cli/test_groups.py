"""Runs of two processes: data drawn once; stopped, or one failing, they end soon, together, and can be gone on with."""

import signal

import pytest

from posekit.module import read_checkpoint

from .test_resume import FLAGS, STEPS, fit, posekit, same

pytestmark = pytest.mark.slow
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("whole"), *TWO)


@pytest.mark.parametrize(
    ("number", "rank", "code"),
    [(signal.SIGINT, None, 130), (signal.SIGINT, 0, 130), (signal.SIGTERM, None, 143), (signal.SIGTERM, 0, 143)],
)
def test_all_stop_after_the_same_step(tmp_path, whole, number, rank, code):
    folder = tmp_path / "stopped"
    folder.mkdir()
    stop = ["--trainer.callbacks+=tests.cli.toys.InterruptAt", "--trainer.callbacks.step=4"]
    stop += [f"--trainer.callbacks.number={int(number)}"]
    stop += [] if rank is None else [f"--trainer.callbacks.rank={rank}"]
    done = posekit(folder, "fit", "--config", "quickstart", *FLAGS, *TWO, *stop)
    assert done.returncode == code, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert done.stderr.count("posekit: stopped") == (number == signal.SIGINT)
    last = next(folder.rglob("last.ckpt"))
    assert read_checkpoint(last)["global_step"] == 4
    assert str(last.relative_to(folder)) in done.stderr + done.stdout
    same(fit(tmp_path / "resumed", f"--ckpt_path={last}", *TWO), whole)


@pytest.mark.parametrize("rank", [None, 0, 1])
def test_what_one_process_meets_ends_all_in_one_line(tmp_path, rank):
    fail = ["--trainer.callbacks+=tests.cli.toys.FailAt", "--trainer.callbacks.step=5"]
    fail += [] if rank is None else [f"--trainer.callbacks.rank={rank}"]
    done = posekit(tmp_path, "fit", "--config", "quickstart", *FLAGS, *STEPS, *TWO, *fail)
    assert done.returncode == 2, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert done.stderr.count("posekit: error: image a.jpg: is cut short") == 1
    assert "go on with --ckpt_path" in done.stderr + done.stdout
    assert read_checkpoint(next(tmp_path.rglob("last.ckpt")))["global_step"] == 3  # of the last whole epoch


def test_the_first_process_draws_for_all(tmp_path):
    words = [*FLAGS, *TWO, "--data.train_size=1000", "--trainer.limit_train_batches=2", "--trainer.max_epochs=1"]
    done = posekit(tmp_path, "fit", "--config", "quickstart", *words)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("drawing 1,000 people") == 1


def test_data_that_are_refused_leave_no_folder_and_one_line(tmp_path):
    done = posekit(tmp_path, "fit", "--config", "hdm/coco_mini", "--data.root=nowhere", *TWO)
    assert done.returncode == 2
    assert done.stderr.count("posekit: error: COCOKeypoints: data root nowhere does not exist") == 1
    assert not list(tmp_path.iterdir())
