"""The `KubeApi` port over HTTP. Bodies are bytes in and dicts out (orjson); nothing is modelled, so nothing is lost on the way."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import random
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import orjson

from pinnace.cloud.kube.access import Access
from pinnace.cloud.ports import KubeApi, Object, Patch, Resource, WatchEvent
from pinnace.core.base.errors import LinkError, RemoteError

logger = logging.getLogger(__name__)

PAGE = 500
"""Objects of one page of a list."""
REQUEST_SECONDS = 30.0
WATCH_SECONDS = 290
"""How long a watch is asked to last, at least; up to a third is added so that watches do not end together."""
CONNECTIONS = 100
_PROBES = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
"""Seconds of quiet before a connection is probed, seconds between probes, and how many unanswered ones end it."""
_JSON = "application/json"


class ApiFailure(RemoteError):
    """A RemoteError with the whole Status (meta/v1) the server sent."""

    def __init__(self, status: Object) -> None:
        code = status.get("code")
        super().__init__(
            str(status.get("message") or "the API server gave no reason"),
            reason=str(status.get("reason") or ""),
            code=code if isinstance(code, int) else 500,
        )
        self.status = status


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """aiohttp's and the system's errors as LinkError."""
    try:
        yield
    except (aiohttp.ClientError, OSError, ssl.SSLError, TimeoutError) as error:
        raise LinkError(f"{what}: the Kubernetes API cannot be reached: {str(error) or type(error).__name__}") from error


def status_of(code: int, body: bytes) -> Object:
    """The Status in an answer; one is made up for an answer that is none (a proxy's page, plain text)."""
    with contextlib.suppress(orjson.JSONDecodeError):
        decoded = orjson.loads(body)
        if isinstance(decoded, dict) and decoded.get("kind") == "Status":
            decoded.setdefault("code", code)
            return decoded
    text = body[:256].decode(errors="replace").strip()
    reason = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired"}.get(code, "")
    return {"metadata": {}, "status": "Failure", "message": text or f"HTTP {code}", "reason": reason, "code": code}


def path_of(resource: Resource, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """The URL path of an object or a collection; of every namespace with namespace ""."""
    parts = ["/apis", resource.group, resource.version] if resource.group else ["/api", resource.version]
    if namespace and resource.namespaced:
        parts += ["namespaces", quote(namespace, safe="")]
    parts.append(resource.plural)
    if name:
        parts.append(quote(name, safe=""))
    if subresource:
        parts.append(subresource)
    return "/".join(parts)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _watched_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket that notices when the other machine is gone without a word: a quiet watch would wait for minutes on it."""
    family, kind, proto = address[:3]
    made = socket.socket(family, kind, proto)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _PROBES:
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


class HttpKubeApi:
    """Implements `ports.KubeApi` on one pool of kept-alive connections. Use it as an asynchronous context."""

    def __init__(self, access: Access, *, user_agent: str = "pinnace-cloudcore") -> None:
        self._access = access
        self._agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HttpKubeApi:
        self._session = aiohttp.ClientSession(
            self._access.url,
            connector=aiohttp.TCPConnector(
                limit=CONNECTIONS, keepalive_timeout=60, ssl=self._access.context or True, socket_factory=_watched_socket
            ),
            headers={"Accept": _JSON, "User-Agent": self._agent},
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
            auto_decompress=True,
            trust_env=not self._access.proxy and not _is_loopback(self._access.url),  # as Go's programs do
            read_bufsize=1 << 20,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, resource: Resource, name: str, namespace: str = "", *, subresource: str = "") -> Object:
        return await self._ask("GET", path_of(resource, namespace, name, subresource))

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> tuple[list[Object], str]:
        path = path_of(resource, namespace)
        query: dict[str, str] = {"limit": str(PAGE)}
        if label_selector:
            query["labelSelector"] = label_selector
        if field_selector:
            query["fieldSelector"] = field_selector
        items: list[Object] = []
        while True:
            page = await self._ask("GET", path, query=query)
            for item in page.get("items") or ():
                item.setdefault("apiVersion", resource.api_version)
                item.setdefault("kind", resource.kind)
                items.append(item)
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return items, str(metadata.get("resourceVersion", ""))
            query["continue"] = metadata["continue"]

    async def watch(
        self, resource: Resource, namespace: str = "", *, resource_version: str, label_selector: str = ""
    ) -> AsyncIterator[WatchEvent]:
        seconds = int(WATCH_SECONDS * (1 + random.random() / 3))  # noqa: S311 - spread, not secrecy
        query = {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": resource_version, "timeoutSeconds": str(seconds)}
        if label_selector:
            query["labelSelector"] = label_selector
        path = path_of(resource, namespace)
        timeout = aiohttp.ClientTimeout(total=seconds + REQUEST_SECONDS, sock_connect=REQUEST_SECONDS)
        with _translated(f"watch {path}"):
            async with self._request("GET", path, query=query, headers=await self._headers(), timeout=timeout) as response:
                if response.status != 200:
                    raise ApiFailure(status_of(response.status, await response.read()))
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n") if rest else chunk.split(b"\n")
                    for line in lines:
                        if line:
                            yield _event(line)

    async def create(self, resource: Resource, body: Object, namespace: str = "", *, name: str = "", subresource: str = "") -> Object:
        return await self._ask("POST", path_of(resource, namespace, name, subresource), body)

    async def replace(self, resource: Resource, body: Object, name: str, namespace: str = "", *, subresource: str = "") -> Object:
        return await self._ask("PUT", path_of(resource, namespace, name, subresource), body)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Patch,
        namespace: str = "",
        *,
        content_type: str = "application/merge-patch+json",
        subresource: str = "",
    ) -> Object:
        return await self._ask("PATCH", path_of(resource, namespace, name, subresource), patch, content_type=content_type)

    async def delete(self, resource: Resource, name: str, namespace: str = "", *, body: Object | None = None) -> Object:
        return await self._ask("DELETE", path_of(resource, namespace, name), body)

    async def _headers(self, content_type: str = "") -> dict[str, str]:
        headers = {"Content-Type": content_type} if content_type else {}
        authorization = await self._access.authorize()
        if authorization:
            headers["Authorization"] = authorization
        return headers

    def _request(self, method: str, path: str, **more: Any) -> Any:
        assert self._session is not None, "the API is used outside its context"
        query: Mapping[str, str] = more.pop("query", None) or {}
        if self._access.proxy:
            more["proxy"] = self._access.proxy
        if self._access.server_name:
            more["server_hostname"] = self._access.server_name
        return self._session.request(method, path, params=query, **more)

    async def _ask(
        self, method: str, path: str, body: Any = None, *, query: Mapping[str, str] | None = None, content_type: str = _JSON
    ) -> Object:
        sent = body if isinstance(body, bytes) or body is None else orjson.dumps(body)
        headers = await self._headers(content_type if sent is not None else "")
        with _translated(f"{method} {path}"):
            async with self._request(method, path, query=query, headers=headers, data=sent) as response:
                answer = await response.read()
                code = response.status
        if code >= 400:
            raise ApiFailure(status_of(code, answer))
        try:
            decoded: Object = orjson.loads(answer)
        except orjson.JSONDecodeError as error:
            raise LinkError(f"{method} {path}: answered {code} with no JSON; is {self._access.url} a Kubernetes API?") from error
        return decoded


def _event(line: bytes) -> WatchEvent:
    try:
        decoded = orjson.loads(line)
        event = WatchEvent(decoded["type"], decoded["object"])
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise LinkError(f"a watch sent something that is no event: {line[:128]!r}") from error
    if event.type == "ERROR":
        raise ApiFailure(event.object)
    return event


async def wait_until_served(api: KubeApi, resource: Resource, *, timeout_seconds: float = 30.0) -> None:
    """Return when the API serves a kind (a definition becomes a resource a moment after it is created). Raises LinkError."""
    try:
        async with asyncio.timeout(timeout_seconds):
            while True:
                with contextlib.suppress(RemoteError):
                    await api.list(resource, field_selector="metadata.name=none")
                    return
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        what = f"{resource.plural}.{resource.group} {resource.version}"
        raise LinkError(f"the API does not serve {what} after {timeout_seconds:g} s") from error
