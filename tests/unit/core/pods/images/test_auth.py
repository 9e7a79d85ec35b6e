"""What a registry's 401 asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.core.pods.images.auth import Challenge, challenges


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (
            'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull"',
            [Challenge("bearer", "https://auth.example/token", "registry.example", "repository:a/b:pull")],
        ),
        ('Basic realm="x, y"', [Challenge("basic", "x, y")]),
        ("Basic realm=plain", [Challenge("basic", "plain")]),
        ("Basic", [Challenge("basic")]),
        ('Basic realm="a", Bearer realm="b"', [Challenge("basic", "a"), Challenge("bearer", "b")]),
        ('BEARER Realm = "b" , Service = "c"', [Challenge("bearer", "b", "c")]),
        (r'Basic realm="say \"hi\""', [Challenge("basic", 'say "hi"')]),
        ("", []),
        ("=;=", []),
    ],
)
def test_challenges(header: str, found: list[Challenge]) -> None:
    assert challenges([header]) == found


@given(st.lists(st.text(alphabet='Bearsic rlm="x\\,', max_size=60), max_size=3))
def test_any_header_is_read_to_its_end(headers: list[str]) -> None:
    assert all(each.scheme == each.scheme.lower() for each in challenges(headers))
