"""Where the project's shared folder is; tests of recorded numbers are skipped where it is absent."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[1] / ".." / "shared"
requires_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared folder of recorded numbers is absent")
