"""What a registry's 401 asks for, and how a credential is shown to it. Pure.

Source: the docker registry's token authentication specification.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pinnace.core.base.runtime import Credential

_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9!#$%&'*+.^_`|~-]*)(?=\s+[A-Za-z0-9_-]+\s*=|\s*(?:,|$))")
_PARAMETER = re.compile(r'\s*,?\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


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


def basic(credential: Credential) -> str:
    """An Authorization header."""
    return "Basic " + base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()
