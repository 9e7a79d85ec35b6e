"""Names of images: made whole as docker does it, or refused with the reason Kubernetes has for that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.core.base.runtime import PullFailed
from pinnace.core.pods.images.references import image_id, parse

DIGEST = "sha256:" + "a1" * 32


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("team/app", "docker.io/team/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox:latest"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a:1", "localhost:5000/a:1"),
        ("registry.example/a/b/c:v1", "registry.example/a/b/c:v1"),
        ("registry.example:5000/a", "registry.example:5000/a:latest"),
        ("Registry/a", "Registry/a:latest"),
        ("10.0.0.7:5000/a", "10.0.0.7:5000/a:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
        (f"busybox:1@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
        ("a/b__c/d-e--f/g.h", "docker.io/a/b__c/d-e--f/g.h:latest"),
        ("jiulongzaitian/traffic-light:v1.1", "docker.io/jiulongzaitian/traffic-light:v1.1"),
    ],
)
def test_a_name_is_made_whole(text: str, whole: str) -> None:
    assert str(parse(text)) == whole
    assert str(parse(whole)) == whole


def test_a_digest_beside_a_tag_wins_and_the_tag_is_kept() -> None:
    found = parse(f"busybox:1@{DIGEST}")
    assert (found.tag, found.digest, found.version) == ("1", DIGEST, DIGEST)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "Busybox", "a b", "busybox:", "busybox:-1", "busybox@", "busybox@sha256:12", "busybox@md5:" + "0" * 32, "/a", "a//b", "a/",
        "-a", "a-", "a..b", "a:b:c", "http://host/a", "host:port/a", "host:123456/a", "a" * 256, "a" * 64, "b" + "0" * 63,
        "registry.example/", "../a", "a/../b", "bad_host.example/a", "ä", "a\n", "a\0", "busybox:" + "1" * 129,
        f"busybox@{DIGEST}@{DIGEST}",
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(PullFailed, match="correct the pod's image") as caught:
        parse(text)
    assert caught.value.reason == "InvalidImageName"
    assert not caught.value.is_unreachable


@given(st.text(alphabet="abAB01._-/:@[]% \n", max_size=40))
def test_a_name_is_refused_or_settled(text: str) -> None:
    """What is accepted is the same when it is read again, and fits into the path of an address."""
    try:
        found = parse(text)
    except PullFailed:
        return
    assert str(parse(str(found))) == str(found)
    assert ".." not in found.repository.split("/")
    assert not set(found.repository) & set(" \n%@[]")


def test_an_id_is_no_name() -> None:
    assert image_id("a1" * 32) == DIGEST
    assert image_id(DIGEST) == DIGEST
    assert image_id("busybox") == ""
    assert image_id("A1" * 32) == ""
