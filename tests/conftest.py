"""Fixtures shared by the tests."""

import os
from pathlib import Path

import pytest

from difcore.files import PROJECT_DIR


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with photos/, sd1/, dif_official/ and the other image sets; skips the test where there is none."""
    folder = Path(os.environ.get("DIFCORE_DATA") or PROJECT_DIR.parent / "shared" / "data")
    if not (folder / "photos").is_dir():
        pytest.skip("needs the shared image sets: neither DIFCORE_DATA nor ../shared/data holds photos/")
    return folder
