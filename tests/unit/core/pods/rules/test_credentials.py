"""Pull secrets: reading them, and which are for an image."""

from __future__ import annotations

import base64
import json

import pytest

from pinnace.core.base.runtime import Credential
from pinnace.core.pods.images.references import parse
from pinnace.core.pods.rules.credentials import credentials_in, matching


def auth(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def test_both_kinds_of_secret() -> None:
    entries = {"registry.example:5000": {"username": "u", "password": "p:w"}, "https://index.docker.io/v1/": {"auth": auth("v", "q:r")}}
    expected = [Credential("registry.example:5000", "u", "p:w"), Credential("docker.io", "v", "q:r")]
    assert credentials_in({".dockerconfigjson": json.dumps({"auths": entries}).encode()}) == expected
    assert credentials_in({".dockercfg": json.dumps(entries).encode()}) == expected


def test_an_identity_token() -> None:
    given = {".dockercfg": json.dumps({"r.example": {"identitytoken": "t"}}).encode()}
    assert credentials_in(given) == [Credential("r.example", identity_token="t")]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"password": b"hush"},
        {".dockerconfigjson": b"hush"},
        {".dockerconfigjson": b'["hush"]'},
        {".dockerconfigjson": b'{"auths": "hush"}'},
        {".dockercfg": b'{"r.example": {"auth": "hush!"}}'},
        {".dockercfg": b'{"r.example": {"auth": "/////w=="}}'},
    ],
)
def test_what_is_wrong_is_said_without_the_secret(data: dict[str, bytes]) -> None:
    with pytest.raises(ValueError) as caught:
        credentials_in(data)
    assert "hush" not in str(caught.value)
    assert "hush" not in repr(caught.value.__context__ and caught.value.__suppress_context__)


def test_a_credential_does_not_show_itself() -> None:
    assert "hush" not in repr(Credential("r.example", "u", "hush", "hush"))


@pytest.mark.parametrize(
    ("server", "image", "fits"),
    [
        ("docker.io", "busybox", True),
        ("https://index.docker.io/v1/", "docker.io/library/busybox:1", True),
        ("registry-1.docker.io", "busybox", True),
        ("docker.io/library", "busybox", True),
        ("docker.io/team", "busybox", False),
        ("docker.io/team", "team/app:1", True),
        ("docker.io", "ghcr.io/a/b", False),
        ("ghcr.io", "busybox", False),
        ("r.example", "r.example/app", True),
        ("R.Example", "r.example/app", True),
        ("r.example", "other.example/app", False),
        ("https://r.example", "r.example/app", True),
        ("r.example", "r.example:5000/app", False),
        ("r.example:5000", "r.example:5000/app:1@sha256:" + 64 * "0", True),
        ("localhost", "localhost/app", True),
        ("r.example/team", "r.example/team/app", True),
        ("r.example/team", "r.example/team", True),
        ("r.example/team", "r.example/teams/app", False),
        ("r.example/team", "r.example/other/app", False),
        ("r.example/team/app", "r.example/team/app:tag", True),
        ("*.example", "r.example/app", True),
        ("*.example", "a.r.example/app", False),
        ("*.example", "r.example.evil/app", False),
        ("*.r.example/team", "a.r.example/team/app", True),
        ("http://r.example/v2/", "r.example/app", True),
        ("r.example", "evil.example/r.example/app", False),
        ("", "any.example/app", True),
    ],
)
def test_matching(server: str, image: str, fits: bool) -> None:
    secret = {".dockercfg": json.dumps({server: {"username": "u", "password": "p"}}).encode()}
    name = parse(image)
    for given in (credentials_in(secret), [Credential(server, "u", "p")]):
        assert [each.username for each in matching(given, name.registry, name.repository)] == (["u"] if fits else [])


def test_the_most_particular_comes_first() -> None:
    given = [Credential("r.example", "a"), Credential("", "d"), Credential("r.example/team/app", "c"), Credential("r.example/team", "b")]
    assert [each.username for each in matching(given, "r.example", "team/app")] == ["c", "b", "a", "d"]


def test_a_mirror_gets_only_what_names_it() -> None:
    anybody, own, mirrors = Credential("", "a"), Credential("docker.io", "b"), Credential("mirror.example", "c")
    assert matching([anybody, own, mirrors], "mirror.example", "a", is_mirror=True) == [mirrors]
