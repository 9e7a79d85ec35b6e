"""Topics and filters a broker takes."""

from __future__ import annotations

import pytest

from pinnace.core.base.contract.topics import DEFAULT_SUBSCRIPTIONS
from pinnace.core.eventbus.names import is_filter, is_topic

TOPICS = ["a", "/", "a//b", "$hw/events/device/x/twin/update", "test/sub?q=1", "ü/b c", "x" * 65535, "/" * 199]
UNSENDABLE = ["", "nul\0", "tab\t", "del\x7f", "c1\x80", "\ud800", "\ufffe", "x" * 65536, "ü" * 32768, "/" * 200]
FILTERS = ["#", "+", "a/#", "+/+", "a/+/b", "+/user/#", "/#", "+/#"]
NO_FILTERS = ["a#", "#/a", "a/#/b", "a+", "a/+b", "##", "++", "a/b#"]


@pytest.mark.parametrize("text", TOPICS)
def test_a_topic_is_also_a_filter(text: str) -> None:
    assert is_topic(text)
    assert is_filter(text)


@pytest.mark.parametrize("text", UNSENDABLE, ids=range(len(UNSENDABLE)))
def test_neither(text: str) -> None:
    assert not is_topic(text)
    assert not is_filter(text)


@pytest.mark.parametrize("text", [*FILTERS, *(each for each in DEFAULT_SUBSCRIPTIONS if each != "SYS/dis/upload_records")])
def test_filters(text: str) -> None:
    assert is_filter(text)
    assert not is_topic(text)


@pytest.mark.parametrize("text", NO_FILTERS)
def test_wildcards_in_the_wrong_place(text: str) -> None:
    assert not is_filter(text)
    assert not is_topic(text)
