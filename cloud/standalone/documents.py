"""The fixed documents: version, health, OpenAPI, token keys."""

from __future__ import annotations

import gzip
import hashlib
import platform
from typing import Any

from pinnace.cloud.standalone import openapi
from pinnace.cloud.standalone.negotiation import rendered
from pinnace.cloud.standalone.registry import Registry
from pinnace.cloud.standalone.requests import Answer, Request, split
from pinnace.cloud.standalone.status import ApiError, PlainError, method_not_allowed
from pinnace.cloud.standalone.tokens import ISSUER, Tokens

MAJOR, MINOR, PATCH = "1", "36", "2"
OPENAPI_V2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_TEXT = "text/plain; charset=utf-8"
_PLAIN = {"X-Content-Type-Options": "nosniff"}


class Documents:
    """Answers what is neither discovery nor a resource."""

    def __init__(self, registry: Registry, tokens: Tokens, address: str) -> None:
        self._registry = registry
        self._tokens = tokens
        self._address = address
        self._revision = ""
        self._v2 = b""
        self._v3: dict[str, Any] = {}

    def answer(self, request: Request) -> Answer | None:
        parts = split(request.path)
        if parts[:1] in (["healthz"], ["livez"], ["readyz"]):
            return _health(request, parts)
        match parts:
            case []:
                return rendered(request, {"paths": self._paths()})
            case ["version"]:
                return rendered(request, version())
            case ["openapi", "v2"]:
                return self._openapi_v2(request)
            case ["openapi", "v3"]:
                self._refresh()
                return rendered(request, self._v3)
            case ["openapi", "v3", *rest]:
                return self._openapi_v3(request, "/".join(rest))
            case [".well-known", "openid-configuration"]:
                return rendered(request, {
                    "issuer": ISSUER, "jwks_uri": f"https://{self._address}/openid/v1/jwks", "response_types_supported": ["id_token"],
                    "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"],
                })  # fmt: skip
            case ["openid", "v1", "jwks"]:
                return rendered(request, self._tokens.keys())
            case _:
                return None

    def _paths(self) -> list[str]:
        groups = self._registry.groups()
        listed = [
            path for group, versions in groups.items() for path in (f"/apis/{group}", *(f"/apis/{group}/{each}" for each in versions))
        ]
        return sorted(["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version", *listed])

    def _refresh(self) -> None:
        """Make the OpenAPI documents anew when what is served has changed."""
        if self._revision != self._registry.revision:
            kinds = self._registry.kinds()
            self._v2, self._v3 = openapi.v2(kinds), openapi.v3_index(kinds)
            self._revision = self._registry.revision

    def _openapi_v2(self, request: Request) -> Answer:
        if request.method != "GET":
            raise method_not_allowed()
        accept = request.headers.get("accept", "")
        if accept and "openapi.spec.v2" not in accept and "*/*" not in accept:
            raise ApiError(406, "OpenAPI v2 is served as application/com.github.proto-openapi.spec.v2@v1.0+protobuf only")
        self._refresh()
        headers = {"ETag": f'"{hashlib.sha256(self._v2).hexdigest().upper()}"', "Vary": "Accept, Accept-Encoding"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Answer(304, content_type=OPENAPI_V2, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Answer(200, gzip.compress(self._v2, 1), OPENAPI_V2, headers | {"Content-Encoding": "gzip"})
        return Answer(200, self._v2, OPENAPI_V2, headers)

    def _openapi_v3(self, request: Request, name: str) -> Answer:
        group, version = ("", name.removeprefix("api/")) if name.startswith("api/") else name.removeprefix("apis/").partition("/")[::2]
        kinds = self._registry.in_version(group, version)
        if not kinds:
            raise PlainError()
        answer = rendered(request, openapi.v3(kinds, f"{group}/{version}" if group else version))
        if request.query.get("hash"):
            answer.headers["Cache-Control"] = "public, immutable"
        return answer


def version() -> dict[str, str]:
    """What `kubectl version` shows. The numbers are those of the Kubernetes API this server follows."""
    machine = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}.get(platform.machine(), platform.machine())
    return {
        "major": MAJOR, "minor": MINOR, "gitVersion": f"v{MAJOR}.{MINOR}.{PATCH}+pinnace", "gitCommit": "", "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "cpython", "platform": f"linux/{machine}",
    }  # fmt: skip


def _health(request: Request, parts: list[str]) -> Answer:
    checks = ("ping", "store")
    if len(parts) > 1 and parts[1] not in checks:
        raise PlainError()
    if "verbose" in request.query:
        text = "".join(f"[+]{check} ok\n" for check in checks) + f"{parts[0]} check passed\n"
        return Answer(200, text.encode(), _TEXT, dict(_PLAIN))
    return Answer(200, b"ok", _TEXT, dict(_PLAIN))
