"""Measures MAED's training step against the plainly written network: ``posekit bench maed``."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from posekit.nn import count_operations, count_parameters
from posekit.resources import process_peak
from posekit_maed.network import MAEDNetwork
from posekit_maed.reference import plain_forward

_MATMUL = 1024
_FORMS = ("posekit", "plain")


def bench_maed(blocks: int = 6, frames: int = 4, repeats: int = 3) -> dict[str, float]:
    """Times forward and backward pass of one clip of 224 x 224 on one CPU thread, beside the plain form.

    The plain form (:mod:`posekit_maed.reference`) keeps every intermediate result and forms attention weights in full,
    as the published code does. Each form has a process of its own; the fastest of the repeats counts, and the matrix
    product's rate is taken right before each.

    Args:
        blocks: Transformer blocks.
        frames: Frames of the clip.
        repeats: Timed passes, after one that is not.

    Returns:
        For each form CPU seconds, peak memory of the process in MB, and the share of the fp32 matrix-product rate (of
        the process's own, n = 1024) that its multiply-adds come to; the ratios of the two; parameters, and
        multiply-adds (G) of the rows of the supplement's table 3.
    """
    result: dict[str, float] = {}
    for form in _FORMS:
        words = [sys.executable, "-m", "posekit_maed.bench", form, str(blocks), str(frames), str(repeats)]
        answer = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        measured = json.loads(answer.splitlines()[-1])
        result |= {f"{form}, {name}": value for name, value in measured.items()}
    for name in ("CPU s", "peak MB"):
        result[f"ratio of {name}"] = result[f"posekit, {name}"] / result[f"plain, {name}"]
    with torch.device("meta"):
        result["parameters"] = count_parameters(MAEDNetwork(num_blocks=blocks))
        for rows in ((1, 16), (6, 16), (6, 8)):
            name = f"multiply-adds of {rows[0]} blocks, {rows[1]} frames, G"
            result[name] = _nominal(*rows) / 1e9
    return result


def _measure(form: str, blocks: int, frames: int, repeats: int) -> dict[str, float]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = MAEDNetwork(num_blocks=blocks).train()
    work: Callable[[Tensor], tuple[Tensor, ...]]
    if form == "posekit":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        def work(images: Tensor) -> tuple[Tensor, ...]:
            parameters = network(images)
            return parameters.pose6d, parameters.shape, parameters.camera
    else:

        def work(images: Tensor) -> tuple[Tensor, ...]:
            return plain_forward(network, images)

    images = torch.randn(1, frames, 3, 224, 224)
    best, share = float("inf"), 0.0
    operations = 6 * _nominal(blocks, frames)  # forward, and twice that backward; two operations per multiply-add
    for repeat in range(repeats + 1):
        rate = matmul_rate()
        network.zero_grad(set_to_none=True)
        began = time.process_time()  # the clock of posekit.bench brings the trainer along, and so more memory
        torch.cat([value.flatten() for value in work(images)]).square().sum().backward()
        spent = time.process_time() - began
        if repeat and spent < best:
            best, share = spent, operations / spent / rate
    return {
        "CPU s": best,
        "peak MB": process_peak() / 1e6,
        "share of matmul rate": share,
        "matmul GFLOP/s": rate / 1e9,
    }


def _nominal(blocks: int, frames: int) -> int:
    """Returns the multiply-adds of one clip in evaluation, attention products included."""
    with torch.device("meta"):
        return count_operations(MAEDNetwork(num_blocks=blocks), (1, frames, 3, 224, 224))


def matmul_rate(repeats: int = 8) -> float:
    """Returns the floating-point operations per CPU second of this process's square fp32 matrix products."""
    a, b = torch.randn(_MATMUL, _MATMUL), torch.randn(_MATMUL, _MATMUL)
    began = time.process_time()
    for _ in range(repeats):
        a @ b
    return 2 * repeats * _MATMUL**3 / (time.process_time() - began)


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    print(json.dumps(_measure(name, *(int(number) for number in numbers))))
