"""Tables: a paper's table as one YAML, its cells run and kept one by one, shown beside the paper's numbers."""

from posekit.tables.reader import find_table, load_table, shipped_tables
from posekit.tables.spec import TableSpec

__all__ = ["TableSpec", "find_table", "load_table", "shipped_tables"]
