"""Delays grow, stay within bounds and start anew after a reset."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.core.base.aio.backoff import Backoff


def test_delays_double_up_to_the_limit() -> None:
    backoff = Backoff(1, 5, draw=lambda: 1.0)
    assert [backoff.next() for _ in range(5)] == [1, 2, 4, 5, 5]
    backoff.reset()
    assert backoff.next() == 1


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 20))
def test_a_delay_is_never_outside_its_step(draw: float, tries: int) -> None:
    backoff = Backoff(0.25, 4, draw=lambda: draw)
    for _ in range(tries):
        backoff.next()
    assert 0.125 <= backoff.next() <= 4


@pytest.mark.parametrize(("first", "limit"), [(0, 1), (2, 1), (-1, 1)])
def test_senseless_bounds_are_refused(first: float, limit: float) -> None:
    with pytest.raises(ValueError, match="0 < first <= limit"):
        Backoff(first, limit)
