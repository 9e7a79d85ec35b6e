"""Versions in the order of PEP 440."""

from __future__ import annotations

from itertools import combinations

import pytest

from pinnace.core.appliance.order import is_older

RISING = (
    "nightly", "0.1.0.dev1", "0.1.0a1.dev2", "0.1.0a1", "0.1.0a2", "0.1.0a10", "0.1.0b1", "0.1.0rc1.dev1", "0.1.0rc1", "0.1.0rc1.post1",
    "0.1.0", "0.1.0+1a", "0.1.0+a", "0.1.0+a.1", "0.1.0+2", "0.1.0+10", "0.1.0.post1.dev3", "0.1.0.post1", "0.1.0-2", "0.1.1", "0.2",
    "0.10.0", "1", "1!0.1",
)  # fmt: skip


@pytest.mark.parametrize(("older", "newer"), list(combinations(RISING, 2)))
def test_an_older_version_is_told(older: str, newer: str) -> None:
    assert is_older(older, newer)
    assert not is_older(newer, older)


@pytest.mark.parametrize(
    ("one", "other"),
    [("1.0", "1"), ("v1.0", "1.0.0"), ("1.0RC1", "1.0-c.1"), ("1.0alpha", "1.0a0"), ("1.0-1", "1.0.post1"), ("1.0+ab_1", "1.0+ab.1")],
)
def test_ways_to_write_one_version(one: str, other: str) -> None:
    assert not is_older(one, other)
    assert not is_older(other, one)
