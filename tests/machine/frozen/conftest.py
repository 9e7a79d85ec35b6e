"""Here the edge's default places are what is tested, on a machine that goes with the test."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _default_places_stay_untouched() -> None:
    """Not here."""
