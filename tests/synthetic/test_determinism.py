import multiprocessing
import os
import select
import signal
import stat
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from posekit.cli.quiet import one_line_errors
from posekit.data import SyntheticPeople
from posekit.data.synthetic import cache
from posekit.data.synthetic.cache import LayerSettings, LayerStore, render_layer
from posekit.data.synthetic.options import PRESETS
from posekit.errors import UserError
from posekit.files import write_array


def batches(workers, **options):
    module = SyntheticPeople(
        train_size=24, val_size=4, difficulty="hard", batch_size=8, num_workers=workers, num_render_workers=1, **options
    )
    loader = module.train_dataloader()
    loader.sampler.set_epoch(2)
    return list(loader)


def test_same_bytes_in_0_and_2_workers():
    alone, together = batches(0), batches(2)
    assert len(alone) == len(together) == 3
    for a, b in zip(alone, together, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_same_layers_from_parallel_processes_from_disk_and_on_the_fly(tmp_path):
    settings = LayerSettings(7, "train", (48, 64), PRESETS["hard"], "COCO17")
    serial = LayerStore(settings, 100, workers=1, folder=tmp_path)
    parallel = LayerStore(settings, 100, workers=2)
    from_disk = LayerStore(settings, 100, workers=1, folder=tmp_path)
    fresh = LayerStore(settings, 100, cached=False)
    assert len(list(tmp_path.iterdir())) == 1
    for index in (0, 31, 32, 64, 99):
        first = serial[index]
        for other in (parallel[index], from_disk[index], fresh[index]):
            np.testing.assert_array_equal(first.rgba, other.rgba)
            assert first.origin == other.origin
            assert first.labels.tobytes() == other.labels.tobytes()
    assert isinstance(from_disk._pixels, np.memmap)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere rendering processes are not forked")
def test_rendering_processes_end_with_a_killed_parent(monkeypatch):
    ours, theirs = os.pipe()

    def wait(*_):
        os.write(theirs, os.getpid().to_bytes(4, "big"))
        time.sleep(600)

    monkeypatch.setattr(cache, "render_layer", wait)
    settings = LayerSettings(7, "train", (48, 64), PRESETS["easy"], "COCO17")
    parent = multiprocessing.get_context("fork").Process(target=LayerStore, args=(settings, 100, True, 2))
    parent.start()
    os.close(theirs)
    children = [int.from_bytes(os.read(ours, 4), "big") for _ in range(2)]
    parent.kill()
    parent.join()
    assert all(children)
    ended, _, _ = select.select([ours], [], [], 30)  # a pipe ends with the last process that holds it
    for child in [] if ended else children:
        os.kill(child, signal.SIGKILL)
    os.close(ours)
    assert ended, "rendering processes outlive the process that they render for"


def test_a_cache_is_for_everybody_whom_the_umask_lets_in(tmp_path):
    before = os.umask(0o002)
    try:
        LayerStore(LayerSettings(7, "train", (48, 64), PRESETS["easy"], "COCO17"), 1, workers=1, folder=tmp_path)
    finally:
        os.umask(before)
    (made,) = tmp_path.iterdir()
    assert stat.S_IMODE(made.stat().st_mode) == 0o775
    assert {stat.S_IMODE(file.stat().st_mode) for file in made.iterdir()} == {0o664}


@pytest.mark.parametrize("name", ["pixels", "rectangles", "labels"])
@pytest.mark.parametrize("fault", ["cut", "empty", "absent", "zeroed", "other", "zip", "header"])
def test_a_damaged_cache_is_drawn_anew(tmp_path, capsys, name, fault):
    settings = LayerSettings(7, "train", (48, 64), PRESETS["easy"], "COCO17")
    whole = LayerStore(settings, 4, workers=1, folder=tmp_path)
    (made,) = tmp_path.iterdir()
    file = made / f"{name}.npy"
    content = file.read_bytes()
    file.unlink()
    if fault == "other":
        np.save(file, np.zeros(3))
    elif fault == "zip":
        file.write_bytes(b"PK\3\4" + content[4:])
    elif fault == "header":
        file.write_bytes(content.replace(b"'descr'", b"('escr'", 1))
    elif fault != "absent":
        file.write_bytes({"cut": content[:-200], "empty": b"", "zeroed": bytes(len(content))}[fault])
    for said in (1, 0):
        again = LayerStore(settings, 4, workers=1, folder=tmp_path)
        assert capsys.readouterr().err.count(f"{made} of drawn people is damaged; they are drawn anew") == said
        for index in range(4):
            np.testing.assert_array_equal(again[index].rgba, whole[index].rgba)
            assert again[index].labels == whole[index].labels
    assert [path.name for path in tmp_path.iterdir()] == [made.name]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_below_a_cache_is_one_line(tmp_path, monkeypatch):
    def full(path, array):
        path.symlink_to("/dev/full")
        write_array(path, array)

    settings = LayerSettings(7, "train", (48, 64), PRESETS["easy"], "COCO17")
    monkeypatch.setattr(cache, "write_array", full)
    for folder, hint in ((tmp_path / "mine", ""), (tmp_path / f"{cache.TEMPORARY}x", ", or name .* variable TMPDIR")):
        line = rf"^the disk is full: free some space \(.*/train-\w+\){hint}$"
        with pytest.raises(UserError, match=line), one_line_errors():
            LayerStore(settings, 4, workers=1, folder=folder)
        assert not list(folder.iterdir())


def test_cache_key_follows_the_settings():
    base = LayerSettings(7, "train", (48, 64), PRESETS["hard"], "COCO17")
    others = [
        LayerSettings(8, "train", (48, 64), PRESETS["hard"], "COCO17"),
        LayerSettings(7, "val", (48, 64), PRESETS["hard"], "COCO17"),
        LayerSettings(7, "train", (96, 64), PRESETS["hard"], "COCO17"),
        LayerSettings(7, "train", (48, 64), PRESETS["easy"], "COCO17"),
        LayerSettings(7, "train", (48, 64), PRESETS["hard"], "H36M17"),
    ]
    assert len({s.key(10) for s in [base, *others]} | {base.key(11)}) == 7


def test_a_layer_does_not_depend_on_how_many_there_are():
    settings = LayerSettings(0, "train", (48, 64), PRESETS["easy"], "COCO17")
    store = LayerStore(settings, 5, workers=1)
    np.testing.assert_array_equal(store[4].rgba, render_layer(settings, 4).rgba)


def test_seeds_and_splits_differ():
    def first(seed, split):
        module = SyntheticPeople(train_size=4, val_size=4, test_size=4, seed=seed, num_render_workers=1)
        return module.dataset(split)[0]

    samples = [first(0, "train"), first(1, "train"), first(0, "val"), first(0, "test")]
    for i in range(4):
        for j in range(i):
            assert not torch.equal(samples[i]["image"], samples[j]["image"])
            assert not torch.allclose(samples[i]["body_shape"], samples[j]["body_shape"])
            assert not torch.allclose(samples[i]["body_pose"], samples[j]["body_pose"])


def test_fewer_layers_are_used_again_in_turn():
    module = SyntheticPeople(train_size=10, num_layers=3, augmentation=0, num_render_workers=1)
    dataset = module.dataset("train")
    assert len(dataset) == 10
    assert torch.equal(dataset[1]["body_pose"], dataset[4]["body_pose"])
    assert not torch.equal(dataset[1]["image"], dataset[4]["image"])


@pytest.mark.slow
def test_full_speed():
    from posekit.data.synthetic.bench import bench_synthetic

    rates = bench_synthetic()
    assert rates["layers_per_s"] > 80
    assert rates["composites_per_s"] > 250
    assert rates["clips_drawn_per_s"] > 12
    assert rates["clips_per_s"] > 35
