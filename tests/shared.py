"""Where the original model files and road scenes lie, for the tests that need them."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"needs the original files of the SegNet tutorial in {SHARED}, which are not there"
)
