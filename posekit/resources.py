"""CPU time and resident memory of this process."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def process_memory() -> int:
    """Returns the resident memory of this process in bytes (its peak where the current value cannot be read)."""
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return process_peak()


def process_peak() -> int:
    """Returns the most resident memory that this process ever had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def best_cpu_seconds(call: Callable[[], Any], repeats: int, warmup: int = 1) -> float:
    """Returns the least process CPU time of repeated calls, seconds: what holds on a busy machine.

    Args:
        call: What is timed.
        repeats: Calls that count.
        warmup: Calls before them.
    """
    for _ in range(warmup):
        call()
    return min((_cpu_seconds(call) for _ in range(repeats)), default=math.inf)


def best_cpu_ms(call: Callable[[], Any], repeats: int) -> float:
    """Returns :func:`best_cpu_seconds` in milliseconds; a single call that counts has none before it."""
    return 1e3 * best_cpu_seconds(call, repeats, warmup=int(repeats > 1))


def _cpu_seconds(call: Callable[[], Any]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began
