"""Join tokens: `<sha256 of the CA's DER>.<JWT, HS256 with the CA key's bytes>` (docs/protocol.md, Joining; RFC 7519).

Refusals are worded as KubeEdge's cloudcore words them, because its tools print them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Any, Final

import orjson

from pinnace.core.base.errors import RefusedError

_HEADER: Final = b'{"alg":"HS256","typ":"JWT"}'
_LIMIT: Final = 4096


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _signature(signed: bytes, key: bytes) -> bytes:
    return hmac.digest(key, signed, "sha256")


def mint(ca_der: bytes, key: bytes, expires: int) -> str:
    """A join token that is good until `expires` (Unix seconds). `key` is the CA key exactly as stored."""
    signed = _encode(_HEADER) + b"." + _encode(orjson.dumps({"exp": expires}))
    return f"{hashlib.sha256(ca_der).hexdigest()}.{(signed + b'.' + _encode(_signature(signed, key))).decode()}"


def check_authorization(header: str, key: bytes, now: float) -> None:
    """Accept an Authorization header's value ("" when absent) or raise RefusedError with the text of the answer."""
    if not header:
        raise RefusedError("token is empty")
    words = header.split(" ")
    if len(words) != 2:
        raise RefusedError("token cannot be split")
    try:
        check(words[1], key, now)
    except RefusedError as error:
        raise RefusedError(f"err: {error}") from error


def check(jwt: str, key: bytes, now: float) -> None:
    """Accept the JWT part of a token or raise RefusedError. No leeway: a token is expired from the second it names."""
    parts = jwt.encode().split(b".") if len(jwt) <= _LIMIT else []
    if len(parts) != 3:
        raise RefusedError("token is malformed: token contains an invalid number of segments")
    header = _segment(parts[0], "header")
    claims = _segment(parts[1], "claims")
    if header.get("alg") != "HS256":
        raise RefusedError("token signature is invalid: only HS256 is accepted")
    try:
        signature = _decode(parts[2])
    except (binascii.Error, ValueError) as error:
        raise RefusedError("token is malformed: could not base64 decode signature") from error
    if not hmac.compare_digest(signature, _signature(parts[0] + b"." + parts[1], key)):
        raise RefusedError("token signature is invalid: signature is invalid")
    expires = claims.get("exp")
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        raise RefusedError("token has invalid claims: token is missing required claim: exp claim is required")
    if now >= expires:
        raise RefusedError("token has invalid claims: token is expired")


def expiry(token: str) -> float:
    """When a whole join token of our own expires, in Unix seconds; 0 for what is no token."""
    parts = token.encode().split(b".")
    if len(parts) != 4:
        return 0.0
    try:
        expires = _segment(parts[2], "claims").get("exp")
    except RefusedError:
        return 0.0
    return float(expires) if isinstance(expires, int | float) else 0.0


def _segment(text: bytes, name: str) -> dict[str, Any]:
    try:
        value = orjson.loads(_decode(text))
    except (binascii.Error, ValueError) as error:
        raise RefusedError(f"token is malformed: could not decode {name}") from error
    if not isinstance(value, dict):
        raise RefusedError(f"token is malformed: could not decode {name}")
    return value
