"""Service-account tokens: JSON Web Tokens signed with ES256 (RFC 7515, 7518; claims as Kubernetes' bound tokens have them)."""

from __future__ import annotations

import base64
import hashlib
import time
import uuid
from collections import OrderedDict
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from pinnace.cloud.standalone.requests import User
from pinnace.cloud.standalone.state import Object, State

ISSUER = "https://kubernetes.default.svc.cluster.local"
AUDIENCES = (ISSUER, "https://kubernetes.default.svc")
MAX_TOKEN = 8192
CACHED = 1024


class TokenError(Exception):
    """Why a token is not accepted; the text is safe to show."""


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Tokens:
    """Signs tokens and says whom one speaks for. A token ends with its account, its pod, or its time."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, state: State) -> None:
        self._key = key
        self._public = key.public_key()
        self._state = state
        numbers = self._public.public_numbers()
        self._x, self._y = (_encode(each.to_bytes(32, "big")) for each in (numbers.x, numbers.y))
        self._id = _encode(hashlib.sha256(f"{self._x}.{self._y}".encode()).digest()[:20])
        self._known: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def keys(self) -> Object:
        """The JSON Web Key Set (RFC 7517) that verifies the tokens."""
        return {"keys": [{"use": "sig", "kty": "EC", "kid": self._id, "crv": "P-256", "alg": "ES256", "x": self._x, "y": self._y}]}

    def sign(self, account: Object, audiences: list[str], seconds: int, pod: Object | None) -> tuple[str, float]:
        """A token for a ServiceAccount object, and when it ends (Unix seconds)."""
        metadata = account["metadata"]
        now = int(time.time())
        bound: Object = {"namespace": metadata["namespace"], "serviceaccount": {"name": metadata["name"], "uid": metadata["uid"]}}
        if pod is not None:
            bound["pod"] = {"name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        claims = {
            "aud": audiences,
            "exp": now + seconds,
            "iat": now,
            "iss": ISSUER,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": bound,
            "nbf": now,
            "sub": f"system:serviceaccount:{metadata['namespace']}:{metadata['name']}",
        }
        header = _encode(orjson.dumps({"alg": "ES256", "kid": self._id, "typ": "JWT"}))
        signed = f"{header}.{_encode(orjson.dumps(claims))}"
        r, s = utils.decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}", now + seconds

    def verify(self, token: str, audiences: list[str] | None = None) -> tuple[User, list[str]]:
        """Whom the token speaks for, and which of the wanted audiences it is for. Raises TokenError."""
        claims = self._claims(token)
        now = time.time()
        if now >= claims.get("exp", 0):
            raise TokenError("the token has expired; ask for a new one")
        if now + 60 < claims.get("nbf", 0):
            raise TokenError("the token is not valid yet; compare the clocks")
        accepted = [each for each in (audiences or AUDIENCES) if each in claims.get("aud", [])]
        if claims.get("iss") != ISSUER or not accepted:
            raise TokenError("the token is for another audience")
        bound = claims["kubernetes.io"]
        namespace, account = bound["namespace"], bound["serviceaccount"]
        found = self._state.table("serviceaccounts").get(namespace, account["name"])
        if found is None or found.uid != account["uid"]:
            raise TokenError("the token's service account is gone")
        extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims['jti']}"]}
        if "pod" in bound:
            pod = self._state.table("pods").get(namespace, bound["pod"]["name"])
            if pod is None or pod.uid != bound["pod"]["uid"]:
                raise TokenError("the token's pod is gone")
            extra["authentication.kubernetes.io/pod-name"] = [bound["pod"]["name"]]
            extra["authentication.kubernetes.io/pod-uid"] = [bound["pod"]["uid"]]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return User(f"system:serviceaccount:{namespace}:{account['name']}", groups, account["uid"], extra), accepted

    def _claims(self, token: str) -> dict[str, Any]:
        """The claims of a token with a good signature; these are remembered, by hash."""
        if len(token) > MAX_TOKEN:
            raise TokenError("the token is too long")
        digest = hashlib.sha256(token.encode()).hexdigest()
        known = self._known.get(digest)
        if known is not None:
            return known
        try:
            signed, _, signature = token.rpartition(".")
            header, _, payload = signed.partition(".")
            raw = _decode(signature)
            if orjson.loads(_decode(header)).get("alg") != "ES256" or len(raw) != 64:
                raise TokenError("the token is not one of this server")
            dss = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
            self._public.verify(dss, signed.encode(), ec.ECDSA(hashes.SHA256()))
            claims: dict[str, Any] = orjson.loads(_decode(payload))
        except (ValueError, AttributeError, InvalidSignature, UnicodeError) as error:
            raise TokenError("the token is not one of this server") from error
        self._known[digest] = claims
        if len(self._known) > CACHED:
            self._known.popitem(last=False)
        return claims
