"""Speed and memory of any config: its loader, its network, its prediction and its training step."""

from posekit.bench.config import BenchOptions, Row, bench_config
from posekit.bench.timing import Clock, Timing, measure

__all__ = ["BenchOptions", "Clock", "Row", "Timing", "bench_config", "measure"]
