from typing import Any

import pytest

from tests.figures.made_up import metrics


@pytest.fixture(scope="session")
def results() -> dict[str, dict[str, Any]]:
    """A made-up metrics.json."""
    return metrics()
