"""Models, built once for all tests of the export room."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.export.models import FAMILIES

torch.set_num_threads(1)


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def model(request: pytest.FixtureRequest) -> Any:
    """A tiny model of each family."""
    return FAMILIES[request.param]()
