"""Callbacks: throughput and memory, Ctrl-C, pictures of predictions, result tables, writers of what a run leaves."""

from posekit.callbacks.best import BestCheckpoint
from posekit.callbacks.checkpoint_io import AtomicCheckpointIO
from posekit.callbacks.compile_networks import CompileNetworks
from posekit.callbacks.interrupt import CleanInterrupt, LastCheckpoint, RecentCheckpoint
from posekit.callbacks.memory import OutOfMemoryAdvice
from posekit.callbacks.model_table import ModelTable
from posekit.callbacks.posetrack import PoseTrackWriter
from posekit.callbacks.preview import PredictionPreview
from posekit.callbacks.progress import ProgressLine
from posekit.callbacks.result_table import ResultTable
from posekit.callbacks.termination import Termination
from posekit.callbacks.throughput import ThroughputMonitor
from posekit.callbacks.writer import PredictionWriter
from posekit.callbacks.writer3d import PredictionWriter3D

__all__ = [
    "AtomicCheckpointIO",
    "BestCheckpoint",
    "CleanInterrupt",
    "CompileNetworks",
    "LastCheckpoint",
    "ModelTable",
    "OutOfMemoryAdvice",
    "PoseTrackWriter",
    "PredictionPreview",
    "PredictionWriter",
    "PredictionWriter3D",
    "ProgressLine",
    "RecentCheckpoint",
    "ResultTable",
    "Termination",
    "ThroughputMonitor",
]
