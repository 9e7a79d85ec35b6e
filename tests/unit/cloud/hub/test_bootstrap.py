"""The token bucket of failed attempts."""

from __future__ import annotations

from fakes.clock import FakeClock

from pinnace.cloud.hub.bootstrap import ADDRESSES, Attempts


async def test_failures_are_spent_and_come_back() -> None:
    clock = FakeClock()
    attempts = Attempts(clock, burst=3, per_second=1.0)
    for _ in range(3):
        assert not attempts.are_spent("a")
        attempts.failed("a")
    assert attempts.are_spent("a")
    assert not attempts.are_spent("b")
    await clock.advance(1)
    assert not attempts.are_spent("a")
    attempts.failed("a")
    assert attempts.are_spent("a")
    await clock.advance(100)
    for _ in range(3):
        assert not attempts.are_spent("a")
        attempts.failed("a")
    assert attempts.are_spent("a")


async def test_remembers_a_bounded_number_of_addresses() -> None:
    attempts = Attempts(FakeClock(), burst=1)
    attempts.failed("first")
    for number in range(ADDRESSES):
        attempts.failed(str(number))
    assert not attempts.are_spent("first")
    assert attempts.are_spent("0")
