"""Times and memory on a CUDA device."""

import pytest
import torch

from posekit.bench import measure
from posekit.bench.timing import peak_memory, reset_peak

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def test_the_device_is_waited_for():
    device = torch.device("cuda")
    a = torch.randn(4096, 4096, device=device)
    short = measure(lambda: a @ a, device, repeats=5)
    long = measure(lambda: [a @ a for _ in range(20)], device, repeats=5)
    assert min(long.ms) > 5 * min(short.ms)


def test_peak_memory_is_that_of_the_calls():
    device = torch.device("cuda")
    held = torch.zeros(1 << 28, device=device, dtype=torch.uint8)
    del held
    timing = measure(lambda: torch.zeros(1 << 26, device=device, dtype=torch.uint8).sum(), device, repeats=3)
    assert 60 < timing.peak_mb < 200
    reset_peak(device)
    assert peak_memory(device) == torch.cuda.memory_allocated(device)
