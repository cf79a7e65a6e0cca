"""Drawing of people on pictures, in 2D and 3D; no window and no GL needed."""

from posekit.visualization.draw import (
    contact_sheet,
    draw_heatmap,
    draw_label,
    draw_people,
    enlarge,
    enlarge_boxes,
    enlargement,
)
from posekit.visualization.mesh import draw_mesh
from posekit.visualization.picture import write_picture
from posekit.visualization.pose3d import draw_pose3d, side_by_side
from posekit.visualization.tracks import TrackPainter, draw_interim, interim_figure, track_color

__all__ = [
    "TrackPainter",
    "contact_sheet",
    "draw_heatmap",
    "draw_interim",
    "draw_label",
    "draw_mesh",
    "draw_people",
    "draw_pose3d",
    "enlarge",
    "enlarge_boxes",
    "enlargement",
    "interim_figure",
    "side_by_side",
    "track_color",
    "write_picture",
]
