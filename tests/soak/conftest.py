"""The house of the end-to-end tests, for the soak."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))

from house import House  # noqa: E402


@pytest.fixture
def house():
    place = House(tempfile.mkdtemp(prefix="pws-", dir="/tmp"), Path(os.environ["PORTWRAP_PREFIX"]))
    yield place
    place.close()
