"""Data modules and the batch contract."""

from posekit.data.synthetic import SyntheticPeople

__all__ = ["SyntheticPeople"]
