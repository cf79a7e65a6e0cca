"""Callbacks: throughput and memory, pictures of predictions, the result table, the writer of predictions."""

from posekit.callbacks.preview import PredictionPreview
from posekit.callbacks.result_table import ResultTable
from posekit.callbacks.throughput import ThroughputMonitor
from posekit.callbacks.writer import PredictionWriter

__all__ = ["PredictionPreview", "PredictionWriter", "ResultTable", "ThroughputMonitor"]
