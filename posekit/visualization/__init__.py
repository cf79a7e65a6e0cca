"""Drawing of people on pictures; no window and no GL needed."""

from posekit.visualization.draw import contact_sheet, draw_heatmap, draw_people, enlarge

__all__ = ["contact_sheet", "draw_heatmap", "draw_people", "enlarge"]
