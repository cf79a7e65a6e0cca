"""The z-buffer of ``posekit.geometry.rasterizer``, under the name that the renderer's modules use."""

from posekit.geometry.rasterizer import Visible, rasterize

__all__ = ["Visible", "rasterize"]
