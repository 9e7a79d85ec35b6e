"""Which pull secret is for which registry, and what a registry's 401 asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.core.base.runtime import Credential
from pinnace.core.pods.images.auth import Challenge, challenges, fitting


@pytest.mark.parametrize(
    ("server", "host", "repository", "fits"),
    [
        ("", "registry.example", "a", True),
        ("registry.example", "registry.example", "a", True),
        ("registry.example", "other.example", "a", False),
        ("registry.example:5000", "registry.example:5000", "a", True),
        ("registry.example", "registry.example:5000", "a", False),
        ("https://registry.example", "registry.example", "a", True),
        ("https://registry.example/v2/", "registry.example", "a", True),
        ("https://index.docker.io/v1/", "docker.io", "library/a", True),
        ("registry-1.docker.io", "docker.io", "library/a", True),
        ("docker.io", "docker.io", "library/a", True),
        ("*.example", "registry.example", "a", True),
        ("*.example", "a.b.example", "a", False),
        ("*.example", "registry.example.evil", "a", False),
        ("registry.example/team", "registry.example", "team/a", True),
        ("registry.example/team", "registry.example", "team", True),
        ("registry.example/team", "registry.example", "teams/a", False),
        ("registry.example/team", "registry.example", "other/a", False),
        ("REGISTRY.example", "registry.example", "a", True),
    ],
)
def test_a_secret_is_for_its_registry(server: str, host: str, repository: str, fits: bool) -> None:
    credential = Credential(server, "u", "p")
    assert fitting([credential], host, repository) == ([credential, None] if fits else [None])


def test_a_mirror_gets_only_what_names_it() -> None:
    anybody, own, mirrors = Credential("", "a"), Credential("docker.io", "b"), Credential("mirror.example", "c")
    assert fitting([anybody, own, mirrors], "mirror.example", "a", is_mirror=True) == [mirrors, None]


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
