"""What waits for a broker."""

from __future__ import annotations

import pytest

from pinnace.core.eventbus.pending import Publications


def drained(waiting: Publications) -> list[str]:
    return [waiting.take()[0] for _ in range(len(waiting))]


def test_first_in_first_out() -> None:
    waiting = Publications("x")
    for topic in "abc":
        waiting.put(topic, b"")
    assert len(waiting) == 3
    assert drained(waiting) == ["a", "b", "c"]
    with pytest.raises(IndexError):
        waiting.take()


def test_the_oldest_goes_beyond_the_number(caplog: pytest.LogCaptureFixture) -> None:
    waiting = Publications("x", bound=3)
    for topic in "abcdef":
        waiting.put(topic, b"")
    assert waiting.dropped == 3
    assert drained(waiting) == ["d", "e", "f"]
    assert [record.getMessage().split(" ")[0] for record in caplog.records] == ["mqtt.queue-full", "mqtt.queue-drained"]


def test_each_burst_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    waiting = Publications("x", bound=1)
    for _ in range(2):
        for topic in "abc":
            waiting.put(topic, b"")
        drained(waiting)
    assert [record.getMessage() for record in caplog.records if "drained" in record.getMessage()] == [
        "mqtt.queue-drained server=x dropped=2"
    ] * 2


def test_the_oldest_goes_beyond_the_bytes() -> None:
    waiting = Publications("x", bytes_bound=100)
    for number in range(10):
        waiting.put(str(number), b"x" * 32)
    assert drained(waiting) == ["7", "8", "9"]


def test_one_that_is_larger_than_the_bound_is_kept_alone() -> None:
    waiting = Publications("x", bytes_bound=100)
    waiting.put("small", b"")
    waiting.put("large", b"x" * 1000)
    assert drained(waiting) == ["large"]
    for number in range(10):  # its bytes are not counted any more
        waiting.put(str(number), b"x" * 5)
    assert len(waiting) == 10
