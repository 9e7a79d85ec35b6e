"""Who may pull: which pull secret is for which registry, and what a registry's 401 asks for. Pure.

Source: the docker registry's token authentication specification; Kubernetes' documentation of image pull secrets.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pinnace.core.base.runtime import Credential
from pinnace.core.pods.images.references import HUB

_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9!#$%&'*+.^_`|~-]*)(?=\s+[A-Za-z0-9_-]+\s*=|\s*(?:,|$))")
_PARAMETER = re.compile(r'\s*,?\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_HUB_NAMES = {"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate that a WWW-Authenticate header offers; the scheme in small letters."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


def challenges(headers: Iterable[str]) -> list[Challenge]:
    """Every challenge in the values of a header that may hold several. What cannot be read is passed over."""
    found = []
    for text in headers:
        position = 0
        while (scheme := _SCHEME.match(text, position)) is not None:
            position = scheme.end()
            values: dict[str, str] = {}
            while (parameter := _PARAMETER.match(text, position)) is not None:
                quoted = parameter[2]
                values[parameter[1].lower()] = parameter[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                position = parameter.end()
            found.append(Challenge(scheme[1].lower(), values.get("realm", ""), values.get("service", ""), values.get("scope", "")))
            while position < len(text) and text[position] in ", \t":
                position += 1
    return found


def fitting(credentials: Sequence[Credential], host: str, repository: str, *, is_mirror: bool = False) -> list[Credential | None]:
    """Those to try at a registry, in order, and None for nobody at the end. One without a server is for the image's own registry only."""
    fit: list[Credential | None] = [
        each for each in credentials if (_is_for(each.server, host, repository) if each.server else not is_mirror)
    ]
    return [*fit, None]


def _is_for(server: str, host: str, repository: str) -> bool:
    """A pull secret's server is a host, may be an address with https:// and /v1/, may go on with a path and have * in parts of the host."""
    bare = server.partition("://")[2] or server
    name, _, path = bare.partition("/")
    path = path.strip("/")
    if path in ("v1", "v2", "v1/users"):
        path = ""
    name, host = (HUB if each in _HUB_NAMES else each.lower() for each in (name, host))
    wanted, given = name.split("."), host.split(".")
    if len(wanted) != len(given) or not all(fnmatchcase(one, pattern) for one, pattern in zip(given, wanted, strict=True)):
        return False
    return not path or repository == path or repository.startswith(path + "/")


def basic(credential: Credential) -> str:
    """An Authorization header."""
    return "Basic " + base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()
