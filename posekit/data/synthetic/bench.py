"""How fast people and clips are drawn and composited, per core, in process CPU time."""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2

from posekit.data.synthetic.clip_dataset import DrawnClips
from posekit.data.synthetic.datamodule import SyntheticPeople
from posekit.data.synthetic.dataset import DrawnCrops


def _rate(work: Callable[[int], object], count: int) -> float:
    start = time.process_time()
    for index in range(count):
        work(index)
    return count / (time.process_time() - start)


def bench_synthetic(
    difficulty: str = "hard", image_size: tuple[int, int] = (96, 128), count: int = 200
) -> dict[str, float]:
    """Measures the generator on one core.

    Args:
        difficulty: Preset.
        image_size: (W, H), px.
        count: People that are drawn; composites are three times as many.

    Returns:
        ``layers_per_s`` (people drawn anew, all varied), ``composites_per_s`` (pictures made of drawn people),
        ``samples_per_s`` (the same, as normalised tensors with labels), ``clips_drawn_per_s`` (the layers of clips of
        three frames under the preset ``video_hard``, motion blur included) and ``clips_per_s`` (such clips of drawn
        layers, as tensors).
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        return _picture_rates(difficulty, image_size, count) | _clip_rates(image_size, max(count // 4, 1))
    finally:
        cv2.setNumThreads(threads)


def _picture_rates(difficulty: str, image_size: tuple[int, int], count: int) -> dict[str, float]:
    module = SyntheticPeople(
        train_size=count, image_size=image_size, difficulty=difficulty, num_layers=count, num_render_workers=1
    )
    dataset = module.dataset("train")
    assert isinstance(dataset, DrawnCrops)
    fresh = SyntheticPeople(train_size=count, image_size=image_size, difficulty=difficulty, seed=1, cache=False)
    people = fresh.dataset("train")
    assert isinstance(people, DrawnCrops)
    keys = [(epoch, index) for epoch in range(3) for index in range(count)]
    return {
        "layers_per_s": _rate(lambda i: people.layers[i], count),
        "composites_per_s": _rate(lambda i: dataset.crop(keys[i]), len(keys)),
        "samples_per_s": _rate(lambda i: dataset[keys[i]], len(keys)),
    }


def _clip_rates(image_size: tuple[int, int], count: int) -> dict[str, float]:
    module = SyntheticPeople(
        "clips", train_size=count, image_size=image_size, difficulty="video_hard", num_render_workers=1
    )
    dataset = module.dataset("train")
    assert isinstance(dataset, DrawnClips)
    keys = [(epoch, index) for epoch in range(3) for index in range(count)]
    return {
        "clips_drawn_per_s": _rate(dataset.settings.render, count),
        "clips_per_s": _rate(lambda i: dataset[keys[i]], len(keys)),
    }
