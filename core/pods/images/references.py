"""What an image is called: names, tags and digests as docker's reference grammar has them, made whole and compared whole."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pinnace.core.base.runtime import PullFailed

HUB: Final = "docker.io"
LATEST: Final = "latest"

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")
_ID = re.compile(r"(?:sha256:)?([a-f0-9]{64})")
_LONGEST = 255


@dataclass(frozen=True, slots=True)
class Reference:
    """An image in a registry. With a digest the tag says nothing."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.repository}"

    @property
    def version(self) -> str:
        """What a registry is asked for."""
        return self.digest or self.tag

    def with_digest(self, digest: str) -> str:
        return f"{self.name}@{digest}"

    def __str__(self) -> str:
        return self.with_digest(self.digest) if self.digest else f"{self.name}:{self.tag}"


def parse(text: str) -> Reference:
    """`busybox` is docker.io/library/busybox:latest. Raises PullFailed(reason="InvalidImageName")."""
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _invalid(text, "behind @ it needs sha256: and 64 digits of 0-9a-f")
    tag = ""
    if ":" in rest.rsplit("/", 1)[-1]:
        rest, _, tag = rest.rpartition(":")
        if not _TAG.fullmatch(tag):
            raise _invalid(text, "a tag is up to 128 letters, digits, '_', '.' and '-', and begins with none of the last two")
    registry, repository = _split(rest)
    if not _REGISTRY.fullmatch(registry):
        raise _invalid(text, f"'{registry}' is no registry; it needs a host name or address, with :port if need be")
    if not _REPOSITORY.fullmatch(repository):
        wrong = "capital letters are not allowed" if repository.lower() != repository else "allowed are a-z and 0-9, and . _ - between them"
        raise _invalid(text, f"'{repository}' is no name of an image: {wrong}")
    if len(registry) + 1 + len(repository) > _LONGEST:
        raise _invalid(text, f"it is longer than {_LONGEST} characters")
    if not at and registry == HUB and _ID.fullmatch(rest):
        raise _invalid(text, "64 hexadecimal digits are an image's id, which no registry knows")
    return Reference(registry, repository, tag or ("" if at else LATEST), digest)


def _split(name: str) -> tuple[str, str]:
    """The registry, docker.io where none is given, and the repository in it."""
    first, slash, rest = name.partition("/")
    if not slash or not (first == "localhost" or any(each in first for each in ".:") or first.lower() != first):
        first, rest = HUB, name
    if first in (HUB, "index.docker.io", "registry-1.docker.io"):
        return HUB, rest if "/" in rest or not rest else f"library/{rest}"
    return first, rest


def image_id(text: str) -> str:
    """`sha256:...` when the text is an image's id, with or without its prefix; "" when it is a name."""
    found = _ID.fullmatch(text)
    return f"sha256:{found[1]}" if found else ""


def _invalid(text: str, why: str) -> PullFailed:
    return PullFailed(f"'{text}' is no image name: {why}; correct the pod's image", reason="InvalidImageName")
