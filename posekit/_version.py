"""The version, in one place that needs no imports to read."""

__version__ = "0.1.0"
